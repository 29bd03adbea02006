package deliver

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"lambent"
)

// Service is one of AWS's that messages go to.
type Service string

// The services, as ARNs have them.
const (
	SQS         Service = "sqs"
	SNS         Service = "sns"
	EventBridge Service = "events"
)

// Setting is the name of the one that says where the service is.
func (s Service) Setting() string {
	if s == EventBridge {
		return "endpoints.eventbridge"
	}
	return "endpoints." + string(s)
}

// Action is the permission that a delivery takes.
func (s Service) Action() string {
	switch s {
	case SQS:
		return "sqs:SendMessage"
	case SNS:
		return "sns:Publish"
	}
	return "events:PutEvents"
}

// Resource is a queue, a topic or an event bus.
type Resource struct {
	Service Service
	Region  string
	Account lambent.AccountID
	Name    string
	ARN     string
}

// resourcePattern has the names of queues and topics (80 and 256 characters of
// these at most) and of event buses, of which partners' have slashes.
var resourcePattern = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*):(?:(sqs|sns):([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,256}(?:\.fifo)?)|(events):([a-z0-9-]+):([0-9]{12}):event-bus/([A-Za-z0-9._/-]{1,256}))$`)

// ParseARN reads the ARN of a queue, topic or event bus, none of which is FIFO:
// to those Lambda sends nothing (developer guide, "Adding a destination").
func ParseARN(arn string) (Resource, error) {
	m := resourcePattern.FindStringSubmatch(arn)
	if m == nil {
		return Resource{}, fmt.Errorf("%s is not the ARN of a queue, a topic or an event bus", arn)
	}
	r := Resource{Service(m[2]), m[3], lambent.AccountID(m[4]), m[5], arn}
	if m[6] != "" {
		r = Resource{EventBridge, m[7], lambent.AccountID(m[8]), m[9], arn}
	}
	if r.Service != EventBridge && strings.HasSuffix(r.Name, ".fifo") {
		return Resource{}, fmt.Errorf("%s is FIFO, to which nothing is sent", arn)
	}
	return r, nil
}

// endpoint is where a service is.
func (s *Sender) endpoint(service Service) string {
	switch service {
	case SQS:
		return s.opts.Endpoints.SQS
	case SNS:
		return s.opts.Endpoints.SNS
	}
	return s.opts.Endpoints.EventBridge
}

// Configured says why nothing can be delivered to a resource by the endpoints
// there are.
func (s *Sender) Configured(r Resource) error {
	if s.endpoint(r.Service) == "" {
		return fmt.Errorf("this server has no endpoint of the service; the setting %s has to say where it is", r.Service.Setting())
	}
	if r.Region != s.opts.Endpoints.Region {
		return fmt.Errorf("it is of another region than this server's endpoints, which are of %s (endpoints.region)", s.opts.Endpoints.Region)
	}
	return nil
}

// mostURL bounds what is stored as one.
const mostURL = 1000

// ParseURL reads a URL that messages can go to: of http or https, or
// nats://HOST:PORT/SUBJECT.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "nats":
		return nil, fmt.Errorf("%.100q is neither a URL of http or https nor nats://HOST:PORT/SUBJECT", text)
	case len(text) > mostURL:
		return nil, fmt.Errorf("the URL %.40q… is longer than %d bytes", text, mostURL)
	case u.User != nil:
		return nil, errors.New("a URL must not have a user or password in it: it is shown, and sent with nothing")
	case u.Fragment != "" || strings.Contains(text, "#"):
		return nil, fmt.Errorf("the URL %.100q has a fragment, which nobody is sent", text)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("the URL %.100q has no port between 1 and 65535", text)
		}
	}
	if u.Scheme == "nats" && !isSubject(strings.TrimPrefix(u.Path, "/")) || u.Scheme == "nats" && u.RawQuery != "" {
		return nil, fmt.Errorf("%.100q does not end in a subject of NATS to publish to, such as nats://bus.lan:4222/orders.done", text)
	}
	return u, nil
}

// Port is a URL's, or that of its scheme.
func Port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "nats":
		return "4222"
	}
	return "80"
}

// isSubject tells whether NATS takes messages to a subject: tokens between dots,
// without wildcards. What begins with $ is the server's own.
func isSubject(s string) bool {
	if s == "" || len(s) > 256 || s[0] == '$' || s == "_INBOX" || strings.HasPrefix(s, "_INBOX.") {
		return false
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }) {
			return false
		}
	}
	return true
}
