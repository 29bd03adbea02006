package conformance

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// soon has events that fail tried again at once.
var soon = append([]string{"--async-retry-delays", "20ms,20ms", "--async-backoff", "50ms", "--async-backoff-most", "200ms"}, noPools...)

// picky is a function that fails when it is told to, and else answers.
func picky(name string) lab.Function {
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.mjs", "export const handler = async (e) => { if (e.fail) throw new TypeError('no ' + e.n); return {ok: e.n}; };")}
}

func sendEvent(t *testing.T, c *lab.Caller, name, qualifier, payload string) (requestID string) {
	t.Helper()
	in := &lambda.InvokeInput{FunctionName: &name, Payload: []byte(payload), InvocationType: types.InvocationTypeEvent}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out, err := c.Invoke(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return id
}

func destinationsOf(t *testing.T, c *lab.Caller, name, qualifier, success, failure string) error {
	t.Helper()
	in := &lambda.PutFunctionEventInvokeConfigInput{FunctionName: &name, DestinationConfig: &types.DestinationConfig{}}
	if success != "" {
		in.DestinationConfig.OnSuccess = &types.OnSuccess{Destination: &success}
	}
	if failure != "" {
		in.DestinationConfig.OnFailure = &types.OnFailure{Destination: &failure}
	}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	_, err := c.PutFunctionEventInvokeConfig(t.Context(), in)
	return err
}

func setSettings(t *testing.T, c *lab.Caller, name string, settings any) lab.Reply {
	t.Helper()
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return c.HTTP(t, http.MethodPut, "/_lambent/v1/functions/"+name+"/settings", text)
}

// record is AWS's, whole, but for its time, which is checked, and the request's id
// and the stack, which are compared by who knows them.
func wantRecord(t *testing.T, what, got, requestID, functionARN, condition string, invokes int, payload, version, response string) {
	t.Helper()
	var r map[string]any
	if err := json.Unmarshal([]byte(got), &r); err != nil {
		t.Errorf("%s: %q: %v", what, got, err)
		return
	}
	if at, _ := r["timestamp"].(string); len(at) != len("2006-01-02T15:04:05.000Z") || !strings.HasSuffix(at, "Z") {
		t.Errorf("%s: the time is %v", what, r["timestamp"])
	}
	delete(r, "timestamp")
	if e, ok := r["responsePayload"].(map[string]any); ok {
		if trace, ok := e["trace"]; ok && fmt.Sprint(trace) == "" {
			t.Errorf("%s: there is no trace", what)
		}
		delete(e, "trace")
	}
	context := map[string]any{"statusCode": 200.0, "executedVersion": version}
	if condition != "Success" {
		context["functionError"] = "Unhandled"
	}
	want := map[string]any{
		"version": "1.0", "requestContext": map[string]any{"requestId": requestID, "functionArn": functionARN, "condition": condition, "approximateInvokeCount": float64(invokes)},
		"requestPayload": decoded(t, payload), "responseContext": context, "responsePayload": decoded(t, response),
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// hook is an HTTP endpoint that keeps what is posted to it.
type hook struct {
	mu     sync.Mutex
	posted []post
}

type post struct {
	path, body string
	header     http.Header
}

func (h *hook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.posted = append(h.posted, post{r.Method + " " + r.URL.String(), string(body), r.Header})
}

func (h *hook) await(t *testing.T, n int) (all []post) {
	t.Helper()
	lab.Eventually(t, fmt.Sprintf("%d posts", n), func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if all = slices.Clone(h.posted); len(all) < n {
			return fmt.Errorf("there are %d posts", len(all))
		}
		return nil
	})
	return all
}

// The whole record, of a function, a version and an alias, to a function.
func TestRecordsGoToFunctionsAsAWSWritesThem(t *testing.T) {
	t.Parallel()
	h := &hook{}
	told := httptest.NewServer(h)
	t.Cleanup(told.Close)
	c := newServer(t, soon...).Caller(t, fix.accounts.Next())
	c.Create(t, picky("work"))
	version, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("work")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("work"), Name: aws.String("live"), FunctionVersion: version.Version}); err != nil {
		t.Fatal(err)
	}
	// What it is told is its event, which its own record of success has.
	c.Create(t, lab.Function{Name: "told", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.mjs", "export const handler = async (e) => e;")})
	if got := setSettings(t, c, "told", op{"destinations": op{"on_success": told.URL}}); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	for _, qualifier := range []string{"", "1", "live"} {
		if err := destinationsOf(t, c, "work", qualifier, c.ARN("told"), c.ARN("told")+":$LATEST"); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for _, qualifier := range []string{"", "1", "live"} {
		shown, ran := qualifier, "1"
		if qualifier == "" {
			shown, ran = "$LATEST", "$LATEST"
		}
		for _, failing := range []bool{false, true} {
			payload := fmt.Sprintf(`{"n":%d,"fail":%v,"text":"ä <&>"}`, seen, failing)
			id := sendEvent(t, c, "work", qualifier, payload)
			seen++
			post := h.await(t, seen)[seen-1]
			var outer struct {
				RequestPayload json.RawMessage
			}
			if err := json.Unmarshal([]byte(post.body), &outer); err != nil {
				t.Fatal(err)
			}
			condition, invokes, response := "Success", 1, fmt.Sprintf(`{"ok":%d}`, seen-1)
			if failing {
				condition, invokes, response = "RetriesExhausted", 3, fmt.Sprintf(`{"errorType":"TypeError","errorMessage":"no %d"}`, seen-1)
			}
			wantRecord(t, fmt.Sprintf("work:%s, failing %v", qualifier, failing), string(outer.RequestPayload), id, c.ARN("work")+":"+shown, condition, invokes, payload, ran, response)
		}
	}
}

// An endpoint that is down at first has its record when it is up, signed, though the
// server was killed meanwhile. The function has not run again for it.
func TestAnEndpointThatIsDownHasItsRecordWhenItIsUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	data := newData(t)
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: soon})
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, picky("work"))
	if got := setSettings(t, c, "work", op{"destinations": op{"on_success": "http://" + address + "/hook?of=work", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}); got.Status != http.StatusOK || bytes.Contains(got.Body, []byte("MfKQ")) {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	id := sendEvent(t, c, "work", "", `{"n":7}`)
	lab.Eventually(t, "the event waits to be delivered again", func() error {
		m, err := s.Metrics()
		if err != nil {
			return err
		}
		if m["lambent_event_records_undelivered_total"] > 1 {
			return nil
		}
		return errors.New("nothing was tried yet")
	})
	s.Kill()
	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: soon})
	c = s.Caller(t, c.Account)
	h := &hook{}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	up := &http.Server{Handler: h}
	go func() { _ = up.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = up.Close() })
	got := h.await(t, 1)[0]
	wantRecord(t, "posted", got.body, id, c.ARN("work")+":$LATEST", "Success", 1, `{"n":7}`, "$LATEST", `{"ok":7}`)
	if got.path != "POST /hook?of=work" || got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Lambent-Request-Id") != id || got.header.Get("X-Lambent-Function") != c.ARN("work")+":$LATEST" ||
		!strings.HasPrefix(got.header.Get("Webhook-Id"), id) || got.header.Get("Webhook-Timestamp") == "" || !strings.HasPrefix(got.header.Get("Webhook-Signature"), "v1,") {
		t.Errorf("%s %v", got.path, got.header)
	}
	if all := failuresOf(t, c, ""); len(all) != 0 {
		t.Errorf("failures are %+v", all)
	}
	if executions, err := s.Executions("function=work&limit=10"); err != nil || len(executions) > 1 {
		t.Errorf("%d executions, %v", len(executions), err)
	}
}

