package api

import (
	"strings"
	"testing"

	"lambent"
)

// delivering has a door deliver to what is in the account, and to no queue named
// none; a role named idle may deliver nothing.
func delivering(o *Options) {
	o.Deliverable = func(account lambent.AccountID, role, arn string) error {
		switch {
		case strings.HasSuffix(role, "/idle"):
			return &lambent.Error{Kind: lambent.KindDenied}
		case strings.HasSuffix(arn, ":none"):
			return &lambent.Error{Kind: lambent.KindInvalid, Message: "the setting endpoints.sqs has to say where it is"}
		}
		return nil
	}
}

const (
	queueARN = "arn:aws:sqs:us-east-1:000000000000:q"
	topicARN = "arn:aws:sns:us-east-1:000000000000:t"
	busARN   = "arn:aws:events:us-east-1:000000000000:event-bus/b"
	idleRole = "arn:aws:iam::000000000000:role/idle"
	refusing = "error InvalidParameterValueException "
)

func TestDestinationsAreQueuesTopicsBusesAndFunctionsThatCanBeDeliveredTo(t *testing.T) {
	d := realDoor(t, delivering)
	d.make(t, "idle", "Role", idleRole)
	const path = "/2019-09-25/functions/f/event-invoke-config"
	const idle = "/2019-09-25/functions/idle/event-invoke-config"
	on := func(success, failure string) string {
		return ` {"DestinationConfig":{"OnSuccess":{"Destination":"` + success + `"},"OnFailure":{"Destination":"` + failure + `"}}}`
	}
	script{
		{"PUT " + path + on(queueARN, topicARN), "200", `{"OnSuccess":{"Destination":"` + queueARN + `"},"OnFailure":{"Destination":"` + topicARN + `"}}`},
		{"GET " + path, "200", queueARN},
		{"PUT " + path + on(busARN, ""), "200", busARN},
		{"PUT " + path + on(queueARN+".fifo", ""), "400", refusing + "The destination ARN " + queueARN + ".fifo is invalid."},
		{"PUT " + path + on("", topicARN+".fifo"), "400", refusing + "The destination ARN " + topicARN + ".fifo is invalid."},
		{"PUT " + path + on("arn:aws:events:us-east-1:000000000000:rule/x", ""), "400", refusing + "The destination ARN arn:aws:events:us-east-1:000000000000:rule/x is invalid."},
		{"PUT " + path + on("arn:aws:s3:::bucket", ""), "400", refusing + "This server delivers records of asynchronous invocations to no buckets: the destination arn:aws:s3:::bucket would get nothing."},
		{"PUT " + path + on("arn:aws:sqs:us-east-1:000000000000:none", ""), "400", refusing + "the setting endpoints.sqs has to say where it is"},
		{"PUT " + path + on("https://hook.test/", ""), "400", ""},
		{"PUT " + path + on(strings.Replace(arnOfF, "us-east-1", "eu-west-1", 1), ""), "400", refusing + "The destination ARN " + strings.Replace(arnOfF, "us-east-1", "eu-west-1", 1) + " is invalid."},
		{"PUT " + idle + on(queueARN, ""), "400", refusing + "The function's execution role does not have permissions to call SendMessage on " + queueARN},
		{"PUT " + idle + on(topicARN, ""), "400", refusing + "The function's execution role does not have permissions to call Publish on " + topicARN},
		{"PUT " + idle + on("", busARN), "400", refusing + "The function's execution role does not have permissions to call PutEvents on " + busARN},
		{"PUT " + idle + on("", arnOfF), "400", refusing + "The function's execution role does not have permissions to call InvokeFunction on " + arnOfF},
	}.run(t, d)
}

