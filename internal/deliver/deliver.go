// Package deliver hands messages over to what is no function: queues, topics and
// event buses of AWS's APIs, HTTP endpoints, and subjects of NATS.
//
// A message is delivered when Send returns nil: whoever got it has said so. It may
// be delivered more than once, by who tries again after an error, and has the same
// id each time where the receiver can look at one.
package deliver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/sigv4"
)

// Message is what is handed over.
type Message struct {
	Account lambent.AccountID // on whose behalf
	To      string            // ARN of a queue, topic or event bus; URL of http, https or nats
	Body    []byte            // JSON, UTF-8
	// ID is the message's own: the same each time it is sent.
	ID string
	// FunctionARN and RequestID are of the event it tells of.
	FunctionARN string
	RequestID   lambent.RequestID
	Success     bool
	// Attributes go with a message of SQS or SNS.
	Attributes []Attribute
	// Secret signs what is posted to an HTTP endpoint; empty: it is not signed.
	Secret string
}

// Attribute is one of a message; Type is String or Number.
type Attribute struct{ Name, Type, Value string }

// Endpoints are the base URLs of services of AWS's APIs, empty for those there
// are none of.
type Endpoints struct {
	SQS, SNS, EventBridge string
	Region                string // signed for
	// Credentials finds the keys to sign with, for each request anew; with a zero
	// AccessKeyID nothing is signed.
	Credentials func() (sigv4.Credentials, error)
}

// Options configure a Sender.
type Options struct {
	Endpoints Endpoints
	// Dial connects to what users name: an egress.Guard's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds one delivery; 0: 15 seconds.
	Timeout time.Duration
	Now     func() time.Time // nil: time.Now
}

// Bounds of deliveries under way. What would be one more is refused with
// KindThrottled, so that a target that does not answer keeps no other waiting.
const (
	mostAtOnce        = 256
	mostAtOnceAccount = 32
	mostAtOnceTarget  = 8 // of one account to one host, or one ARN
)

// Sender sends. Safe for concurrent use.
type Sender struct {
	opts   Options
	aws    *http.Client // to the endpoints, which the operator has chosen
	others *http.Client // to what users name

	mu sync.Mutex
	// +checklocks:mu
	all int
	// +checklocks:mu
	accounts map[lambent.AccountID]int
	// +checklocks:mu
	targets map[target]int
}

type target struct {
	account lambent.AccountID
	place   string
}

// New makes a sender. It connects to nobody yet.
func New(o Options) (*Sender, error) {
	for setting, base := range map[string]string{"endpoints.sqs": o.Endpoints.SQS, "endpoints.sns": o.Endpoints.SNS, "endpoints.eventbridge": o.Endpoints.EventBridge} {
		if base != "" && !IsBaseURL(base) {
			return nil, fmt.Errorf("%s: %q is not a base URL such as https://sqs.us-east-1.amazonaws.com", setting, base)
		}
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{
		opts: o, aws: newClient((&net.Dialer{Timeout: 5 * time.Second}).DialContext), others: newClient(o.Dial),
		accounts: map[lambent.AccountID]int{}, targets: map[target]int{},
	}, nil
}

// IsBaseURL tells whether a text is one of http or https without a path.
func IsBaseURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// newClient makes a client that follows no redirect and asks no proxy, which would
// look names up by itself.
func newClient(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns: 64, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends the connections that are kept. Nothing is being sent any more.
func (s *Sender) Close() error {
	s.aws.CloseIdleConnections()
	s.others.CloseIdleConnections()
	return nil
}

// Send delivers a message. Its errors are *lambent.Error, with a Message for the
// account: KindThrottled where it was not tried, for too much is under way;
// KindUnavailable where trying again may help; KindInvalid, KindDenied or
// KindUnsupported where it does not.
func (s *Sender) Send(ctx context.Context, m *Message) error {
	deliver, place, err := s.way(m)
	if err != nil {
		return err
	}
	done, ok := s.begin(target{m.Account, place})
	if !ok {
		return &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindThrottled, Message: "too many records are being delivered to " + place + ", or by the account, at once"}
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	return deliver(ctx, m)
}

// way finds how a message is delivered, and to which place that is.
func (s *Sender) way(m *Message) (deliver func(context.Context, *Message) error, place string, err error) {
	if strings.HasPrefix(m.To, "arn:") {
		t, err := ParseARN(m.To)
		if err != nil {
			return nil, "", &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindInvalid, Message: err.Error()}
		}
		if err := s.Configured(t); err != nil {
			return nil, "", &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindUnsupported, Message: err.Error()}
		}
		switch t.Service {
		case SQS:
			return s.toSQS, m.To, nil
		case SNS:
			return s.toSNS, m.To, nil
		}
		return s.toEventBridge, m.To, nil
	}
	u, err := ParseURL(m.To)
	switch {
	case err != nil:
		return nil, "", &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindInvalid, Message: err.Error()}
	case u.Scheme == "nats":
		return s.toNATS, net.JoinHostPort(u.Hostname(), Port(u)), nil
	}
	return s.toHTTP, net.JoinHostPort(u.Hostname(), Port(u)), nil
}

// begin counts a delivery until done.
func (s *Sender) begin(t target) (done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= mostAtOnce || s.accounts[t.account] >= mostAtOnceAccount || s.targets[t] >= mostAtOnceTarget {
		return nil, false
	}
	s.all++
	s.accounts[t.account]++
	s.targets[t]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.accounts[t.account]--; s.accounts[t.account] == 0 {
			delete(s.accounts, t.account)
		}
		if s.targets[t]--; s.targets[t] == 0 {
			delete(s.targets, t)
		}
	}, true
}