// What cannot be delivered stands where failures do; one that never answers holds
// nobody up.
func TestWhatCannotBeDeliveredIsAFailure(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(gone) })
	refusing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refusing.Close)
	h := &hook{}
	good := httptest.NewServer(h)
	t.Cleanup(good.Close)
	c := newServer(t, soon...).Caller(t, fix.accounts.Next())
	for name, place := range map[string]string{"silent": silent.URL, "refused": refusing.URL, "good": good.URL} {
		c.Create(t, picky(name))
		if got := setSettings(t, c, name, op{"destinations": op{"on_success": place, "on_failure": place}}); got.Status != http.StatusOK {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
	}
	for n := range 20 {
		sendEvent(t, c, "silent", "", fmt.Sprintf(`{"n":%d}`, n))
	}
	sendEvent(t, c, "refused", "", `{"n":1}`)
	sendEvent(t, c, "good", "", `{"n":2}`)
	h.await(t, 1)
	all := awaitFailures(t, c, "?function=refused", func(all []failure) bool { return len(all) == 1 })
	if f := all[0]; f.Reason != "destination_failed" || f.Error.Type != "DestinationDeliveryFailed" || f.Error.Message != refusing.URL+": it answered with 404 Not Found" || string(f.Payload) != `{"n":1}` {
		t.Errorf("kept is %+v", f)
	}
	lab.Eventually(t, "all of the silent one's functions ran", func() error {
		executions, err := c.Server.Executions("function=silent&limit=100")
		if err == nil && len(executions) != 20 {
			err = fmt.Errorf("%d ran", len(executions))
		}
		return err
	})
}

