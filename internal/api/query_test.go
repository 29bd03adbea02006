package api

import (
	"strings"
	"testing"
)

func TestSecurityAQueryThatDoesNotParseChangesNothing(t *testing.T) {
	for _, query := range []string{"Qualifier=%zz", "Qualifier=1%", "Qualifier=1;x", "x;y", "%", "Qualifier=1&Qualifier=2", "Qualifier=1&%51ualifier=2"} {
		for _, c := range []struct{ method, path string }{
			{"DELETE", "/2015-03-31/functions/f"},
			{"GET", "/2015-03-31/functions/f"},
			{"GET", "/2015-03-31/functions/f/configuration"},
			{"GET", "/2015-03-31/functions/"},
			{"POST", "/2015-03-31/functions/f/invocations"},
			{"PUT", "/2015-03-31/functions/f/configuration"},
			{"DELETE", "/2017-10-31/functions/f/concurrency"},
			{"GET", "/_lambent/health"},
			{"GET", "/_lambent/code/x"},
		} {
			d := newDoor(t)
			d.create(t, "f")
			a := d.do(t, c.method, c.path+"?"+query, "")
			message := a.wantError(t, 400, "InvalidParameterValueException")
			if !strings.Contains(message, "query string") {
				t.Errorf("%s %s?%s: message %q does not speak of the query string", c.method, c.path, query, message)
			}
			if d.functions.changes != 1 || d.invoker.last != nil {
				t.Errorf("%s %s?%s went through", c.method, c.path, query)
			}
		}
	}
}

func TestSecurityAQualifierOutsideTheModelsPatternDeletesNothing(t *testing.T) {
	for _, query := range []string{"Qualifier=", "Qualifier", "Qualifier=a.b", "Qualifier=%00", "Qualifier=1%202", "Qualifier=" + strings.Repeat("a", 129)} {
		d := newDoor(t)
		d.create(t, "f")
		for _, c := range []struct{ method, path string }{{"DELETE", ""}, {"GET", ""}, {"GET", "/configuration"}, {"POST", "/invocations"}} {
			d.do(t, c.method, "/2015-03-31/functions/f"+c.path+"?"+query, "").wantError(t, 400, "ValidationException")
		}
		if d.functions.changes != 1 || d.invoker.last != nil {
			t.Errorf("?%s went through", query)
		}
	}
}

func TestUnknownOperatorPathsAreToldInJSON(t *testing.T) {
	d := newDoor(t)
	for _, path := range []string{"/_lambent/nope", "/_lambent//health", "/_lambent/x/../health", "/_lambent/../2015-03-31/functions", "/_lambent/", "/_lambent/health/"} {
		a := d.do(t, "GET", path, "")
		a.wantError(t, 404, "UnknownOperationException")
		if a.header.Get("x-amzn-RequestId") == "" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", path, a.header)
		}
	}
	if a := d.do(t, "GET", "/_lambent/health", ""); a.status != 200 || a.header.Get("x-amzn-RequestId") == "" {
		t.Errorf("health: %d %v", a.status, a.header)
	}
}
