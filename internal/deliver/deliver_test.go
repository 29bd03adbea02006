package deliver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/egress"
	"lambent/internal/sigv4"
)

var keys = sigv4.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", SessionToken: "token"}

// taken is a request as a service got it, verified.
type taken struct {
	service, contentType, operation string
	body                            string
}

// service is a twin of AWS's three: it verifies signatures with the server's own
// verifier, whose measure are AWS's test vectors, and answers as it is told to.
type service struct {
	*httptest.Server
	mu     sync.Mutex
	taken  []taken
	status int
	answer string
}

func newService(t *testing.T) *service {
	s := &service{status: 200, answer: `{"MessageId":"1"}`}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got := taken{contentType: r.Header.Get("Content-Type"), operation: r.Header.Get("X-Amz-Target"), body: string(body)}
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=AKID/")
		if parts := strings.Split(rest, "/"); len(parts) > 3 {
			got.service = parts[2]
		}
		v := &sigv4.Verifier{Region: "eu-test-1", Service: got.service, Now: time.Now, Lookup: func(key, token string) (string, error) {
			if key != keys.AccessKeyID || token != keys.SessionToken {
				t.Errorf("signed by %s with the token %q", key, token)
			}
			return keys.SecretAccessKey, nil
		}}
		proof, err := v.Verify(r)
		if err == nil && proof.NeedsBody() {
			err = proof.Body(sha256.Sum256(body))
		}
		if sum := sha256.Sum256(body); r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) {
			err = errors.New("the body is another one than declared")
		}
		if err != nil || r.Method != "POST" || r.URL.Path != "/" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken = append(s.taken, got)
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, s.answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) last(t *testing.T) taken {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.taken) == 0 {
		t.Fatal("nothing came")
	}
	return s.taken[len(s.taken)-1]
}

func (s *service) answers(status int, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.answer = status, answer
}

