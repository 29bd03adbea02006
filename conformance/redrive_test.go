package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// failure is what the tests read of the failure store.
type failure struct {
	RequestID string `json:"request_id"`
	Function  string
	Version   string
	Reason    string
	Error     struct {
		Type, Message string
		Stack         []string
	}
	Attempts       int
	Redrives       int
	RedrivingSince string `json:"redriving_since"`
	Actions        []struct{ What string }
	Original       *struct{ Payload json.RawMessage }
	Payload        json.RawMessage
}

func failuresOf(t *testing.T, c *lab.Caller, query string) (all []failure) {
	t.Helper()
	got := c.HTTP(t, http.MethodGet, "/_lambent/v1/failures"+query, nil)
	if err := json.Unmarshal(got.Body, &all); err != nil || got.Status != http.StatusOK {
		t.Fatalf("%d %s: %v", got.Status, got.Body, err)
	}
	return all
}

// awaitFailures waits until the store is as it is to be.
func awaitFailures(t *testing.T, c *lab.Caller, query string, is func([]failure) bool) (all []failure) {
	t.Helper()
	within, stop := context.WithTimeout(t.Context(), lab.Patience)
	defer stop()
	if err := lab.Until(within, func() error {
		if all = failuresOf(t, c, query); !is(all) {
			return fmt.Errorf("the failures are %+v", all)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// An event that fails for good is kept through a kill, redriven, kept again when
// it fails again, and gone when the code is mended.
func TestWhatFailsIsKeptAndRedriven(t *testing.T) {
	t.Parallel()
	flags := append([]string{"--async-retry-delays", "20ms,20ms"}, noPools...)
	data, account := newData(t), fix.accounts.Next()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: flags})
	c := s.Caller(t, account)
	code := func(text string) []byte {
		return lab.File("index.mjs", "export const handler = async (e) => {"+text+"};")
	}
	c.Create(t, lab.Function{Name: "pay", Runtime: "nodejs20.x", Handler: "index.handler", Zip: code("throw new TypeError('no ' + e.n)"), Timeout: 10})
	event := func(name, payload string) {
		_, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(name), Payload: []byte(payload), InvocationType: types.InvocationTypeEvent})
		if err != nil {
			t.Fatal(err)
		}
	}
	event("pay", `{"n":1}`)
	event("pay", `{"n":2}`)
	all := awaitFailures(t, c, "?function=pay", func(all []failure) bool { return len(all) == 2 })
	for _, f := range all {
		if f.Reason != "function_error" || f.Attempts != 3 || f.Version != "$LATEST" || f.Error.Type != "TypeError" || len(f.Error.Stack) == 0 || f.Error.Message != "no "+strings.Trim(string(f.Payload), `{"n:}`) {
			t.Errorf("kept is %+v", f)
		}
	}

	s.Kill()
	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: flags})
	c = s.Caller(t, account)
	if got := failuresOf(t, c, "?function=pay"); len(got) != 2 {
		t.Fatalf("after the kill: %+v", got)
	}
	if got := c.HTTP(t, http.MethodPost, "/_lambent/v1/failures/redrive", []byte(`{"filter":{"function":"pay"},"rate":100}`)); !strings.Contains(string(got.Body), `"redriven":2`) {
		t.Errorf("redriven: %d %s", got.Status, got.Body)
	}
	again := awaitFailures(t, c, "?function=pay", func(all []failure) bool {
		return len(all) == 2 && all[0].RedrivingSince == "" && all[1].RedrivingSince == ""
	})
	for _, f := range again {
		if f.Attempts != 6 || f.Redrives != 1 {
			t.Errorf("failed again: %+v", f)
		}
	}

	if got := c.HTTP(t, http.MethodPut, "/_lambent/v1/functions/pay/settings", []byte(`{"failures":{"reprocess":[{"on":"new_version"}]}}`)); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("pay"), ZipFile: code("console.log('mended', e.n); return e.n")}); err != nil {
		t.Fatal(err)
	}
	awaitFailures(t, c, "?function=pay", func(all []failure) bool { return len(all) == 0 })
	log := string(c.HTTP(t, http.MethodGet, "/_lambent/v1/functions/pay/logs", nil).Body)
	if !strings.Contains(log, "mended 1") || !strings.Contains(log, "mended 2") {
		t.Errorf("the log says %s", log)
	}
}

func TestFailuresSayWhy(t *testing.T) {
	t.Parallel()
	c := newServer(t, append([]string{"--async-retry-delays", "20ms,20ms"}, noPools...)...).Caller(t, fix.accounts.Next())
	for name, of := range map[string]struct {
		code    string
		timeout int32
	}{
		"slow":   {"await new Promise(r => setTimeout(r, 60000))", 1},
		"large":  {"let a = []; for (;;) a.push(Buffer.alloc(10 << 20, 1))", 60},
		"closed": {"return 1", 60},
	} {
		c.Create(t, lab.Function{Name: name, Runtime: "nodejs20.x", Handler: "index.handler", Zip: lab.File("index.mjs", "export const handler = async () => {"+of.code+"};"), Timeout: of.timeout})
	}
	for _, name := range []string{"slow", "large"} {
		if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String(name), MaximumRetryAttempts: aws.Int32(0)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("closed"), ReservedConcurrentExecutions: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	for name, reason := range map[string]string{"slow": "timeout", "large": "out_of_memory", "closed": "throttled"} {
		if _, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(name), InvocationType: types.InvocationTypeEvent}); err != nil {
			t.Fatal(err)
		}
		all := awaitFailures(t, c, "?function="+name, func(all []failure) bool { return len(all) == 1 })
		if all[0].Reason != reason {
			t.Errorf("%s: %+v", name, all[0])
		}
	}
}

// Who waits for the answer is told himself; that it is kept as well is a setting.
func TestFailuresOfSynchronousCallersAreKeptWhereAFunctionsSettingsSaySo(t *testing.T) {
	t.Parallel()
	c := newServer(t, noPools...).Caller(t, fix.accounts.Next())
	for _, name := range []string{"kept", "told"} {
		c.Create(t, lab.Function{Name: name, Runtime: "nodejs20.x", Handler: "index.handler", Zip: lab.File("index.mjs", "export const handler = async (e) => { if (e.n) throw new TypeError('no'); };"), Timeout: 10})
	}
	if got := c.HTTP(t, http.MethodPut, "/_lambent/v1/functions/kept/settings", []byte(`{"failures":{"store_sync":true}}`)); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if _, err := c.Call(t.Context(), "kept", op{"n": 0}); err != nil {
		t.Fatal(err)
	}
	c.Fail(t, "told", op{"n": 1})
	_, answer := c.Fail(t, "kept", op{"n": 7})
	all := awaitFailures(t, c, "", func(all []failure) bool { return len(all) > 0 })
	if f := all[0]; len(all) != 1 || f.RequestID != answer.RequestID() || f.Function != "kept" || f.Reason != "function_error" || f.Attempts != 1 || f.Error.Message != "no" || string(f.Payload) != `{"n":7}` {
		t.Errorf("kept are %+v", all)
	}
}
