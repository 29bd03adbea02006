// Command gokit is the function the tests use from Go, on aws-lambda-go as
// everybody's Go functions are: the event's op says what it does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// calls is kept between calls of one container.
var calls int

type event struct {
	Op     string   `json:"op"`
	Value  any      `json:"value"`
	Status int      `json:"status"`
	Ms     int      `json:"ms"`
	Bytes  int      `json:"bytes"`
	Token  *string  `json:"token"`
	Lines  []string `json:"lines"`
}

type customError struct{ what string }

func (e *customError) Error() string { return e.what }

func handle(ctx context.Context, e event) (any, error) {
	calls++
	switch e.Op {
	case "echo":
		return e.Value, nil
	case "nothing":
		return nil, nil
	case "calls":
		return calls, nil
	case "credentials":
		return askCredentials(ctx, e.Token)
	case "env":
		env := map[string]string{}
		for _, pair := range os.Environ() {
			k, v, _ := strings.Cut(pair, "=")
			env[k] = v
		}
		return env, nil
	case "context":
		return describe(ctx)
	case "throw":
		return nil, &customError{"boom"}
	case "panic":
		panic("aaah")
	case "exit":
		os.Exit(e.Status)
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Duration(e.Ms) * time.Millisecond)
		return "slept", nil
	case "big":
		return strings.Repeat("x", e.Bytes), nil
	case "stream":
		return stream(e), nil
	case "log":
		for _, l := range e.Lines {
			fmt.Println(l)
		}
		return nil, nil
	}
	return nil, errors.New("no such op: " + e.Op)
}

// stream answers the lines one after the other, so many ms apart; behind the last
// it ends with the status, where there is one, or fails where value says so.
func stream(e event) io.Reader {
	r, w := io.Pipe()
	go func() {
		for _, l := range e.Lines {
			_, _ = io.WriteString(w, l) // the reader ends only with the program
			time.Sleep(time.Duration(e.Ms) * time.Millisecond)
		}
		if e.Status != 0 {
			os.Exit(e.Status)
		}
		if e.Value == "fail" {
			_ = w.CloseWithError(&customError{"boom"})
			return
		}
		_ = w.Close()
	}()
	return r
}

func describe(ctx context.Context) (any, error) {
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return nil, errors.New("no context")
	}
	deadline, _ := ctx.Deadline()
	var client any
	if len(lc.ClientContext.Custom)+len(lc.ClientContext.Env) > 0 {
		client = map[string]any{"custom": lc.ClientContext.Custom, "env": lc.ClientContext.Env}
	}
	return map[string]any{
		"requestId": lc.AwsRequestID, "name": lambdacontext.FunctionName, "version": lambdacontext.FunctionVersion,
		"arn": lc.InvokedFunctionArn, "memory": fmt.Sprint(lambdacontext.MemoryLimitInMB),
		"group": lambdacontext.LogGroupName, "stream": lambdacontext.LogStreamName,
		"remaining": time.Until(deadline).Milliseconds(), "client": client, "trace": os.Getenv("_X_AMZN_TRACE_ID"),
	}, nil
}

func main() { lambda.Start(handle) }

// askCredentials asks for the function's credentials as AWS's SDKs do.
func askCredentials(ctx context.Context, token *string) (any, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
	if token != nil {
		req.Header.Set("Authorization", *token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out map[string]string
	err = json.NewDecoder(resp.Body).Decode(&out)
	return out, err
}
