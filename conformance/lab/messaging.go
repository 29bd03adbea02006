package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// Messaging is SQS, SNS and EventBridge of the tests' own, at one address. It takes
// a request only if its signature is the one AWS's signer makes, and if AWS's SDK,
// asked for the same, sends the same.
type Messaging struct {
	URL         string
	Credentials string // file of its keys

	mu sync.Mutex
	// +checklocks:mu
	taken []Delivery
	// +checklocks:mu
	refused []error
}

// Delivery is a message that was taken.
type Delivery struct {
	To         string // queue's URL without the service's, or ARN
	Body       string
	Attributes map[string]string // "Type value", by name
	// Of an event on a bus:
	Source, DetailType string
	Resources          []string
}

// NewMessaging starts services that end with the test.
func NewMessaging(tb testing.TB) *Messaging {
	tb.Helper()
	m := &Messaging{Credentials: writeCredentials(tb)}
	server := httptest.NewServer(m)
	tb.Cleanup(server.Close)
	m.URL = server.URL
	return m
}

// Flags make a server deliver to the services.
func (m *Messaging) Flags() []string {
	return []string{"--endpoints-sqs", m.URL, "--endpoints-sns", m.URL, "--endpoints-eventbridge", m.URL, "--endpoints-region", Region, "--endpoints-credentials", m.Credentials}
}

// Taken are the messages to a place, in their order, and an error for a request
// that was not taken.
func (m *Messaging) Taken(to string) (all []Delivery, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.taken {
		if d.To == to {
			all = append(all, d)
		}
	}
	return all, errors.Join(m.refused...)
}

