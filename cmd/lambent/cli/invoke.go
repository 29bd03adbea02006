package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

type invokeCommand struct {
	remote
	Name      string `arg:"" help:"Name or ARN of the function."`
	Payload   string `short:"p" placeholder:"JSON" help:"The event: JSON, @FILE for that file's content, - or @- for standard input."`
	Async     bool   `help:"Only hand the event over; do not wait for an answer."`
	Qualifier string `short:"q" placeholder:"Q" help:"Version or alias."`
	Log       bool   `help:"Show the end of the execution's log, on standard error."`
	Verbose   bool   `short:"v" help:"Show how, where and when it started, on standard error."`
}

func (invokeCommand) Help() string {
	return `The answer goes to standard output. Exit status: 0; 1 where the function failed; 2 where the platform could not
run it.

Examples:
  lambent invoke hello --payload '{"name":"you"}'
  lambent invoke hello --payload @event.json -v
  generate-event | lambent invoke hello --payload - --log`
}

// Run calls the function and shows what came of it.
func (i *invokeCommand) Run(ctx context.Context, s Streams) error {
	c, err := i.client(s)
	if err != nil {
		return err
	}
	payload, err := readPayload(i.Payload, s.In)
	if err != nil {
		return err
	}
	begin := c.now()
	call, err := c.invoke(ctx, invocation{name: i.Name, qualifier: i.Qualifier, payload: payload, async: i.Async, wantLog: i.Log})
	if err != nil {
		return fmt.Errorf("invoke %s: %w", i.Name, err)
	}
	took := c.now().Sub(begin)
	if i.Log && len(call.log) > 0 {
		for line := range strings.Lines(string(call.log)) {
			fmt.Fprintln(s.Err, printable(strings.TrimRight(line, "\r\n")))
		}
	}
	if i.Verbose {
		call.describe(s.Err, took)
	}
	if i.Async {
		_, err := fmt.Fprintf(s.Err, "accepted, request %s\n", call.requestID)
		return err
	}
	if _, err := fmt.Fprintf(s.Out, "%s\n", call.answer); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if call.functionError != "" {
		fmt.Fprintf(s.Err, "lambent: invoke %s: the function failed (%s); its log: lambent logs %s --request-id %s\n",
			i.Name, call.functionError, i.Name, call.requestID)
		return errFault
	}
	return nil
}

// maxPayload is how much the server takes as an event, in bytes.
const maxPayload = 6*1024*1024 + 100

// readPayload reads what --payload means.
func readPayload(arg string, in io.Reader) ([]byte, error) {
	file, isFile := strings.CutPrefix(arg, "@")
	switch {
	case arg == "-" || arg == "@-":
		return readEvent(in, "standard input")
	case isFile:
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the event: %w", err)
		}
		defer f.Close()
		return readEvent(f, file)
	}
	return []byte(arg), nil
}

// readEvent reads an event to its end, which a device or a pipe may not have.
func readEvent(r io.Reader, from string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read the event from %s: %w", from, err)
	}
	if len(data) > maxPayload {
		return nil, fmt.Errorf("the event in %s is larger than an event may be: 6 MB, %d bytes", from, maxPayload)
	}
	return data, nil
}

type invocation struct {
	name, qualifier string
	payload         []byte
	async, wantLog  bool
}

// called is what an invocation came to.
type called struct {
	answer        []byte
	functionError string
	log           []byte
	requestID     string
	version       string
	startKind     string
	reason        string
	instance      string
	container     string
	receivedAt    time.Time // zero where the server does not tell
	startedAt     time.Time
}

func (c *client) invoke(ctx context.Context, i invocation) (called, error) {
	path := functionPath(i.name, "/invocations")
	if i.qualifier != "" {
		path += "?Qualifier=" + url.QueryEscape(i.qualifier)
	}
	header := http.Header{"X-Amz-Invocation-Type": {"RequestResponse"}}
	if i.async {
		header.Set("X-Amz-Invocation-Type", "Event")
	}
	if i.wantLog {
		header.Set("X-Amz-Log-Type", "Tail")
	}
	resp, err := c.send(ctx, http.MethodPost, path, i.payload, header)
	if err != nil {
		return called{}, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return called{}, fmt.Errorf("read the answer: %w", err)
	}
	h := resp.Header
	if h.Get("X-Amz-Executed-Version") == "" && !i.async {
		return called{}, &stranger{endpoint: c.endpoint}
	}
	log, err := base64.StdEncoding.DecodeString(h.Get("X-Amz-Log-Result"))
	if err != nil {
		return called{}, fmt.Errorf("read the log in the answer: %w", err)
	}
	return called{
		answer: answer, functionError: h.Get("X-Amz-Function-Error"), log: log,
		requestID: h.Get("X-Amzn-Requestid"), version: firstOf(h.Get("X-Lambent-Served-Version"), h.Get("X-Amz-Executed-Version")),
		startKind: h.Get("X-Lambent-Start-Kind"), reason: h.Get("X-Lambent-Reason"),
		instance: h.Get("X-Lambent-Instance-Id"), container: h.Get("X-Lambent-Container-Id"),
		receivedAt: readTime(h.Get("X-Lambent-Received-At")), startedAt: readTime(h.Get("X-Lambent-Exec-Started-At")),
	}, nil
}

// readTime reads a time of RFC 3339; the zero time stands for none.
func readTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// untilStart is the time from receipt to the event in the runtime's hands.
func (c *called) untilStart() (time.Duration, bool) {
	if c.receivedAt.IsZero() || c.startedAt.IsZero() {
		return 0, false
	}
	return c.startedAt.Sub(c.receivedAt), true
}

func (c *called) describe(w io.Writer, took time.Duration) {
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-12s%s\n", name, printable(value))
		}
	}
	row("request", c.requestID)
	row("version", c.version)
	start := c.startKind
	if c.reason != "" {
		start += " (" + c.reason + ")"
	}
	row("start", start)
	row("instance", c.instance)
	row("container", c.container)
	if d, ok := c.untilStart(); ok {
		row("started in", milliseconds(d))
	}
	row("answered in", milliseconds(took))
}

// milliseconds renders a time as people compare them: "8.31 ms".
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
