package control_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/control"
)

func TestAnAnswerThatIsNotWhatIsExpectedSaysWhy(t *testing.T) {
	for _, c := range []struct{ expect, response, why string }{
		{`{"schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}}`, `{"id":7}`, ""},
		{`{"schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}}`, `{"id":"7"}`, "does not conform"},
		{`{"schema":{"type":"object","required":["id"]}}`, `null`, "does not conform"},
		{`{"schema":{"type":"object","required":["id"]}}`, ``, "does not conform"},
		{`{"schema":{"$ref":"#/$defs/a","$defs":{"a":{"const":1}}}}`, `1`, ""},
		{`{"schema":{"$ref":"#/$defs/a","$defs":{"a":{"const":1}}}}`, `2`, "does not conform"},
		{`{"schema":{"properties":{"statusCode":{"const":200}},"required":["statusCode"]}}`, `{"statusCode":200,"body":"x"}`, ""},
		{`{"schema":{"properties":{"statusCode":{"const":200}},"required":["statusCode"]}}`, `{"statusCode":500}`, "does not conform"},
		{`{"schema":{"type":"string","pattern":"^a+$"}}`, `"aaa"`, ""},
		{`{"schema":{"type":"null"}}`, ` `, ""},
		{`{"schema":true}`, `{`, "not JSON"},
		{`{"predicate":"response.total == 7"}`, `{"total":7}`, ""},
		{`{"predicate":"response.total == 7"}`, `{"total":7.0}`, ""},
		{`{"predicate":"response.total == 7"}`, `{"total":8}`, "does not hold"},
		{`{"predicate":"response.total + 1 > event.least"}`, `{"total":7}`, ""},
		{`{"predicate":"response.total > event.least + 1"}`, `{"total":6}`, "does not hold"},
		{`{"predicate":"response.all(r, r.ok) && size(response) == 2"}`, `[{"ok":true},{"ok":true}]`, ""},
		{`{"predicate":"response.all(r, r.ok)"}`, `[{"ok":true},{"ok":false}]`, "does not hold"},
		{`{"predicate":"response.total == 7"}`, `{}`, "no such key: total"},
		{`{"predicate":"response.total"}`, `{"total":"yes"}`, "does not hold"},
		{`{"predicate":"response == null"}`, ` `, ""},
		{`{"predicate":"response == null"}`, `{"total":`, "not JSON"},
		{`{"predicate":"response == 1"}`, `1 2`, "not JSON"},
		{`{"predicate":"response > 1e300"}`, `1e999`, ""},
		{`{"schema":{"type":"object"},"predicate":"response.total == 7"}`, `{"total":7}`, ""},
		{`{"schema":{"type":"object"},"predicate":"response.total == 7"}`, `[]`, "does not conform"},
		{`{"schema":{"type":"object"},"predicate":"response.total == 7"}`, `{"total":8}`, "does not hold"},
	} {
		var e control.Expectation
		if err := json.Unmarshal([]byte(c.expect), &e); err != nil {
			t.Errorf("%s: %v", c.expect, err)
			continue
		}
		check, err := e.Compile()
		if err != nil {
			t.Errorf("%s: %v", c.expect, err)
			continue
		}
		switch err := check.Of([]byte(c.response), []byte(`{"least":5}`)); {
		case c.why == "" && err != nil:
			t.Errorf("%s of %s: %v", c.expect, c.response, err)
		case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s of %.80s: %v, want %q", c.expect, c.response, err, c.why)
		}
		var again control.Expectation
		text, err := json.Marshal(&e)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if err != nil || string(again.Schema) != string(e.Schema) || again.Predicate != e.Predicate {
			t.Errorf("%s is written as %s (%v)", c.expect, text, err)
		}
	}
}

func TestDeclarationsThatMakeNoSenseAreRefused(t *testing.T) {
	for text, why := range map[string]string{
		`{}`:                                 "neither a schema nor",
		`{"predicate":"response.total = 7"}`: "Syntax error",
		`{"predicate":"respons.total == 7"}`: "undeclared reference",
		`{"predicate":"size(response)"}`:     "of type int",
		`{"predicate":"` + strings.Repeat("!", 9_000) + `true"}`: "are over",
		`{"predicate":"` + strings.Repeat("(", 3_000) + `true"}`: "predicate",
		`{"schema":{},"x":1}`:                                        `unknown field "x"`,
		`{"schema":{"items":{"type":"objekt"}}}`:                     `no type "objekt"`,
		`{"schema":{"$ref":"http://a.b/c"}}`:                         "schema",
		`{"schema":{"pattern":"("}}`:                                 "schema",
		`{"schema":7}`:                                               "schema",
		`{"schema":{"title":"` + strings.Repeat("x", 70_000) + `"}}`: "are over",
	} {
		var e control.Expectation
		err := json.Unmarshal([]byte(text), &e)
		if err == nil {
			_, err = e.Compile()
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.80s: %v, want %q", text, err, why)
		}
	}
	for text, why := range map[string]string{
		`[{"on":"error"}]`:                                                                            "no function",
		`[{"on":"fire","function":"f"}]`:                                                              "none of",
		`[{"on":"error","function":"f","above":0.5}]`:                                                 "are for on: error_rate",
		`[{"on":"error_rate","function":"f","over":"1m"}]`:                                            "above is needed",
		`[{"on":"error_rate","function":"f","above":1,"over":"1m"}]`:                                  "above is needed",
		`[{"on":"error_rate","function":"f","above":0.2}]`:                                            "over",
		`[{"on":"error_rate","function":"f","above":0.2,"over":"25h"}]`:                               "over",
		`[{"on":"error_rate","function":"f","above":0.2,"below":0.3,"over":"1m"}]`:                    "below",
		`[{"on":"error_rate","function":"f","above":0.2,"over":"1m","calls":0}]`:                      "calls",
		`[` + strings.Repeat(`{"on":"error","function":"f"},`, 10) + `{"on":"error","function":"f"}]`: "11 rules",
	} {
		if err := json.Unmarshal([]byte(text), new(control.Rules)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.80s: %v, want %q", text, err, why)
		}
	}
}