func TestALoopOfDestinationsEnds(t *testing.T) {
	t.Parallel()
	c := newServer(t, soon...).Caller(t, fix.accounts.Next())
	c.Create(t, picky("ping"))
	c.Create(t, picky("pong"))
	for from, to := range map[string]string{"ping": "pong", "pong": "ping"} {
		if err := destinationsOf(t, c, from, "", c.ARN(to), ""); err != nil {
			t.Fatal(err)
		}
	}
	sendEvent(t, c, "ping", "", `{"n":1}`)
	all := awaitFailures(t, c, "", func(all []failure) bool { return len(all) > 0 })
	if f := all[0]; len(all) != 1 || f.Reason != "destination_failed" || !strings.Contains(f.Error.Message, "in a loop") {
		t.Errorf("%+v", all)
	}
	executions, err := c.Server.Executions("limit=100")
	if err != nil || len(executions) != 17 { // the first call, and 16 that came of it
		t.Errorf("%d executions, %v", len(executions), err)
	}
}

// Queues, topics and buses get what AWS's SDK would send them.
func TestRecordsAndDeadLettersGoToQueuesTopicsAndBuses(t *testing.T) {
	t.Parallel()
	m := lab.NewMessaging(t)
	c := newServer(t, append(slices.Clone(soon), m.Flags()...)...).Caller(t, fix.accounts.Next())
	arn := func(service, name string) string {
		return "arn:aws:" + service + ":" + lab.Region + ":" + c.Account + ":" + name
	}
	queue, letters, topic, bus := arn("sqs", "results"), arn("sqs", "letters"), arn("sns", "news"), arn("events", "event-bus/main")
	in := c.Input(picky("work"))
	in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: &letters}
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "work")
	taken := func(to string, n int) lab.Delivery {
		t.Helper()
		var all []lab.Delivery
		lab.Eventually(t, fmt.Sprintf("%d messages to %s", n, to), func() (err error) {
			if all, err = m.Taken(to); err == nil && len(all) < n {
				err = fmt.Errorf("there are %d", len(all))
			}
			return err
		})
		return all[n-1]
	}
	work := c.ARN("work") + ":$LATEST"
	failed := func(n int) string { return fmt.Sprintf(`{"errorType":"TypeError","errorMessage":"no %d"}`, n) }

	if err := destinationsOf(t, c, "work", "", queue, topic); err != nil {
		t.Fatal(err)
	}
	id := sendEvent(t, c, "work", "", `{"n":1}`)
	wantRecord(t, "queue", taken("/"+c.Account+"/results", 1).Body, id, work, "Success", 1, `{"n":1}`, "$LATEST", `{"ok":1}`)
	id = sendEvent(t, c, "work", "", `{"n":2,"fail":true}`)
	wantRecord(t, "topic", taken(topic, 1).Body, id, work, "RetriesExhausted", 3, `{"n":2,"fail":true}`, "$LATEST", failed(2))
	letter := taken("/"+c.Account+"/letters", 1)
	if diff := cmp.Diff(lab.Delivery{To: letter.To, Body: `{"n":2,"fail":true}`, Attributes: map[string]string{"RequestID": "String " + id, "ErrorCode": "Number 200", "ErrorMessage": "String no 2"}}, letter); diff != "" {
		t.Errorf("the dead letter (-want +got):\n%s", diff)
	}

	if err := destinationsOf(t, c, "work", "", bus, bus); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("work"), DeadLetterConfig: &types.DeadLetterConfig{TargetArn: &topic}}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "work")
	id = sendEvent(t, c, "work", "", `{"n":3}`)
	event := taken(bus, 1)
	wantRecord(t, "bus", event.Body, id, work, "Success", 1, `{"n":3}`, "$LATEST", `{"ok":3}`)
	event.Body = ""
	if diff := cmp.Diff(lab.Delivery{To: bus, Source: "lambda", DetailType: "Lambda Function Invocation Result - Success", Resources: []string{bus, work}}, event); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	id = sendEvent(t, c, "work", "", `{"n":4,"fail":true}`)
	event = taken(bus, 2)
	wantRecord(t, "bus", event.Body, id, work, "RetriesExhausted", 3, `{"n":4,"fail":true}`, "$LATEST", failed(4))
	if event.DetailType != "Lambda Function Invocation Result - Failure" {
		t.Errorf("the event is %+v", event)
	}
	letter = taken(topic, 2)
	if letter.Body != `{"n":4,"fail":true}` || letter.Attributes["RequestID"] != "String "+id {
		t.Errorf("the dead letter is %+v", letter)
	}
	config, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("work")})
	if err != nil || aws.ToString(config.DeadLetterConfig.TargetArn) != topic {
		t.Errorf("%+v, %v", config.DeadLetterConfig, err)
	}
}

