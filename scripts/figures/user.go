package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// user calls the API as an account.
type user struct{ endpoint, account string }

// operator is the account the admin paths are asked as.
const operator = "000000000000"

func (u user) request(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+u.account+"/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // what there is of it
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return resp, nil
}

func (u user) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	resp, err := u.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	if out == nil {
		return nil
	}
	return decode(resp.Body, out)
}

// deploy makes a Node function and waits until it can be called.
func (u user) deploy(ctx context.Context, name, source string) error {
	var pkg bytes.Buffer
	z := zip.NewWriter(&pkg)
	f, err := z.Create("index.mjs")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, source); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	err = u.call(ctx, http.MethodPost, "/2015-03-31/functions", map[string]any{
		"FunctionName": name, "Runtime": "nodejs22.x", "Handler": "index.handler", "Role": "arn:aws:iam::" + u.account + ":role/figures",
		"Code": map[string]any{"ZipFile": pkg.Bytes()}, "MemorySize": 128,
	}, nil)
	if err != nil {
		return err
	}
	for {
		var c struct{ State, StateReason string }
		if err := u.call(ctx, http.MethodGet, "/2015-03-31/functions/"+name+"/configuration", nil, &c); err != nil {
			return err
		}
		switch c.State {
		case "Active":
			return nil
		case "Pending":
		default:
			return fmt.Errorf("%s is %s: %s", name, c.State, c.StateReason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (u user) remove(ctx context.Context, name string) error {
	return u.call(ctx, http.MethodDelete, "/2015-03-31/functions/"+name, nil, nil)
}

// invoke calls a function; its answer must be the event.
func (u user) invoke(ctx context.Context, name string) (http.Header, error) {
	resp, err := u.request(ctx, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", event)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.Header.Get("X-Amz-Function-Error") != "" || !bytes.Equal(answer, event) {
		return nil, fmt.Errorf("%s answered %s", name, answer)
	}
	return resp.Header, nil
}

func (u user) timedInvoke(ctx context.Context, name string) (time.Duration, error) {
	begin := time.Now()
	_, err := u.invoke(ctx, name)
	return time.Since(begin), err
}

// firstInvoke gives the time from receipt until the runtime was handed the
// event, and the start kind, both as the server tells.
func (u user) firstInvoke(ctx context.Context, name string) (time.Duration, string, error) {
	h, err := u.invoke(ctx, name)
	if err != nil {
		return 0, "", err
	}
	received, err1 := time.Parse(time.RFC3339Nano, h.Get("X-Lambent-Received-At"))
	started, err2 := time.Parse(time.RFC3339Nano, h.Get("X-Lambent-Exec-Started-At"))
	if err := errors.Join(err1, err2); err != nil {
		return 0, "", fmt.Errorf("the answer does not tell its times: %w", err)
	}
	return started.Sub(received), h.Get("X-Lambent-Start-Kind"), nil
}

func (b *bareEcho) timedPost(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, bytes.NewReader(event))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(answer, event) {
		return 0, fmt.Errorf("the echo server answered %s", answer)
	}
	return time.Since(begin), nil
}
