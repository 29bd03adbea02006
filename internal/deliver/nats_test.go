package deliver

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// bus runs a server of NATS.
func bus(t *testing.T, o *server.Options) *nats.Conn {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(o.Username, o.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestASubjectsStreamHasTheMessageOnce(t *testing.T) {
	nc := bus(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, Options{})
	m := message(nc.ConnectedUrl() + "/orders.done")
	for range 2 { // the second is the same message once more
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	info, err := stream.Info(t.Context())
	if err != nil || info.State.Msgs != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	got, err := stream.GetMsg(t.Context(), 1)
	if err != nil || string(got.Data) != string(m.Body) || got.Subject != "orders.done" || got.Header.Get("X-Lambent-Request-Id") != "r-1" || got.Header.Get("X-Lambent-Function") != m.FunctionARN {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestASubjectOfNoStreamIsPublishedTo(t *testing.T) {
	for _, o := range []*server.Options{{}, {JetStream: true, StoreDir: t.TempDir()}} {
		nc := bus(t, o)
		sub, err := nc.SubscribeSync("orders.*")
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		m := message(nc.ConnectedUrl() + "/orders.done")
		if err := newSender(t, Options{}).Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got, err := sub.NextMsg(10 * time.Second); err != nil || string(got.Data) != string(m.Body) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestWhatNATSDoesNotTakeIsAnError(t *testing.T) {
	s := newSender(t, Options{})
	closed := bus(t, &server.Options{Username: "u", Password: "p"})
	wantKind(t, s.Send(t.Context(), message("nats://"+closed.ConnectedAddr()+"/a")), lambent.KindUnavailable, "credentials")
	small := bus(t, &server.Options{MaxPayload: 8})
	wantKind(t, s.Send(t.Context(), message("nats://"+small.ConnectedAddr()+"/a")), lambent.KindInvalid, "larger")
	picky := bus(t, &server.Options{Users: []*server.User{{Username: "nobody", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"a"}}}}}, NoAuthUser: "nobody"})
	wantKind(t, s.Send(t.Context(), message("nats://"+picky.ConnectedAddr()+"/a")), lambent.KindUnavailable, "credentials")
}
