package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type psCommand struct {
	remote
	Watch      bool          `short:"w" help:"A live view, until Ctrl-C; without a terminal, the tables again and again."`
	Interval   time.Duration `default:"1s" help:"How often, with --watch; at least 50ms."`
	Executions int           `short:"n" default:"-1" placeholder:"N" help:"Show the last N executions, with how and why each got its container. Default: 10 with --watch, else none."`
	All        bool          `short:"a" help:"Of all accounts, as the operator, who is whoever asks from the server's own machine. So it is without AWS_ACCESS_KEY_ID, and with an operator's key."`

	whose string // what the live view says it shows
}

func (psCommand) Help() string {
	return `A pool keeps instances warm: booted, their language runtime running, of no account yet. An instance is a sandbox with
a kernel of its own; from its first function on it belongs to one account. A container is one function version in an
instance, and is shown beneath it. MEMORY of an instance is what its containers were given, of what it can give.

What an execution's START says, the fastest first: container_reuse found an idle container; new_container used an
instance the account had; warm_pool took a warm instance; on_demand had to boot one. WAITED is from the request's
arrival until the function had the event, TOOK from there to the end.

EVENTS are of asynchronous calls, where there are any: WAITING for their turn, LATER for a retry, or UNDER WAY. OLDEST is
since when the one has been there whose turn is next.

Examples:
  lambent ps
  lambent ps -w
  lambent ps -n 20
  AWS_ACCESS_KEY_ID=123456789012 lambent ps      only what is this account's`
}

// What the admin paths answer.
type (
	poolRow struct {
		Configuration string `json:"configuration"`
		Target        int    `json:"target"`
		Ready         int    `json:"ready"`
		Owner         string `json:"owner"`
	}
	instanceRow struct {
		ID            string `json:"instance_id"`
		Host          string `json:"host"`
		State         string `json:"state"`
		Account       string `json:"account"`
		Configuration string `json:"configuration"`
		MemoryMB      int    `json:"memory_mb"`
		FreeMB        int    `json:"free_mb"`
	}
	containerRow struct {
		ID        string `json:"container_id"`
		Instance  string `json:"instance_id"`
		State     string `json:"state"`
		Account   string `json:"account"`
		Function  string `json:"function"`
		Version   string `json:"version"`
		MemoryMB  int    `json:"memory_mb"`
		IdleSince string `json:"idle_since"` // RFC 3339, or empty
		PID       int    `json:"pid"`
	}
	executionRow struct {
		Account       string `json:"account"`
		Function      string `json:"function"`
		ReceivedAt    string `json:"received_at"` // RFC 3339, as the next two; empty where it never was
		ExecStartedAt string `json:"exec_started_at"`
		FinishedAt    string `json:"finished_at"`
		StartKind     string `json:"start_kind"`
		Reason        string `json:"reason"`
		Status        string `json:"status"`
		Error         string `json:"error"`
	}
)

// queueRow is what waits for one version or alias of a function.
type queueRow struct {
	Account   string `json:"account"`
	Function  string `json:"function"`
	Qualifier string `json:"qualifier"`
	Waiting   int    `json:"waiting"`
	Delayed   int    `json:"delayed"`
	UnderWay  int    `json:"under_way"`
	Oldest    int    `json:"oldest_seconds"`
}

// view is what one look at the server shows.
type view struct {
	pools      []poolRow
	instances  []instanceRow
	containers []containerRow
	queues     []queueRow
	executions []executionRow // the newest first; nil: not wanted
}

// The bounds of --interval and --executions.
const (
	minInterval   = 50 * time.Millisecond
	maxExecutions = 100_000 // the server's
)

