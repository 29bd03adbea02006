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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// language is one way to write the function that answers each event with itself.
type language struct {
	name, runtime, handler string
	file                   string // in the package
	code                   []byte
}

func node() language {
	return language{"Node", "nodejs22.x", "index.handler", "index.mjs", []byte("export const handler = async (event) => event;\n")}
}

func python() language {
	return language{"Python", "python3.13", "app.handler", "app.py", []byte("def handler(event, context):\n    return event\n")}
}

// buildBootstrap builds the function in Go, below dir.
func buildBootstrap(ctx context.Context, dir string) (language, error) {
	progress("building the Go function")
	out := filepath.Join(dir, "bootstrap")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./scripts/figures/bootstrap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := cmd.CombinedOutput(); err != nil {
		return language{}, fmt.Errorf("build the Go function, from the repository's folder: %w\n%s", err, text)
	}
	code, err := os.ReadFile(out)
	return language{"`provided` (Go)", "provided.al2023", "bootstrap", "bootstrap", code}, err
}

// pack makes a deployment package. Those of different marks differ, so that
// nothing that is kept of one helps another.
func (l language) pack(mark string) ([]byte, error) {
	var pkg bytes.Buffer
	z := zip.NewWriter(&pkg)
	for _, file := range []struct {
		name string
		data []byte
	}{{l.file, l.code}, {"mark.txt", []byte(mark)}} {
		h := &zip.FileHeader{Name: file.name, Method: zip.Deflate}
		h.SetMode(0o755)
		f, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(file.data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return pkg.Bytes(), nil
}

// user calls the API as an account.
type user struct {
	endpoint, account string
}

// operator is who asks without credentials, from the server's own machine, and
// sees the instances of all accounts.
const operator = ""

func (u user) request(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	u.sign(req)
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

// sign says who asks; the server that is measured takes everybody at his word.
func (u user) sign(req *http.Request) {
	if u.account != operator {
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+u.account+"/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64))
	}
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
	return json.NewDecoder(resp.Body).Decode(out)
}

func drop(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, body) // so that the connection is used again
	_ = body.Close()
}

// deploy makes a function of the least memory there is and waits until it can be
// called.
func (u user) deploy(ctx context.Context, name string, l language) error {
	pkg, err := l.pack(u.account + " " + name)
	if err != nil {
		return err
	}
	err = u.call(ctx, http.MethodPost, "/2015-03-31/functions", map[string]any{
		"FunctionName": name, "Runtime": l.runtime, "Handler": l.handler, "Role": "arn:aws:iam::" + u.account + ":role/figures",
		"Code": map[string]any{"ZipFile": pkg}, "MemorySize": 128, "Timeout": 30,
	}, nil)
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		var c struct{ State, StateReason string }
		if err := u.call(ctx, http.MethodGet, "/2015-03-31/functions/"+name+"/configuration", nil, &c); err != nil {
			return false, err
		}
		if c.State != "Active" && c.State != "Pending" {
			return false, fmt.Errorf("%s is %s: %s", name, c.State, c.StateReason)
		}
		return c.State == "Active", nil
	})
}

func (u user) remove(ctx context.Context, name string) error {
	return u.call(ctx, http.MethodDelete, "/2015-03-31/functions/"+name, nil, nil)
}

var event = []byte(`{"hello":"world","n":42}`)

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
	if resp.Header.Get("X-Amz-Function-Error") != "" || !isEvent(answer) {
		return nil, fmt.Errorf("%s answered %s", name, answer)
	}
	return resp.Header, nil
}

// isEvent compares an answer with the event, whatever the spaces in it.
func isEvent(answer []byte) bool {
	if bytes.Equal(answer, event) {
		return true
	}
	var compact bytes.Buffer
	return json.Compact(&compact, answer) == nil && bytes.Equal(compact.Bytes(), event)
}

func (u user) timedInvoke(ctx context.Context, name string) (time.Duration, error) {
	begin := time.Now()
	_, err := u.invoke(ctx, name)
	return time.Since(begin), err
}

// start is how a call got its container, as the server tells.
type start struct {
	until time.Duration // from receipt until the runtime was handed the event
	kind  string
}

func (u user) start(ctx context.Context, name string) (start, error) {
	h, err := u.invoke(ctx, name)
	if err != nil {
		return start{}, err
	}
	received, err1 := time.Parse(time.RFC3339Nano, h.Get("X-Lambent-Received-At"))
	started, err2 := time.Parse(time.RFC3339Nano, h.Get("X-Lambent-Exec-Started-At"))
	if err := errors.Join(err1, err2); err != nil {
		return start{}, fmt.Errorf("the answer does not tell its times: %w", err)
	}
	return start{started.Sub(received), h.Get("X-Lambent-Start-Kind")}, nil
}

// patience is how long anything may take to come true.
const patience = 60 * time.Second

// poll waits until is holds.
func poll(ctx context.Context, is func() (bool, error)) error {
	for begin := time.Now(); time.Since(begin) < patience; {
		if ok, err := is(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("it did not come true within %v", patience)
}