// Nothing is taken that nothing would be delivered to.
func TestSecurityURLsOfDestinationsDoNotLeadToTheServerOrItsNeighbours(t *testing.T) {
	t.Parallel()
	open := newServer(t, noPools...)
	c := open.Caller(t, fix.accounts.Next())
	c.Create(t, picky("work"))
	queue := "arn:aws:sqs:" + lab.Region + ":" + c.Account + ":q"
	wantError[*types.InvalidParameterValueException](t, destinationsOf(t, c, "work", "", queue, ""), "InvalidParameterValueException",
		"Nothing can be delivered to "+queue+": this server has no endpoint of the service; the setting endpoints.sqs has to say where it is.")
	for _, place := range []string{"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://0.0.0.0:1/", "http://u:p@example.com/", "gopher://example.com/"} {
		if got := setSettings(t, c, "work", op{"destinations": op{"on_success": place}}); got.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", place, got.Status, got.Body)
		}
	}
	// The server itself, which would call functions without end.
	const own = "/2015-03-31/functions/work/invocations"
	if got := setSettings(t, c, "work", op{"destinations": op{"on_success": open.URL + own}}); got.Status != http.StatusBadRequest || !strings.Contains(string(got.Body), "it is the server itself") {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if got := setSettings(t, c, "work", op{"destinations": op{"on_success": strings.Replace(open.URL, "127.0.0.1", "localhost", 1) + own}}); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	sendEvent(t, c, "work", "", `{"n":1}`)
	all := awaitFailures(t, c, "", func(all []failure) bool { return len(all) == 1 })
	if f := all[0]; f.Reason != "permission" || !strings.Contains(f.Error.Message, "destinations.allow") {
		t.Errorf("%+v", f)
	}
}