// Run shows the pools, instances, containers, events and executions.
func (p *psCommand) Run(ctx context.Context, s Streams) error {
	if p.Interval < minInterval {
		return fmt.Errorf("--interval %v is shorter than %v", p.Interval, minInterval)
	}
	if p.Executions < -1 || p.Executions > maxExecutions {
		return fmt.Errorf("--executions %d is not between 0 and %d", p.Executions, maxExecutions)
	}
	if p.Executions == -1 {
		p.Executions = 0
		if p.Watch {
			p.Executions = 10
		}
	}
	c, err := p.client(s)
	if err != nil {
		return err
	}
	c.anonymous = c.secret == "" && (p.All || s.Getenv("AWS_ACCESS_KEY_ID") == "") // an operator's key sees all by itself
	if p.Watch {
		account, operator, err := c.caller(ctx)
		if err != nil {
			return err
		}
		p.whose = "account " + string(account)
		if operator {
			p.whose = "all accounts"
		}
	}
	size := func() (terminalSize, bool) { return sizeOf(s.Out) }
	if s.Getenv("TERM") == "dumb" {
		size = func() (terminalSize, bool) { return terminalSize{}, false }
	}
	now, err := p.look(ctx, c)
	if err != nil {
		return err
	}
	window, live := size()
	switch {
	case !p.Watch:
		return writeLines(s.Out, now.lines(c.now(), window))
	case !live:
		return p.repeat(ctx, c, s.Out, now)
	}
	return p.live(ctx, c, s.Out, size, now)
}

// look asks the server.
func (p *psCommand) look(ctx context.Context, c *client) (*view, error) {
	v := &view{}
	wanted := []struct {
		path string
		rows any
	}{{"pools", &v.pools}, {"instances", &v.instances}, {"containers", &v.containers}, {"queues", &v.queues}}
	if p.Executions > 0 {
		wanted = append(wanted, struct {
			path string
			rows any
		}{fmt.Sprintf("executions?limit=%d", p.Executions), &v.executions})
	}
	for _, from := range wanted {
		if err := c.call(ctx, http.MethodGet, "/_lambent/v1/"+from.path, nil, from.rows); err != nil {
			what, _, _ := strings.Cut(from.path, "?")
			return nil, fmt.Errorf("read the %s: %w", what, err)
		}
	}
	return v, nil
}

// title is the line above a view that is shown again and again.
func (p *psCommand) title(c *client) string {
	return fmt.Sprintf("lambent at %s · %s · %s", c.endpoint, p.whose, c.now().Format(time.TimeOnly))
}

// isLocal reports whether the endpoint is on this machine, for all its URL says.
func (c *client) isLocal() bool {
	u, err := url.Parse(c.endpoint)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// repeat prints one view after the other, for files and pipes.
func (p *psCommand) repeat(ctx context.Context, c *client, out io.Writer, v *view) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	tick := time.NewTicker(p.Interval)
	defer tick.Stop()
	for {
		lines := append([]string{p.title(c), ""}, v.lines(c.now(), terminalSize{})...)
		if err := writeLines(out, append(lines, "")); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		if v, err = p.look(ctx, c); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// live shows the view in place until Ctrl-C, and then the terminal as it was. A
// server that does not answer for a while is told of and asked again.
func (p *psCommand) live(ctx context.Context, c *client, out io.Writer, size func() (terminalSize, bool), v *view) (err error) {
	ctx, stop := untilSignal(ctx)
	defer stop()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer func() {
		_, e := io.WriteString(out, leaveScreen)
		err = errors.Join(err, e)
	}()
	tick := time.NewTicker(p.Interval)
	defer tick.Stop()
	for trouble := ""; ; {
		window, _ := size()
		title := p.title(c) + " · Ctrl-C ends"
		if trouble != "" {
			title += " · " + trouble
		}
		if _, err := io.WriteString(out, frame(append([]string{title, ""}, v.linesWithin(c.now(), window, 2)...), window)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
			continue
		case <-tick.C:
		}
		next, err := p.look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			trouble, _, _ = strings.Cut(err.Error(), "\n")
			trouble = "TRYING AGAIN: " + printable(trouble)
		default:
			v, trouble = next, ""
		}
	}
}

func writeLines(out io.Writer, lines []string) error {
	if _, err := io.WriteString(out, strings.Join(lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
