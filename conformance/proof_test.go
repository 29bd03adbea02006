package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// proofs follows events from the 202 to the proof that they were executed, through
// whatever happens to the server in between.
//
// Two functions take part. "work" answers with the HMAC of its request id under a
// key that only it and the test have: nobody can have that answer who did not
// execute the function for that very event. Its OnSuccess destination "witness"
// fails, without retries, whether it runs or its sandbox is killed, so that what it
// was given stands in the failure store: the witness's event is on the disk before
// the worker's is settled, and its failure before the witness's event is. So a
// proof that is there has been on the disk ever since, and an event without one is
// lost. Records of executions and logs are no proof: they are not synced before an
// event is settled.
type proofs struct {
	key     string
	account string

	mu sync.Mutex
	// +checklocks:mu
	accepted map[string]bool // request ids that were answered with 202
	// +checklocks:mu
	sent int
	// +checklocks:mu
	unanswered int // sent, and the connection ended: they may be accepted or not
	// +checklocks:mu
	refused []string // answers that are neither
}

const workCode = `
import { createHmac } from 'node:crypto';
export const handler = async (event, context) => {
  if (event.never || Math.random() < event.unlucky) throw new Error(event.never ? 'never' : 'unlucky');
  return createHmac('sha256', process.env.KEY).update(context.awsRequestId).digest('hex');
};`

const witnessCode = `
export const handler = async (record) => {
  throw new Error('witness of ' + record.requestContext.requestId);
};`

func newProofs() *proofs {
	return &proofs{key: "key of the test", account: fix.accounts.Next(), accepted: map[string]bool{}}
}

// deploy makes the two functions at a server.
func (p *proofs) deploy(t *testing.T, s *lab.Server) {
	t.Helper()
	c := s.Caller(t, p.account)
	for name, code := range map[string]string{"work": workCode, "witness": witnessCode} {
		f := lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.mjs", code), Timeout: 60, Env: map[string]string{"KEY": p.key}}
		if _, err := c.CreateFunction(t.Context(), c.Input(f)); err != nil {
			t.Fatal(err)
		}
		c.AwaitActive(t, name)
	}
	for _, in := range []lambda.PutFunctionEventInvokeConfigInput{
		{FunctionName: aws.String("work"), DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: aws.String(c.ARN("witness"))}}},
		{FunctionName: aws.String("witness"), MaximumRetryAttempts: aws.Int32(0)},
	} {
		if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
	}
}

// workEvent is what the worker is sent.
type workEvent struct {
	Never   bool    `json:"never"`   // it fails each time
	Unlucky float64 `json:"unlucky"` // how likely it fails, each time
	Filling string  `json:"filling"`
}

// send sends the worker an event and notes what was answered; false where nothing
// was, since the server is gone.
func (p *proofs) send(ctx context.Context, client *http.Client, url string, e workEvent) (answered bool) {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // it has nothing that cannot be written
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/2015-03-31/functions/work/invocations", strings.NewReader(string(body)))
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Amz-Invocation-Type", "Event")
	req.Header.Set("Authorization", unsigned(p.account))
	resp, err := client.Do(req)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	if err != nil {
		p.unanswered++
		return false
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // what is missing of an answer is not needed
	if id := resp.Header.Get("X-Amzn-Requestid"); resp.StatusCode == http.StatusAccepted && id != "" {
		p.accepted[id] = true
	} else {
		p.refused = append(p.refused, fmt.Sprintf("%s %.300s", resp.Status, text))
	}
	return true
}

// unsigned is an Authorization that names an account and proves nothing.
func unsigned(account string) string {
	return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/%s/lambda/aws4_request, SignedHeaders=host, Signature=%s", account, lab.Region, strings.Repeat("0", 64))
}

// verdict is what became of the events that were accepted.
type verdict struct {
	accepted   int
	executed   int      // there is a proof
	duplicates int      // proofs beyond the first of an event
	stored     int      // stand in the failure store without a proof
	both       int      // stand there with one: executed more than once, with different luck
	missing    []string // neither
	strange    []string // what cannot be
}

// judge reads what there is in the failure store.
func (p *proofs) judge(ctx context.Context, url string) (verdict, error) {
	all, err := p.failures(ctx, url)
	if err != nil {
		return verdict{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v := verdict{accepted: len(p.accepted)}
	proven, stored := map[string]int{}, map[string]bool{}
	for _, f := range all {
		var r struct { // AWS's record
			RequestContext  struct{ RequestID string }
			ResponsePayload string
		}
		mac := hmac.New(sha256.New, []byte(p.key))
		switch f.Reason {
		case "function_missing", "permission", "bad_event", "no_capacity", "expired":
			v.strange = append(v.strange, fmt.Sprintf("%.500s", fmt.Sprintf("%+v", f)))
		}
		if f.Function == "work" {
			stored[f.RequestID] = true
			continue
		}
		err := json.Unmarshal(f.Payload, &r)
		mac.Write([]byte(r.RequestContext.RequestID))
		if err != nil || r.ResponsePayload != hex.EncodeToString(mac.Sum(nil)) || f.Error.Type != "Error" && f.Error.Type != "Runtime.ExitError" {
			v.strange = append(v.strange, fmt.Sprintf("%v: %.500s: %s", err, fmt.Sprintf("%+v", f), f.Payload))
		}
		proven[r.RequestContext.RequestID]++
	}
	for id := range p.accepted {
		switch {
		case proven[id] > 0:
			v.executed++
			v.duplicates += proven[id] - 1
			if stored[id] {
				v.both++
			}
		case stored[id]:
			v.stored++
		default:
			v.missing = append(v.missing, id)
		}
	}
	slices.Sort(v.missing)
	return v, nil
}

// failures lists the failure store.
func (p *proofs) failures(ctx context.Context, url string) (all []failure, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/_lambent/v1/failures?limit=100000", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", unsigned(p.account))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET the failures: %s", resp.Status)
	}
	return all, json.NewDecoder(resp.Body).Decode(&all)
}

// await waits until every accepted event is accounted for, within a time that is
// long for so many, and fails the test where one is not.
func (p *proofs) await(t *testing.T, s *lab.Server) (v verdict) {
	t.Helper()
	p.mu.Lock()
	patience := lab.Patience + time.Duration(len(p.accepted))*50*time.Millisecond
	refused := slices.Clone(p.refused)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := lab.Until(ctx, func() (err error) {
		if v, err = p.judge(t.Context(), s.URL); err == nil && len(v.missing) > 0 {
			err = fmt.Errorf("%d of %d accepted events were neither executed nor stored as failures, such as %s", len(v.missing), v.accepted, v.missing[0])
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, text := range append(v.strange, refused...) {
		t.Errorf("unexpected: %s", text)
	}
	return v
}

// String tells the figures.
func (v verdict) String() string {
	return fmt.Sprintf("%d accepted: %d executed (%d duplicates), %d in the failure store, %d in both", v.accepted, v.executed, v.duplicates, v.stored, v.both)
}