// ServeHTTP takes a message.
func (m *Messaging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var d Delivery
	if err == nil {
		d, err = m.read(r, body)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.refused = append(m.refused, err)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	m.taken = append(m.taken, d)
	switch {
	case d.Source != "":
		_, _ = io.WriteString(w, `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`)
	case strings.HasPrefix(d.To, "arn:"):
		_, _ = io.WriteString(w, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>`)
	default:
		_, _ = io.WriteString(w, `{"MessageId":"1"}`)
	}
}

// read checks a request, and tells what it delivers.
func (m *Messaging) read(r *http.Request, body []byte) (d Delivery, err error) {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential="+s3Key+"/")
	part := strings.Split(scope, "/")
	if len(part) < 4 || part[1] != Region {
		return d, fmt.Errorf("the request is signed by %q", r.Header.Get("Authorization"))
	}
	if err := genuine(r, body, part[2]); err != nil {
		return d, err
	}
	var sent *sentBySDK
	switch part[2] {
	case "sqs":
		d, sent, err = m.sqs(body)
	case "sns":
		d, sent, err = m.sns(body)
	case "events":
		d, sent, err = m.events(body)
	default:
		err = fmt.Errorf("the request is signed for %q", part[2])
	}
	if err != nil {
		return d, err
	}
	return d, sent.equals(r, body)
}

// genuine signs what came once more, with AWS's signer, and compares.
func genuine(r *http.Request, body []byte, service string) error {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return fmt.Errorf("the request is of %q", r.Header.Get("X-Amz-Date"))
	}
	sum := sha256.Sum256(body)
	again := r.Clone(context.Background())
	again.URL.Host, again.ContentLength = r.Host, 0
	again.Header = http.Header{}
	for _, name := range []string{"Content-Type", "X-Amz-Target", "X-Amz-Content-Sha256"} {
		if v := r.Header.Get(name); v != "" {
			again.Header.Set(name, v)
		}
	}
	err = v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: s3Key, SecretAccessKey: s3Secret}, again, hex.EncodeToString(sum[:]), service, Region, at)
	if err != nil || again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		return fmt.Errorf("the signature is %q, AWS's %q (%v)", r.Header.Get("Authorization"), again.Header.Get("Authorization"), err)
	}
	return nil
}

func (m *Messaging) sqs(body []byte) (d Delivery, sent *sentBySDK, err error) {
	var in sqs.SendMessageInput
	if err := strictly(body, &in); err != nil {
		return d, nil, err
	}
	d = Delivery{To: strings.TrimPrefix(aws.ToString(in.QueueUrl), m.URL), Body: aws.ToString(in.MessageBody)}
	for name, a := range in.MessageAttributes {
		d.attribute(name, a.DataType, a.StringValue)
	}
	sent = &sentBySDK{}
	_, _ = sqs.New(sqs.Options{Region: Region, BaseEndpoint: &m.URL, Credentials: anyKeys(), HTTPClient: sent, Retryer: aws.NopRetryer{}}).SendMessage(context.Background(), &in) // what it sends is wanted
	return d, sent, nil
}

func (m *Messaging) sns(body []byte) (d Delivery, sent *sentBySDK, err error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return d, nil, err
	}
	in := sns.PublishInput{TopicArn: aws.String(form.Get("TopicArn")), Message: aws.String(form.Get("Message"))}
	d = Delivery{To: form.Get("TopicArn"), Body: form.Get("Message")}
	for i := 1; ; i++ {
		entry := fmt.Sprintf("MessageAttributes.entry.%d.", i)
		name := form.Get(entry + "Name")
		if name == "" {
			break
		}
		if in.MessageAttributes == nil {
			in.MessageAttributes = map[string]snstypes.MessageAttributeValue{}
		}
		a := snstypes.MessageAttributeValue{DataType: aws.String(form.Get(entry + "Value.DataType")), StringValue: aws.String(form.Get(entry + "Value.StringValue"))}
		in.MessageAttributes[name] = a
		d.attribute(name, a.DataType, a.StringValue)
	}
	sent = &sentBySDK{}
	_, _ = sns.New(sns.Options{Region: Region, BaseEndpoint: &m.URL, Credentials: anyKeys(), HTTPClient: sent, Retryer: aws.NopRetryer{}}).Publish(context.Background(), &in) // as above
	return d, sent, nil
}

func (m *Messaging) events(body []byte) (d Delivery, sent *sentBySDK, err error) {
	var q struct {
		Entries []ebtypes.PutEventsRequestEntry
	}
	if err := strictly(body, &q); err != nil {
		return d, nil, err
	}
	if len(q.Entries) != 1 {
		return d, nil, fmt.Errorf("there are %d events", len(q.Entries))
	}
	e := q.Entries[0]
	d = Delivery{To: aws.ToString(e.EventBusName), Body: aws.ToString(e.Detail), Source: aws.ToString(e.Source), DetailType: aws.ToString(e.DetailType), Resources: e.Resources}
	sent = &sentBySDK{}
	_, _ = eventbridge.New(eventbridge.Options{Region: Region, BaseEndpoint: &m.URL, Credentials: anyKeys(), HTTPClient: sent, Retryer: aws.NopRetryer{}}).PutEvents(context.Background(), &eventbridge.PutEventsInput{Entries: q.Entries}) // as above
	return d, sent, nil
}

func (d *Delivery) attribute(name string, kind, value *string) {
	if d.Attributes == nil {
		d.Attributes = map[string]string{}
	}
	d.Attributes[name] = aws.ToString(kind) + " " + aws.ToString(value)
}

func anyKeys() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(s3Key, s3Secret, "")
}

func strictly(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("the body %.200q: %w", body, err)
	}
	return nil
}

// sentBySDK is an HTTP client that keeps what it is to send.
type sentBySDK struct {
	request *http.Request
	body    []byte
}

var errKept = errors.New("it is kept")

func (s *sentBySDK) Do(r *http.Request) (*http.Response, error) {
	s.request = r
	if r.Body != nil {
		s.body, _ = io.ReadAll(r.Body)
	}
	return nil, errKept
}

// equals compares a request that came with the one that was kept.
func (s *sentBySDK) equals(r *http.Request, body []byte) error {
	if s.request == nil {
		return errors.New("AWS's SDK sends no such request")
	}
	mine := []string{r.Method, r.URL.Path, mediaType(r), r.Header.Get("X-Amz-Target")}
	its := []string{s.request.Method, s.request.URL.Path, mediaType(s.request), s.request.Header.Get("X-Amz-Target")}
	if !reflect.DeepEqual(mine, its) || !sameBody(body, s.body) {
		return fmt.Errorf("the request is %q with\n%s\nAWS's SDK sends %q with\n%s", mine, body, its, s.body)
	}
	return nil
}

func mediaType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return kind
}

// sameBody compares two bodies as JSON, or as a form in which a map's entries are
// in any order.
func sameBody(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil {
		return reflect.DeepEqual(x, y)
	}
	p, err := url.ParseQuery(string(a))
	q, err2 := url.ParseQuery(string(b))
	return err == nil && err2 == nil && reflect.DeepEqual(entries(p), entries(q))
}

func entries(form url.Values) map[string]string {
	out := map[string]string{}
	for name, values := range form {
		if rest, ok := strings.CutPrefix(name, "MessageAttributes.entry."); ok {
			number, field, _ := strings.Cut(rest, ".")
			name = form.Get("MessageAttributes.entry."+number+".Name") + " " + field
		}
		out[name] = strings.Join(values, "\x00")
	}
	return out
}