func TestDeadLettersGoToQueuesAndTopicsAndVersionsKeepThem(t *testing.T) {
	d := realDoor(t, delivering)
	config := func(arn string) map[string]any { return m{"TargetArn": arn} }
	got := d.create(t, "dead", "DeadLetterConfig", config(queueARN), "Publish", true)
	if got.status != 201 || !strings.Contains(got.raw, `"DeadLetterConfig":{"TargetArn":"`+queueARN+`"}`) {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	d.settle(t, "dead")
	const path = "/2015-03-31/functions/dead/configuration"
	put := func(body, status, want string) {
		t.Helper()
		script{{"PUT " + path + " " + body, status, want}}.run(t, d)
		d.settle(t, "dead")
	}
	put(`{"Timeout":5}`, "200", queueARN)
	put(`{"DeadLetterConfig":{"TargetArn":"`+topicARN+`"}}`, "200", `"DeadLetterConfig":{"TargetArn":"`+topicARN+`"}`)
	const only = refusing + "Invalid dead letter ARN: it must be the one of a standard queue of SQS or a standard topic of SNS: "
	for _, arn := range []string{queueARN + ".fifo", topicARN + ".fifo", busARN, arnOfF, "arn:aws:sqs:us-east-1:1:q"} {
		put(`{"DeadLetterConfig":{"TargetArn":"`+arn+`"}}`, "400", only+arn)
	}
	put(`{"DeadLetterConfig":{"TargetArn":"arn:aws:sqs:us-east-1:000000000000:none"}}`, "400", refusing+"the setting endpoints.sqs has to say where it is")
	put(`{"Role":"`+idleRole+`"}`, "400", refusing+"The provided execution role does not have permissions to call Publish on SNS")
	put(`{"Role":"`+idleRole+`","DeadLetterConfig":{"TargetArn":"`+queueARN+`"}}`, "400", refusing+"The provided execution role does not have permissions to call SendMessage on SQS")
	script{
		{"GET " + path, "200", topicARN},
		{"GET " + path + "?Qualifier=1", "200", queueARN},
		{"GET /2015-03-31/functions/dead", "200", topicARN},
		{"POST /2015-03-31/functions/dead/versions {}", "201", `"Version":"2"`},
	}.run(t, d)
	put(`{"Role":"`+idleRole+`","DeadLetterConfig":{"TargetArn":""}}`, "200", idleRole)
	if got := d.do(t, "GET", path, ""); strings.Contains(got.raw, "DeadLetterConfig") {
		t.Errorf("it is still there: %s", got.raw)
	}
}

func TestSecuritySecretsOfDestinationsAreNotShown(t *testing.T) {
	d := newStoredDoor(t)
	d.API.HandleSettings(d.stored)
	d.create(t, "f")
	d.wait()
	const path, hidden = "/_lambent/v1/functions/f/settings", `{"destinations":{"on_success":"https://hook.test/x","secret":"********"}}`
	secret := func() string {
		s, err := d.stored.PlatformSettings(lambent.DefaultAccount, "f")
		if err != nil || s == nil || s.Destinations == nil {
			t.Fatalf("%+v, %v", s, err)
		}
		return s.Destinations.Secret
	}
	for _, step := range []struct{ method, body, want, secret string }{
		{"PUT", `{"destinations":{"on_success":"https://hook.test/x","secret":"0123456789abcdef"}}`, hidden, "0123456789abcdef"},
		{"GET", "", hidden, "0123456789abcdef"},
		{"PUT", hidden, hidden, "0123456789abcdef"},
		{"PUT", `{"destinations":{"on_failure":"nats://bus.test/orders.failed"}}`, `{"destinations":{"on_failure":"nats://bus.test/orders.failed"}}`, ""},
	} {
		if got := d.do(t, step.method, path, step.body); got.status != 200 || got.raw != step.want || secret() != step.secret {
			t.Errorf("%s %s: %d %s; the secret is %q", step.method, step.body, got.status, got.raw, secret())
		}
	}
	if got := d.do(t, "PUT", path, hidden); got.status != 400 || !strings.Contains(got.raw, "there is none") {
		t.Errorf("what stands for a secret that is not there: %d %s", got.status, got.raw)
	}
	for body, part := range map[string]string{
		`{"on_success":"ftp://x/"}`: "nor nats://", `{"on_success":"http://u:p@x/"}`: "user or password", `{"on_success":"` + queueARN + `"}`: "PutFunctionEventInvokeConfig", `{"on":1}`: `unknown field "on"`, `{"secret":"short"}`: "16 to 256",
		`{"secret":"whsec_!!!!!!!!!!!!!!!!!!"}`: "Base64", `{"on_success":7}`: "cannot be a JSON number", `{"on_failure":"nats://x/a.*"}`: "subject",
	} {
		if message := d.do(t, "PUT", path, `{"destinations":`+body+`}`).wantError(t, 400, "InvalidRequestContentException"); !strings.Contains(message, part) {
			t.Errorf("%s: %s", body, message)
		}
	}
}
