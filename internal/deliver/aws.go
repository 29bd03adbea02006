package deliver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/sigv4"
)

// The request of each service is the one that its API reference of AWS has; the
// field names are theirs.

type sqsMessage struct {
	QueueURL          string `json:"QueueUrl"`
	MessageBody       string
	MessageAttributes map[string]sqsAttribute `json:",omitempty"`
}

type sqsAttribute struct{ DataType, StringValue string }

// toSQS does SendMessage, by the JSON protocol. The queue's URL is made of its ARN
// as AWS makes it.
func (s *Sender) toSQS(ctx context.Context, m *Message) error {
	queue, err := ParseARN(m.To)
	if err != nil {
		return err
	}
	q := sqsMessage{QueueURL: strings.TrimSuffix(s.opts.Endpoints.SQS, "/") + "/" + string(queue.Account) + "/" + queue.Name, MessageBody: string(m.Body)}
	for _, a := range m.Attributes {
		if q.MessageAttributes == nil {
			q.MessageAttributes = map[string]sqsAttribute{}
		}
		q.MessageAttributes[a.Name] = sqsAttribute{a.Type, a.Value}
	}
	answer, err := s.call(ctx, m.To, SQS, "application/x-amz-json-1.0", "AmazonSQS.SendMessage", marshal(q))
	if err != nil {
		return err
	}
	var sent struct {
		MessageID string `json:"MessageId"`
	}
	if err := json.Unmarshal(answer, &sent); err != nil || sent.MessageID == "" {
		return noAnswer(m.To, "SQS", err)
	}
	return nil
}

// toSNS does Publish, by the query protocol.
func (s *Sender) toSNS(ctx context.Context, m *Message) error {
	q := url.Values{"Action": {"Publish"}, "Version": {"2010-03-31"}, "TopicArn": {m.To}, "Message": {string(m.Body)}}
	for i, a := range m.Attributes {
		entry := "MessageAttributes.entry." + strconv.Itoa(i+1)
		q.Set(entry+".Name", a.Name)
		q.Set(entry+".Value.DataType", a.Type)
		q.Set(entry+".Value.StringValue", a.Value)
	}
	answer, err := s.call(ctx, m.To, SNS, "application/x-www-form-urlencoded; charset=utf-8", "", []byte(q.Encode()))
	if err != nil {
		return err
	}
	var published struct {
		PublishResult struct {
			MessageID string `xml:"MessageId"`
		}
	}
	if err := xml.Unmarshal(answer, &published); err != nil || published.PublishResult.MessageID == "" {
		return noAnswer(m.To, "SNS", err)
	}
	return nil
}

// noAnswer is the error of a status that says yes and an answer that does not: that
// of a proxy, or of another service at the endpoint.
func noAnswer(to, service string, err error) error {
	return &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindUnavailable, Message: "its endpoint answered with what is no answer of " + service + "'s", Err: err}
}

type putEvents struct{ Entries []busEvent }

type busEvent struct {
	Source, DetailType, Detail, EventBusName string
	Resources                                []string
}

// toEventBridge does PutEvents. What the event is called is AWS's (developer
// guide, "Capturing records of Lambda asynchronous invocations").
func (s *Sender) toEventBridge(ctx context.Context, m *Message) error {
	kind := "Failure"
	if m.Success {
		kind = "Success"
	}
	answer, err := s.call(ctx, m.To, EventBridge, "application/x-amz-json-1.1", "AWSEvents.PutEvents", marshal(putEvents{[]busEvent{{
		Source: "lambda", DetailType: "Lambda Function Invocation Result - " + kind, Detail: string(m.Body), EventBusName: m.To, Resources: []string{m.To, m.FunctionARN},
	}}}))
	if err != nil {
		return err
	}
	var put struct {
		FailedEntryCount int
		Entries          []struct{ ErrorCode, ErrorMessage string }
	}
	if err := json.Unmarshal(answer, &put); err != nil || len(put.Entries) != 1 {
		return noAnswer(m.To, "EventBridge", err)
	}
	if e := put.Entries[0]; put.FailedEntryCount > 0 || e.ErrorCode != "" { // it answers 200 all the same
		return refused(m.To, http.StatusOK, e.ErrorCode, e.ErrorMessage)
	}
	return nil
}

func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // texts only
	return bytes.TrimRight(b.Bytes(), "\n")
}

// call posts a request to a service's endpoint and gives its answer.
func (s *Sender) call(ctx context.Context, to string, service Service, contentType, operation string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.endpoint(service), "/")+"/", bytes.NewReader(body))
	if err != nil {
		return nil, &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindInternal, Err: err}
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "lambent")
	if operation != "" {
		r.Header.Set("X-Amz-Target", operation)
	}
	if err := s.sign(r, service, body); err != nil {
		return nil, &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindUnavailable, Message: "the server has no keys to sign the request with", Err: err}
	}
	resp, err := s.aws.Do(r)
	if err != nil {
		return nil, unreachable(to, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, unreachable(to, err)
	case resp.StatusCode == http.StatusOK:
		return answer, nil
	}
	code, text := errorIn(answer)
	return nil, refused(to, resp.StatusCode, code, text)
}

func (s *Sender) sign(r *http.Request, service Service, body []byte) error {
	if s.opts.Endpoints.Credentials == nil {
		return nil
	}
	who, err := s.opts.Endpoints.Credentials()
	if err != nil || who.AccessKeyID == "" {
		return err
	}
	sum := sha256.Sum256(body)
	return sigv4.Sign(r, who, hex.EncodeToString(sum[:]), string(service), s.opts.Endpoints.Region, s.opts.Now())
}

// errorIn reads an error of the JSON or of the query protocol.
func errorIn(answer []byte) (code, text string) {
	var doc struct {
		Type    string `json:"__type"`
		Message string // some services begin it with a small letter, some send both
	}
	if json.Unmarshal(answer, &doc) == nil && doc.Type != "" {
		return doc.Type[strings.LastIndexByte(doc.Type, '#')+1:], doc.Message
	}
	var query struct {
		Error struct{ Code, Message string }
	}
	_ = xml.Unmarshal(answer, &query) // what is neither has no code
	return query.Error.Code, query.Error.Message
}

// hopeless are the codes of what no second try mends: the message itself is
// refused.
var hopeless = []string{"InvalidMessageContents", "InvalidParameterValue", "InvalidParameter", "InvalidAttributeValue", "ParameterValueInvalid", "BatchRequestTooLong",
	"ValidationError", "ValidationException", "MalformedDetail", "RequestEntityTooLarge", "UnsupportedOperation"}

func refused(to string, status int, code, text string) error {
	kind := lambent.KindUnavailable
	if slices.Contains(hopeless, code) || status == http.StatusRequestEntityTooLarge {
		kind = lambent.KindInvalid
	}
	message := fmt.Sprintf("its endpoint answered with status %d", status)
	if code != "" {
		message = "its endpoint answered with " + clean(code) + ": " + clean(text)
	}
	return &lambent.Error{Op: "deliver", Resource: to, Kind: kind, Message: message}
}

// clean makes an endpoint's text fit into one line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), ""))
	return strings.ToValidUTF8(s[:min(len(s), 500)], "")
}