// post sends a request by the account's root.
func (c *closed) post(t *testing.T, method, path, body string) lab.Reply {
	t.Helper()
	return c.get(t, method, path, body, func(r *http.Request) {
		sum := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(t.Context(), credentialsOf(c.root), r, hex.EncodeToString(sum[:]), "lambda", lab.Region, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
}

// failures are those of a function, when there are n.
func (c *closed) failures(t *testing.T, function string, n int) (all []failure) {
	t.Helper()
	lab.Eventually(t, fmt.Sprintf("%d failures of %s", n, function), func() error {
		got := c.post(t, "GET", "/_lambent/v1/failures?function="+function, "")
		if err := json.Unmarshal(got.Body, &all); err != nil {
			return fmt.Errorf("%d %s: %w", got.Status, got.Body, err)
		}
		if len(all) != n {
			return fmt.Errorf("there are %+v", all)
		}
		return nil
	})
	return all
}

func TestSecurityNothingIsDeliveredThatTheRoleMayNotSend(t *testing.T) {
	t.Parallel()
	m := lab.NewMessaging(t)
	reached := &hook{}
	inside := httptest.NewServer(reached)
	t.Cleanup(inside.Close)
	closed := newClosed(t, append(m.Flags(), "--async-backoff", "50ms", "--async-backoff-most", "100ms")...)
	c := closed.caller
	for role, statements := range map[string]string{"idle": `{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`, "sender": `{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}`} {
		lambentCommand(t, closed.Server, closed.root, "role", "create", role, "--policy", policyFile(t, statements))
		in := c.Input(picky(role))
		in.Role = aws.String("arn:aws:iam::" + closed.account + ":role/" + role)
		if _, err := c.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		c.AwaitActive(t, role)
	}
	queue := "arn:aws:sqs:" + lab.Region + ":" + closed.account + ":q"
	wantError[*types.InvalidParameterValueException](t, destinationsOf(t, c, "idle", "", queue, ""), "InvalidParameterValueException", "The function's execution role does not have permissions to call SendMessage on "+queue)
	_, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("idle"), DeadLetterConfig: &types.DeadLetterConfig{TargetArn: &queue}})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "The provided execution role does not have permissions to call SendMessage on SQS")
	other := "arn:aws:sqs:" + lab.Region + ":999999999999:q"
	wantError[*types.InvalidParameterValueException](t, destinationsOf(t, c, "sender", "", other, ""), "InvalidParameterValueException",
		"Nothing can be delivered to "+other+": it is of another account, and the setting endpoints.targets does not allow it for account "+closed.account+".")
	if err := destinationsOf(t, c, "sender", "", queue, ""); err != nil {
		t.Fatal(err)
	}
	// The role loses its permission; and the machine is not reached by any name.
	lambentCommand(t, closed.Server, closed.root, "role", "rm", "sender")
	sendEvent(t, c, "sender", "", `{"n":1}`)
	all := closed.failures(t, "sender", 1)
	if f := all[0]; f.Reason != "permission" || !strings.Contains(f.Error.Message, "role/sender does not allow sqs:SendMessage") {
		t.Errorf("%+v", f)
	}
	_, port, _ := net.SplitHostPort(inside.Listener.Addr().String())
	for n, host := range []string{"localhost", "2130706433", "127.1"} {
		if got := closed.post(t, "PUT", "/_lambent/v1/functions/idle/settings", `{"destinations":{"on_success":"http://`+host+":"+port+`/"}}`); got.Status != http.StatusOK {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		sendEvent(t, c, "idle", "", `{"n":1}`)
		closed.failures(t, "idle", n+1)
	}
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "10.0.0.1"} {
		if got := closed.post(t, "PUT", "/_lambent/v1/functions/idle/settings", `{"destinations":{"on_success":"http://`+host+":"+port+`/"}}`); got.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", host, got.Status, got.Body)
		}
	}
	reached.mu.Lock()
	defer reached.mu.Unlock()
	if taken, err := m.Taken("/" + closed.account + "/q"); len(taken) != 0 || err != nil || len(reached.posted) != 0 {
		t.Errorf("delivered %+v, %+v, %v", taken, reached.posted, err)
	}
}
