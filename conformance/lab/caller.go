package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Region is the region the servers of the tests are in.
const Region = "us-east-1"

// Caller is one account at one server: the SDK's client, and short ways to do
// with it what every test does.
type Caller struct {
	*lambda.Client
	Server  *Server
	Account string
}

// Accounts gives out account ids, so that tests that share a server share no
// functions. The zero value is ready.
type Accounts struct{ last atomic.Int64 }

// Next is an account nobody else has.
func (a *Accounts) Next() string { return fmt.Sprintf("%012d", 100_000_000_000+a.last.Add(1)) }

// Caller makes a caller of an account. Its client does not retry: a test wants
// to see the first answer.
func (s *Server) Caller(tb testing.TB, account string) *Caller {
	tb.Helper()
	return s.CallerBy(tb, account, account, "secret")
}

// CallerBy is Caller by an access key of the account.
func (s *Server) CallerBy(tb testing.TB, account, key, secret string) *Caller {
	tb.Helper()
	return s.CallerWith(tb, account, aws.Credentials{AccessKeyID: key, SecretAccessKey: secret})
}

// CallerWith is Caller with credentials of any kind.
func (s *Server) CallerWith(tb testing.TB, account string, who aws.Credentials) *Caller {
	tb.Helper()
	cfg, err := config.LoadDefaultConfig(tb.Context(),
		config.WithRegion(Region),
		config.WithBaseEndpoint(s.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(who.AccessKeyID, who.SecretAccessKey, who.SessionToken)),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	)
	if err != nil {
		tb.Fatal(err)
	}
	client := lambda.NewFromConfig(cfg, func(o *lambda.Options) { o.HTTPClient = patientClient{o.HTTPClient} })
	return &Caller{Client: client, Server: s, Account: account}
}

// Function is a function to create. What is zero has AWS's default, but for the
// timeout: 10 seconds, so that a slow machine is no error.
type Function struct {
	Name    string
	Runtime types.Runtime
	Handler string
	Zip     []byte
	Memory  int32
	Timeout int32
	Tmp     int32 // MB of /tmp
	Env     map[string]string
}

// Role is a well-formed role nobody checks.
func (c *Caller) Role() *string {
	return aws.String("arn:aws:iam::" + c.Account + ":role/service/test")
}

// ARN is the ARN of a function of the caller's.
func (c *Caller) ARN(name string) string {
	return "arn:aws:lambda:" + Region + ":" + c.Account + ":function:" + name
}

// Input is the request that creates f.
func (c *Caller) Input(f Function) *lambda.CreateFunctionInput {
	in := &lambda.CreateFunctionInput{
		FunctionName: &f.Name, Runtime: f.Runtime, Handler: &f.Handler, Role: c.Role(),
		Code: &types.FunctionCode{ZipFile: f.Zip}, Timeout: aws.Int32(10),
	}
	if f.Timeout != 0 {
		in.Timeout = &f.Timeout
	}
	if f.Memory != 0 {
		in.MemorySize = &f.Memory
	}
	if f.Tmp != 0 {
		in.EphemeralStorage = &types.EphemeralStorage{Size: &f.Tmp}
	}
	if f.Env != nil {
		in.Environment = &types.Environment{Variables: f.Env}
	}
	return in
}

// Create creates a function and waits until it is Active. It is deleted at the
// end of the test, unless that was done before.
func (c *Caller) Create(tb testing.TB, f Function) *lambda.CreateFunctionOutput {
	tb.Helper()
	out, err := c.CreateFunction(tb.Context(), c.Input(f))
	if err != nil {
		tb.Fatalf("create %s: %v", f.Name, err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		_, _ = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &f.Name}) // it may be gone, and so may the server
	})
	c.AwaitActive(tb, f.Name)
	return out
}

// AwaitActive waits with the SDK's waiters until a function is Active and
// updated.
func (c *Caller) AwaitActive(tb testing.TB, name string) {
	tb.Helper()
	in := &lambda.GetFunctionInput{FunctionName: &name}
	active := lambda.NewFunctionActiveV2Waiter(c.Client, func(o *lambda.FunctionActiveV2WaiterOptions) { o.MinDelay, o.MaxDelay = fast, slow })
	if err := active.Wait(tb.Context(), in, Patience); err != nil {
		tb.Fatalf("wait for %s to be Active: %v", name, err)
	}
	updated := lambda.NewFunctionUpdatedV2Waiter(c.Client, func(o *lambda.FunctionUpdatedV2WaiterOptions) { o.MinDelay, o.MaxDelay = fast, slow })
	if err := updated.Wait(tb.Context(), in, Patience); err != nil {
		tb.Fatalf("wait for %s to be updated: %v", name, err)
	}
}

