package api

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/queue"
)

type fakeBacklogs []queue.LineStats

func (f fakeBacklogs) Stats() []queue.LineStats { return f }

func TestAnAccountSeesTheEventsThatWaitForItsOwnFunctions(t *testing.T) {
	d := newDoor(t)
	d.HandleQueues(fakeBacklogs{
		{Line: queue.Line{Account: "123456789012", Function: "slow", Qualifier: "live"}, Due: 1},
		{Line: queue.Line{Account: "999999999999", Function: "theirs"}, Delayed: 4},
		{Line: queue.Line{Account: "123456789012", Function: "slow"}, Due: 40, Delayed: 2, Taken: 1, Oldest: 75 * time.Second},
	})
	const (
		latest = `{"account":"123456789012","function":"slow","qualifier":"","waiting":40,"delayed":2,"under_way":1,"oldest_seconds":75}`
		live   = `{"account":"123456789012","function":"slow","qualifier":"live","waiting":1,"delayed":0,"under_way":0,"oldest_seconds":0}`
		theirs = `{"account":"999999999999","function":"theirs","qualifier":"","waiting":0,"delayed":4,"under_way":0,"oldest_seconds":0}`
	)
	for _, c := range []struct{ query, as, want string }{
		{"", asAccount, "[" + latest + "," + live + "]\n"},
		{"", asOperator, "[" + latest + "," + live + "," + theirs + "]\n"},
		{"?function=theirs", asOperator, "[" + theirs + "]\n"},
		{"?function=theirs", asAccount, "[]\n"},
	} {
		got := d.ask(t, "/_lambent/v1/queues"+c.query, c.as)
		if diff := cmp.Diff(c.want, got.raw); diff != "" || got.status != 200 {
			t.Errorf("%q as %q: %d (-want +got):\n%s", c.query, c.as, got.status, diff)
		}
	}
	if got := d.ask(t, "/_lambent/v1/queues?functoin=slow", asAccount); got.status != 400 {
		t.Errorf("a parameter that does not exist: %d %s", got.status, got.raw)
	}
}
