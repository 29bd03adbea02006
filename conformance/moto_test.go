//go:build moto

package conformance

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"lambent/conformance/lab"
)

// moto runs somebody else's SQS, SNS and EventBridge: it was written by others,
// from AWS's documentation. It is neither a Go module nor a package of Debian's, so
// this is for machines that have it: go test -tags moto.
func moto(t *testing.T) (url string) {
	t.Helper()
	program, err := exec.LookPath("moto_server")
	if err != nil {
		t.Fatal("moto_server is not installed (pip install 'moto[server]')")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait() // it was killed
	})
	url = "http://127.0.0.1:" + port
	lab.Eventually(t, "moto serves", func() error {
		resp, err := http.Get(url + "/moto-api/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	return url
}

const motoAccount = "123456789012" // of everything in it

func TestRecordsAndDeadLettersReachMoto(t *testing.T) {
	t.Parallel()
	url := moto(t)
	keys := credentials.NewStaticCredentialsProvider("test", "test", "")
	queues := sqs.New(sqs.Options{Region: lab.Region, BaseEndpoint: &url, Credentials: keys})
	topics := sns.New(sns.Options{Region: lab.Region, BaseEndpoint: &url, Credentials: keys})
	buses := eventbridge.New(eventbridge.Options{Region: lab.Region, BaseEndpoint: &url, Credentials: keys})
	ctx := t.Context()
	arn := func(service, name string) string {
		return "arn:aws:" + service + ":" + lab.Region + ":" + motoAccount + ":" + name
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"results", "letters", "news", "events"} {
		_, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name})
		must(err)
	}
	_, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("topic")})
	must(err)
	_, err = topics.Subscribe(ctx, &sns.SubscribeInput{TopicArn: aws.String(arn("sns", "topic")), Protocol: aws.String("sqs"), Endpoint: aws.String(arn("sqs", "news"))})
	must(err)
	_, err = buses.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: aws.String("main")})
	must(err)
	_, err = buses.PutRule(ctx, &eventbridge.PutRuleInput{Name: aws.String("all"), EventBusName: aws.String("main"), EventPattern: aws.String(`{"source":["lambda"],"detail-type":["Lambda Function Invocation Result - Failure"]}`)})
	must(err)
	_, err = buses.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: aws.String("all"), EventBusName: aws.String("main"), Targets: []ebtypes.Target{{Id: aws.String("1"), Arn: aws.String(arn("sqs", "events"))}}})
	must(err)
	receive := func(name string) (body string, attributes map[string]string) {
		t.Helper()
		queue := url + "/" + motoAccount + "/" + name
		lab.Eventually(t, "a message in "+name, func() error {
			got, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &queue, MessageAttributeNames: []string{"All"}})
			if err != nil {
				return err
			}
			if len(got.Messages) == 0 {
				return fmt.Errorf("there is none")
			}
			body, attributes = aws.ToString(got.Messages[0].Body), map[string]string{}
			for name, a := range got.Messages[0].MessageAttributes {
				attributes[name] = aws.ToString(a.DataType) + " " + aws.ToString(a.StringValue)
			}
			return nil
		})
		return body, attributes
	}

	c := newServer(t, append(slices.Clone(soon), "--endpoints-sqs", url, "--endpoints-sns", url, "--endpoints-eventbridge", url, "--endpoints-region", lab.Region, "--endpoints-credentials", lab.NewMessaging(t).Credentials)...).Caller(t, motoAccount)
	in := c.Input(picky("work"))
	in.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: aws.String(arn("sqs", "letters"))}
	_, err = c.CreateFunction(ctx, in)
	must(err)
	c.AwaitActive(t, "work")
	must(destinationsOf(t, c, "work", "", arn("sqs", "results"), arn("sns", "topic")))
	work := c.ARN("work") + ":$LATEST"
	const oops = `{"errorType":"TypeError","errorMessage":"no 2"}`

	id := sendEvent(t, c, "work", "", `{"n":1}`)
	body, _ := receive("results")
	wantRecord(t, "queue", body, id, work, "Success", 1, `{"n":1}`, "$LATEST", `{"ok":1}`)
	id = sendEvent(t, c, "work", "", `{"n":2,"fail":true}`)
	body, attributes := receive("letters")
	if body != `{"n":2,"fail":true}` || attributes["RequestID"] != "String "+id || attributes["ErrorCode"] != "Number 200" || attributes["ErrorMessage"] != "String no 2" {
		t.Errorf("the dead letter is %s with %v", body, attributes)
	}
	var notification struct{ Message, TopicArn string }
	body, _ = receive("news")
	must(json.Unmarshal([]byte(body), &notification))
	wantRecord(t, "topic", notification.Message, id, work, "RetriesExhausted", 3, `{"n":2,"fail":true}`, "$LATEST", oops)

	must(destinationsOf(t, c, "work", "", "", arn("events", "event-bus/main")))
	id = sendEvent(t, c, "work", "", `{"n":2,"fail":true}`)
	var event struct {
		Source     string
		DetailType string `json:"detail-type"`
		Resources  []string
		Detail     json.RawMessage
	}
	body, _ = receive("events")
	must(json.Unmarshal([]byte(body), &event))
	wantRecord(t, "bus", string(event.Detail), id, work, "RetriesExhausted", 3, `{"n":2,"fail":true}`, "$LATEST", oops)
	if event.Source != "lambda" || !slices.Equal(event.Resources, []string{arn("events", "event-bus/main"), work}) {
		t.Errorf("the event is %s", body)
	}

	// A queue that is not there: it is tried again, and is a failure in the end.
	must(destinationsOf(t, c, "work", "", arn("sqs", "none"), ""))
	sendEvent(t, c, "work", "", `{"n":3}`)
	all := awaitFailures(t, c, "", func(all []failure) bool {
		return slices.ContainsFunc(all, func(f failure) bool { return f.Reason == "destination_failed" })
	})
	if n := slices.IndexFunc(all, func(f failure) bool { return f.Reason == "destination_failed" }); !strings.Contains(all[n].Error.Message, "QueueDoesNotExist: The specified queue does not exist.") {
		t.Errorf("kept is %+v", all[n])
	}
}