func newSender(t *testing.T, o Options) *Sender {
	t.Helper()
	if o.Dial == nil {
		g, err := egress.New(egress.Options{Near: true, Setting: "destinations.allow"})
		if err != nil {
			t.Fatal(err)
		}
		o.Dial = g.Dial
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func endpoints(base string) Endpoints {
	return Endpoints{SQS: base, SNS: base + "/", EventBridge: base, Region: "eu-test-1", Credentials: func() (sigv4.Credentials, error) { return keys, nil }}
}

func message(to string) *Message {
	return &Message{Account: "111122223333", To: to, Body: []byte(`{"a":"ü <&> \u0000"}`), ID: "id-1", FunctionARN: "arn:aws:lambda:eu-test-1:111122223333:function:f:$LATEST", RequestID: "r-1"}
}

func wantKind(t *testing.T, err error, kind lambent.Kind, part string) {
	t.Helper()
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Message, part) {
		t.Errorf("%v, want %s with %q", err, kind, part)
	}
}

func TestServicesGetSignedRequestsOfTheirProtocol(t *testing.T) {
	a := newService(t)
	s := newSender(t, Options{Endpoints: endpoints(a.URL)})
	const queue, topic, bus = "arn:aws:sqs:eu-test-1:111122223333:dead-letters", "arn:aws:sns:eu-test-1:111122223333:topic", "arn:aws:events:eu-test-1:111122223333:event-bus/main"
	attributes := []Attribute{{"RequestID", "String", "r-1"}, {"ErrorCode", "Number", "200"}, {"ErrorMessage", "String", "no & never"}}

	m := message(queue)
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	const body = `"{\"a\":\"ü <&> \\u0000\"}"`
	want := taken{"sqs", "application/x-amz-json-1.0", "AmazonSQS.SendMessage", `{"QueueUrl":"` + a.URL + `/111122223333/dead-letters","MessageBody":` + body + `}`}
	if diff := cmp.Diff(want, a.last(t), cmp.AllowUnexported(taken{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.Attributes = attributes
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want.body = want.body[:len(want.body)-1] + `,"MessageAttributes":{"ErrorCode":{"DataType":"Number","StringValue":"200"},"ErrorMessage":{"DataType":"String","StringValue":"no & never"},"RequestID":{"DataType":"String","StringValue":"r-1"}}}`
	if diff := cmp.Diff(want, a.last(t), cmp.AllowUnexported(taken{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	m.To = topic
	a.answers(200, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`)
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := a.last(t)
	form, err := url.ParseQuery(got.body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(url.Values{"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {topic}, "Message": {string(m.Body)},
		"MessageAttributes.entry.1.Name": {"RequestID"}, "MessageAttributes.entry.1.Value.DataType": {"String"}, "MessageAttributes.entry.1.Value.StringValue": {"r-1"},
		"MessageAttributes.entry.2.Name": {"ErrorCode"}, "MessageAttributes.entry.2.Value.DataType": {"Number"}, "MessageAttributes.entry.2.Value.StringValue": {"200"},
		"MessageAttributes.entry.3.Name": {"ErrorMessage"}, "MessageAttributes.entry.3.Value.DataType": {"String"}, "MessageAttributes.entry.3.Value.StringValue": {"no & never"}}, form); diff != "" || got.service != "sns" || !strings.HasPrefix(got.contentType, "application/x-www-form-urlencoded") {
		t.Errorf("%+v (-want +got):\n%s", got, diff)
	}

	a.answers(200, `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`)
	for _, success := range []bool{true, false} {
		m = message(bus)
		m.Success = success
		if err := s.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		kind := map[bool]string{true: "Success", false: "Failure"}[success]
		want = taken{"events", "application/x-amz-json-1.1", "AWSEvents.PutEvents", `{"Entries":[{"Source":"lambda","DetailType":"Lambda Function Invocation Result - ` + kind + `","Detail":` + body +
			`,"EventBusName":"` + bus + `","Resources":["` + bus + `","` + m.FunctionARN + `"]}]}`}
		if diff := cmp.Diff(want, a.last(t), cmp.AllowUnexported(taken{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestServicesRefusalsAreToldByWhetherTryingAgainMayHelp(t *testing.T) {
	a := newService(t)
	s := newSender(t, Options{Endpoints: endpoints(a.URL)})
	for _, tc := range []struct {
		to, answer string
		status     int
		kind       lambent.Kind
		part       string
	}{
		{"arn:aws:sqs:eu-test-1:111122223333:q", `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue\ndoes not exist."}`, 400, lambent.KindUnavailable, "QueueDoesNotExist: The specified queue does not exist."},
		{"arn:aws:sqs:eu-test-1:111122223333:q", `{"__type":"com.amazonaws.sqs#InvalidMessageContents","message":"no"}`, 400, lambent.KindInvalid, "InvalidMessageContents"},
		{"arn:aws:sqs:eu-test-1:111122223333:q", `oh`, 500, lambent.KindUnavailable, "status 500"},
		{"arn:aws:sqs:eu-test-1:111122223333:q", ``, 307, lambent.KindUnavailable, "status 307"},
		{"arn:aws:sqs:eu-test-1:111122223333:q", ``, 413, lambent.KindInvalid, "status 413"},
		{"arn:aws:sns:eu-test-1:111122223333:t", `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>NotFound</Code><Message>Topic does not exist</Message></Error></ErrorResponse>`, 404, lambent.KindUnavailable, "NotFound: Topic does not exist"},
		{"arn:aws:sns:eu-test-1:111122223333:t", `<ErrorResponse><Error><Code>InvalidParameter</Code><Message>too long</Message></Error></ErrorResponse>`, 400, lambent.KindInvalid, "too long"},
		{"arn:aws:events:eu-test-1:111122223333:event-bus/b", `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"ThrottlingException","ErrorMessage":"slow"}]}`, 200, lambent.KindUnavailable, "ThrottlingException: slow"},
		{"arn:aws:events:eu-test-1:111122223333:event-bus/b", `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"MalformedDetail","ErrorMessage":"bad"}]}`, 200, lambent.KindInvalid, "MalformedDetail"},
		{"arn:aws:sqs:eu-test-1:111122223333:q", `{}`, 200, lambent.KindUnavailable, "no answer of SQS's"},
		{"arn:aws:sns:eu-test-1:111122223333:t", `<html/>`, 200, lambent.KindUnavailable, "no answer of SNS's"},
		{"arn:aws:events:eu-test-1:111122223333:event-bus/b", `{}`, 200, lambent.KindUnavailable, "no answer of EventBridge's"},
		{"arn:aws:events:eu-test-1:111122223333:event-bus/b", `<html>`, 200, lambent.KindUnavailable, "no answer of EventBridge's"},
		{"arn:aws:events:eu-test-1:111122223333:event-bus/b", `{"__type":"AccessDeniedException","Message":"no"}`, 400, lambent.KindUnavailable, "AccessDeniedException: no"},
	} {
		a.answers(tc.status, tc.answer)
		wantKind(t, s.Send(t.Context(), message(tc.to)), tc.kind, tc.part)
	}
	wantKind(t, newSender(t, Options{}).Send(t.Context(), message("arn:aws:sqs:eu-test-1:111122223333:q")), lambent.KindUnsupported, "endpoints.sqs")
	wantKind(t, s.Send(t.Context(), message("arn:aws:sqs:eu-other-1:111122223333:q")), lambent.KindUnsupported, "endpoints.region")
	broken := endpoints(a.URL)
	broken.Credentials = func() (sigv4.Credentials, error) { return sigv4.Credentials{}, errors.New("/secret/place") }
	wantKind(t, newSender(t, Options{Endpoints: broken}).Send(t.Context(), message("arn:aws:sqs:eu-test-1:111122223333:q")), lambent.KindUnavailable, "no keys")
	if _, err := New(Options{Endpoints: Endpoints{SNS: "http://u:p@h"}}); err == nil || !strings.Contains(err.Error(), "endpoints.sns") {
		t.Errorf("a broken endpoint: %v", err)
	}
}

func TestARNsAreOfStandardQueuesTopicsAndBuses(t *testing.T) {
	for arn, want := range map[string]Resource{
		"arn:aws:sqs:eu-west-1:111122223333:q_1-x":                      {SQS, "eu-west-1", "111122223333", "q_1-x", ""},
		"arn:aws-cn:sns:cn-north-1:111122223333:t":                      {SNS, "cn-north-1", "111122223333", "t", ""},
		"arn:aws:events:eu-west-1:111122223333:event-bus/a/b.c":         {EventBridge, "eu-west-1", "111122223333", "a/b.c", ""},
		"arn:aws:sqs:eu-west-1:111122223333:q.fifo":                     {},
		"arn:aws:sns:eu-west-1:111122223333:t.fifo":                     {},
		"arn:aws:sqs:eu-west-1:111122223333:":                           {},
		"arn:aws:sqs:eu-west-1:1:q":                                     {},
		"arn:aws:sqs:eu-west-1:111122223333:q/../x":                     {},
		"arn:aws:events:eu-west-1:111122223333:rule/x":                  {},
		"arn:aws:lambda:eu-west-1:111122223333:function:f":              {},
		"arn:aws:sns:eu-west-1:111122223333:t:8a21d249-4329-4871-acc6-": {},
	} {
		got, err := ParseARN(arn)
		if want.ARN = arn; (err == nil) != (want.Name != "") || err == nil && got != want {
			t.Errorf("%s: %+v, %v", arn, got, err)
		}
	}
}

func TestSecurityURLsHaveNoUserAndNoSubjectOfTheServers(t *testing.T) {
	for text, ok := range map[string]bool{
		"http://a/": true, "https://a.lan:8443/x?y=1": true, "nats://bus:4222/a.b": true, "nats://bus/a": true, "http://[::1]:80/": true,
		"": false, "ftp://a/": false, "//a/": false, "http:a": false, "http:///x": false, "http://u@a/": false, "http://u:p@a/": false, "http://a/#x": false, "http://a:0/": false, "http://a:99999/": false,
		"nats://bus:4222": false, "nats://bus:4222/": false, "nats://bus/a.*": false, "nats://bus/>": false, "nats://bus/a b": false, "nats://bus/a..b": false, "nats://bus/$SYS.x": false, "nats://bus/$JS.API.X": false,
		"nats://bus/_INBOX.a": false, "nats://bus/a?x=1": false, "nats://bus/a%0d%0aPUB": false, "nats://u:p@bus/a": false, "file:///etc/passwd": false, "http://a/\r\nX: y": false, "http://" + strings.Repeat("a", 1000): false,
	} {
		if _, err := ParseURL(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// posted is what an HTTP endpoint got.
type posted struct {
	header http.Header
	body   string
}

func TestPostsAreSignedAndTellWhatTheyAreOf(t *testing.T) {
	var got posted
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = posted{r.Header, string(body)}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(make([]byte, 1<<20)) // more than is read
	}))
	defer h.Close()
	// The example of the Standard Webhooks specification's libraries.
	s := newSender(t, Options{Now: func() time.Time { return time.Unix(1614265330, 0) }})
	m := message(h.URL + "/hook?x=1")
	m.ID, m.Body, m.Secret = "msg_p5jXN8AQM9LWM0D4loKWxJek", []byte(`{"test": 2432232314}`), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	if err := s.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Lambent-Request-Id": "r-1", "X-Lambent-Function": m.FunctionARN, "Webhook-Id": m.ID, "Webhook-Timestamp": "1614265330",
		"Webhook-Signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.body != string(m.Body) {
		t.Errorf("the body is %s", got.body)
	}
	m.Secret = ""
	if err := s.Send(t.Context(), m); err != nil || got.header.Get("Webhook-Signature") != "" || got.header.Get("Webhook-Id") != m.ID {
		t.Errorf("without a secret: %v, %v", err, got.header)
	}
}

func TestWhatDoesNotAnswer2xxHasNotGotIt(t *testing.T) {
	hang := make(chan struct{})
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-hang
		case "/cut":
			panic(http.ErrAbortHandler)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusTemporaryRedirect)
		case "/ok":
			t.Error("a redirect was followed")
		default:
			var status int
			_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
			w.WriteHeader(status)
		}
	}))
	defer h.Close()
	defer close(hang)
	s := newSender(t, Options{Timeout: 100 * time.Millisecond})
	for path, part := range map[string]string{"/400": "400 Bad Request", "/404": "404", "/429": "429", "/500": "500", "/503": "503", "/moved": "307", "/cut": "closed the connection", "/hang": "did not answer in time"} {
		wantKind(t, s.Send(t.Context(), message(h.URL+path)), lambent.KindUnavailable, part)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	wantKind(t, s.Send(t.Context(), message("http://"+l.Addr().String())), lambent.KindUnavailable, "could not be connected to")
	wantKind(t, s.Send(t.Context(), message("http://u:p@127.0.0.1/")), lambent.KindInvalid, "user or password")
}

func TestSecurityUsersURLsReachNeitherTheMachineNorWhereItIsRedirected(t *testing.T) {
	reached := false
	own := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer own.Close()
	g, err := egress.New(egress.Options{Setting: "destinations.allow"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTTP_PROXY", own.URL)
	s := newSender(t, Options{Dial: g.Dial, Timeout: time.Second})
	port := own.Listener.Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "169.254.169.254", "2130706433", "127.1"} {
		for _, scheme := range []string{"http", "https", "nats"} {
			err := s.Send(t.Context(), message(fmt.Sprintf("%s://%s:%d/x", scheme, host, port)))
			if err == nil || reached {
				t.Errorf("%s://%s was delivered to", scheme, host)
			}
			if host == "127.0.0.1" {
				wantKind(t, err, lambent.KindDenied, "destinations.allow")
			}
		}
	}
}

// A target that never answers has its bound, and no other's.
func TestATargetThatDoesNotAnswerKeepsNoOtherWaiting(t *testing.T) {
	hang, hanging := make(chan struct{}), make(chan struct{}, 100)
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hanging <- struct{}{}; <-hang }))
	defer slow.Close()
	good := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer good.Close()
	s := newSender(t, Options{Timeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sending sync.WaitGroup
	for range mostAtOnceTarget {
		sending.Go(func() { _ = s.Send(ctx, message(slow.URL)) })
		<-hanging
	}
	wantKind(t, s.Send(ctx, message(slow.URL+"/other")), lambent.KindThrottled, "at once")
	if err := s.Send(ctx, message(good.URL)); err != nil {
		t.Errorf("another target: %v", err)
	}
	m := message(slow.URL)
	m.Account = "444455556666"
	sending.Go(func() { _ = s.Send(ctx, m) })
	<-hanging // another account has a bound of its own
	close(hang)
	sending.Wait()
	if err := s.Send(ctx, message(slow.URL)); err != nil {
		t.Errorf("when it answers again: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != 0 || len(s.accounts) != 0 || len(s.targets) != 0 {
		t.Errorf("%d are counted, of %v to %v", s.all, s.accounts, s.targets)
	}
}

func FuzzTargets(f *testing.F) {
	f.Add("arn:aws:sqs:eu-west-1:111122223333:q")
	f.Add("nats://bus/a.b")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseARN(text); err == nil && strings.ContainsAny(r.Name, " \r\n?#%") {
			t.Errorf("%q", r.Name)
		}
		if u, err := ParseURL(text); err == nil {
			if _, err := json.Marshal(u.String()); err != nil || u.User != nil || strings.ContainsAny(u.Host, " \r\n@/") {
				t.Errorf("%q", text)
			}
		}
	})
}