const (
	fast = 10 * time.Millisecond
	slow = 200 * time.Millisecond
)

// Delete deletes a function.
func (c *Caller) Delete(tb testing.TB, name string) {
	tb.Helper()
	if _, err := c.DeleteFunction(tb.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
		tb.Fatalf("delete %s: %v", name, err)
	}
}

// Answer is what Invoke gave.
type Answer struct {
	*lambda.InvokeOutput
	Header http.Header
}

// FunctionError is an error payload.
type FunctionError struct {
	Type       string   `json:"errorType"`
	Message    string   `json:"errorMessage"`
	RequestID  string   `json:"requestId"`
	Trace      []string `json:"trace"`      // Node
	StackTrace any      `json:"stackTrace"` // Python: strings; Go: objects
}

// Option changes an invocation.
type Option func(*lambda.InvokeInput)

// Tail asks for the end of the log.
func Tail(in *lambda.InvokeInput) { in.LogType = types.LogTypeTail }

// Call invokes a function with an event and returns whatever came of it; the
// platform's refusals are errors.
func (c *Caller) Call(ctx context.Context, name string, event any, options ...Option) (*Answer, error) {
	payload, ok := event.([]byte)
	if !ok {
		var err error
		if payload, err = json.Marshal(event); err != nil {
			return nil, err
		}
	}
	in := &lambda.InvokeInput{FunctionName: &name, Payload: payload}
	for _, o := range options {
		o(in)
	}
	out, err := c.Client.Invoke(ctx, in)
	if err != nil {
		return nil, err
	}
	return NewAnswer(out), nil
}

// NewAnswer adds what the SDK does not show to what it gave.
func NewAnswer(out *lambda.InvokeOutput) *Answer {
	a := &Answer{InvokeOutput: out}
	if raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		a.Header = raw.Header
	}
	return a
}

// Do invokes a function that must answer without an error, and decodes its
// answer into T.
func Do[T any](tb testing.TB, c *Caller, name string, event any, options ...Option) (T, *Answer) {
	tb.Helper()
	a, err := c.Call(tb.Context(), name, event, options...)
	if err != nil {
		tb.Fatalf("invoke %s: %v", name, err)
	}
	if a.FunctionError != nil {
		tb.Fatalf("invoke %s: function error %s: %s", name, *a.FunctionError, a.Payload)
	}
	var out T
	if err := json.Unmarshal(a.Payload, &out); err != nil {
		tb.Fatalf("invoke %s: the answer %.200q: %v", name, a.Payload, err)
	}
	return out, a
}

// Fail invokes a function that must end in a function error.
func (c *Caller) Fail(tb testing.TB, name string, event any, options ...Option) (FunctionError, *Answer) {
	tb.Helper()
	a, err := c.Call(tb.Context(), name, event, options...)
	if err != nil {
		tb.Fatalf("invoke %s: %v", name, err)
	}
	if a.StatusCode != http.StatusOK || aws.ToString(a.FunctionError) != "Unhandled" {
		tb.Fatalf("invoke %s: status %d, function error %q, want 200 and Unhandled; payload %.500s", name, a.StatusCode, aws.ToString(a.FunctionError), a.Payload)
	}
	var out FunctionError
	if err := json.Unmarshal(a.Payload, &out); err != nil {
		tb.Fatalf("invoke %s: the error %.200q: %v", name, a.Payload, err)
	}
	return out, a
}

// ContainerID is the container that served the call.
func (a *Answer) ContainerID() string { return a.Header.Get("X-Lambent-Container-Id") }

// RequestID is the call's request id.
func (a *Answer) RequestID() string { return a.Header.Get("X-Amzn-Requestid") }

// Reply is an HTTP answer, read whole.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// HTTP sends a request by hand, as the caller, where the SDK would not let a
// wrong one pass or would hide what the answer looks like. header holds pairs.
func (c *Caller) HTTP(tb testing.TB, method, path string, body []byte, header ...string) Reply {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, c.Server.URL+path, bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/%s/lambda/aws4_request, SignedHeaders=host, Signature=%s",
		c.Account, Region, strings.Repeat("0", 64)))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	return Reply{Status: resp.StatusCode, Header: resp.Header, Body: out}
}
