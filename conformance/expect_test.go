package conformance

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"lambent/conformance/lab"
)

// What a right answer is may be said by a predicate over it and the event.
func TestAnswersAreHeldAgainstAPredicate(t *testing.T) {
	t.Parallel()
	c := newServer(t, noPools...).Caller(t, defaultAccount)
	c.Create(t, lab.Function{Name: "echo", Runtime: "nodejs20.x", Handler: "index.handler", Zip: lab.File("index.mjs", "export const handler = async (e) => e.answer;"), Timeout: 10})
	settings := func(expect string) lab.Reply {
		return c.HTTP(t, http.MethodPut, "/_lambent/v1/functions/echo/settings", []byte(`{"expect":`+expect+`}`))
	}
	if got := settings(`{"predicate":"response.total == event.total + 1"}`); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if _, err := c.Call(t.Context(), "echo", op{"total": 6, "answer": op{"total": 7}}); err != nil {
		t.Error(err)
	}
	for answer, why := range map[string]string{`{"total":8}`: "does not hold", `{}`: "no such key: total", `7`: "predicate"} {
		failure, _ := c.Fail(t, "echo", op{"total": 6, "answer": json.RawMessage(answer)})
		if failure.Type != "Lambent.UnexpectedResult" || !strings.Contains(failure.Message, why) {
			t.Errorf("%s: the caller is told %+v", answer, failure)
		}
	}
	for _, wrong := range []string{`{"predicate":"respons.total"}`, `{"predicate":"1 + 1"}`, `{"predicate":""}`} {
		if got := settings(wrong); got.Status != http.StatusBadRequest || !strings.Contains(string(got.Body), "expect") {
			t.Errorf("%s: %d %s", wrong, got.Status, got.Body)
		}
	}
}

// A schema may lead in a circle and an answer be as large as answers are: that
// costs the one who declared it, and only him.
func TestSecurityWhatIsExpectedCannotHarmTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t, noPools...)
	attacker, other := s.Caller(t, "000000000666"), s.Caller(t, defaultAccount)
	for _, c := range []*lab.Caller{attacker, other} {
		c.Create(t, lab.Function{Name: "large", Runtime: "nodejs20.x", Handler: "index.handler", Zip: lab.File("index.mjs", `export const handler = async (e) => "a".repeat(e.n);`), Timeout: 10})
	}
	if got := other.HTTP(t, http.MethodPut, "/_lambent/v1/functions/large/settings", []byte(`{"expect":{"schema":{"type":"string"}}}`)); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	for _, expect := range []string{
		`{"schema":{"$ref":"#"}}`,
		`{"predicate":"[response + response].map(a, a.replace('', a))[0] == ''"}`,
		`{"schema":{"pattern":"^(a*)*(a*)*(a*)*b$"}}`,
	} {
		if got := attacker.HTTP(t, http.MethodPut, "/_lambent/v1/functions/large/settings", []byte(`{"expect":`+expect+`}`)); got.Status != http.StatusOK {
			t.Errorf("%s: %d %s", expect, got.Status, got.Body)
			continue
		}
		failure, _ := attacker.Fail(t, "large", op{"n": 5 << 20})
		if failure.Type != "Lambent.UnexpectedResult" {
			t.Errorf("%s: the caller is told %+v", expect, failure)
		}
		if _, err := other.Call(t.Context(), "large", op{"n": 100}); err != nil {
			t.Errorf("after %s: %v", expect, err)
		}
	}
}
