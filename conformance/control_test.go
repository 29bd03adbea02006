package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// The function of these tests fails of "bad" and answers oddly to "odd"; the one
// that is asked has both tried again with something better.
const (
	fragile = `export const handler = async (e) => {
		console.log("given", JSON.stringify(e));
		if (e.bad) throw new TypeError("bad event");
		return { ok: !e.odd };
	};`
	doctor = `export const handler = async (what) => {
		console.log("asked", what.rule, what.reason, what.request_id);
		return { decision: "retry", payload: { mended: what.reason }, note: "mended" };
	};`
)

func TestControlFunctionsMendAsynchronousEvents(t *testing.T) {
	t.Parallel()
	c := newServer(t, noPools...).Caller(t, defaultAccount)
	for name, code := range map[string]string{"fragile": fragile, "doctor": doctor} {
		c.Create(t, lab.Function{Name: name, Runtime: "nodejs20.x", Handler: "index.handler", Zip: lab.File("index.mjs", code), Timeout: 10})
	}
	settings := `{"expect":{"schema":{"properties":{"ok":{"const":true}}}},"control":[{"on":"error","function":"doctor"},{"on":"unexpected_result","function":"doctor"}]}`
	if got := c.HTTP(t, http.MethodPut, "/_lambent/v1/functions/fragile/settings", []byte(settings)); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	for payload, reason := range map[string]string{`{"bad":1}`: "function_error", `{"odd":1}`: "unexpected_result"} {
		out, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("fragile"), Payload: []byte(payload), InvocationType: types.InvocationTypeEvent})
		if err != nil || out.StatusCode != http.StatusAccepted {
			t.Fatalf("%+v, %v", out, err)
		}
		until, stop := context.WithTimeout(t.Context(), lab.Patience)
		defer stop()
		err = lab.Until(until, func() error {
			text := string(c.HTTP(t, http.MethodGet, "/_lambent/v1/functions/fragile/logs", nil).Body)
			if !strings.Contains(text, `given `+strings.ReplaceAll(`{"mended":"`+reason+`"}`, `"`, `\"`)) {
				return fmt.Errorf("of %s the log says %s", payload, text)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	// Who waits for the answer gets an error in place of one that is not expected.
	failure, _ := c.Fail(t, "fragile", op{"odd": 2})
	if failure.Type != "Lambent.UnexpectedResult" || !strings.Contains(failure.Message, "does not conform") {
		t.Errorf("the caller is told %+v", failure)
	}
}