func TestRulesAreWrittenWithTheirDefaults(t *testing.T) {
	var rules control.Rules
	if err := json.Unmarshal([]byte(`[{"on":"error","function":"a"},{"on":"error_rate","function":"b","above":0.2,"over":"1m"}]`), &rules); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(rules)
	if want := `[{"on":"error","function":"a"},{"on":"error_rate","function":"b","above":0.2,"below":0.1,"over":"1m0s","calls":10}]`; err != nil || string(text) != want {
		t.Errorf("%s (%v), want %s", text, err, want)
	}
}

// Once for each crossing, with hysteresis, and not for what is long past.
func TestARateIsMetOnceACrossing(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := control.NewRate(control.Rule{On: control.OnErrorRate, Above: 0.2, Below: 0.1, Over: time.Minute, Calls: 10})
	var met []string
	count := func(n, failed int, every time.Duration) {
		for k := range n {
			now = now.Add(every)
			if share, is := r.Count(now, k < failed); is {
				met = append(met, fmt.Sprintf("%.2f", share))
			}
		}
	}
	count(9, 9, time.Millisecond) // too few calls
	want := []string(nil)
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, met); diff != "" {
			t.Errorf("%s (-want +met):\n%s", what, diff)
		}
	}
	check("nine calls")
	count(1, 1, time.Millisecond)
	want = append(want, "1.00")
	check("the tenth")
	count(20, 20, time.Millisecond)
	check("more of the same")
	count(150, 0, time.Millisecond) // 30 of 180: under above, over below
	count(10, 10, time.Millisecond)
	check("it never was low")
	count(400, 0, time.Millisecond) // 40 of 590: low
	count(200, 200, time.Millisecond)
	want = append(want, "0.20")
	check("it was low in between")
	now = now.Add(2 * time.Minute) // all of it is past
	count(10, 3, time.Millisecond)
	check("ten calls of a new minute begin with failures: three of three are too few")
	now = now.Add(-time.Hour) // a clock that is set back loses nothing
	count(10, 0, time.Millisecond)
	check("no failure")
}

func TestAControlFunctionsAnswerIsReadStrictly(t *testing.T) {
	for _, text := range []string{"", " ", "null", "{}"} {
		if a, err := control.ReadAnswer([]byte(text)); err != nil || a.Decision != control.Leave || len(a.Actions) > 0 {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
	a, err := control.ReadAnswer([]byte(`{"decision":"retry","payload":{"retryMode":true},"qualifier":"1","note":"old code","actions":[
		{"do":"roll_back_alias","alias":"live","version":"3"},{"do":"rebuild_instances"},{"do":"pause_source","uuid":"u"},{"do":"reserve_concurrency","value":0},{"do":"reserve_concurrency"}]}`))
	if err != nil || a.Decision != control.Retry || string(a.Payload) != `{"retryMode":true}` || *a.Qualifier != "1" || len(a.Actions) != 5 || *a.Actions[3].Value != 0 || a.Actions[4].Value != nil {
		t.Errorf("%+v, %v", a, err)
	}
	for text, why := range map[string]string{
		`[]`: "cannot", `"retry"`: "cannot", `{"decision":"again"}`: "none of", `{"decison":"retry"}`: "unknown field",
		`{"decision":"retry","payload":"` + strings.Repeat("x", 1<<20) + `"}`: "has 1048578 bytes", `{"decision":"retry","qualifier":"` + strings.Repeat("x", 129) + `"}`: "has 129 bytes",
		`{"decision":"drop","payload":{}}`: "are for", `{"payload":{}}`: "are for", `{"qualifier":"1"}`: "are for",
		`{"actions":[{"do":"explode"}]}`: "none of", `{"actions":[{"do":"roll_back_alias"}]}`: "needs an alias",
		`{"actions":[{"do":"pause_source"}]}`: "needs the uuid", `{"actions":[{"do":"reserve_concurrency","value":-1}]}`: "below 0",
		`{"actions":[{"do":"rebuild_instances","alias":"x"}]}`:                                              "another action's",
		`{"actions":[` + strings.Repeat(`{"do":"rebuild_instances"},`, 10) + `{"do":"rebuild_instances"}]}`: "11 actions",
	} {
		if a, err := control.ReadAnswer([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %+v, %v, want %q", text, a, err, why)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"decision":"retry","payload":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := control.ReadAnswer(text)
		if err != nil {
			return
		}
		if (a.Payload != nil || a.Qualifier != nil) && a.Decision != control.Retry {
			t.Errorf("%q: %+v", text, a)
		}
	})
}
