package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

type psCommand struct {
	remote
	Watch    bool          `short:"w" help:"Show it again and again, until Ctrl-C."`
	Interval time.Duration `default:"1s" help:"How often, with --watch."`
}

func (psCommand) Help() string {
	return `Pools are the instances kept warm; an instance is a sandbox; a container holds one function in one.

Examples:
  lambent ps
  lambent ps -w`
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
)

// Run shows the pools, instances and containers.
func (p *psCommand) Run(ctx context.Context, s Streams) error {
	c, err := p.client(s)
	if err != nil {
		return err
	}
	if !p.Watch {
		return p.show(ctx, c, s.Out)
	}
	if p.Interval < 50*time.Millisecond {
		return fmt.Errorf("--interval %v is shorter than 50ms", p.Interval)
	}
	tick := time.NewTicker(p.Interval)
	defer tick.Stop()
	for {
		// Collected first, so that the screen does not flicker.
		var screen bytes.Buffer
		screen.WriteString("\x1b[H\x1b[2J" + c.endpoint + "  " + c.now().Format(time.TimeOnly) + "\n\n")
		if err := p.show(ctx, c, &screen); err != nil {
			return err
		}
		if _, err := s.Out.Write(screen.Bytes()); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *psCommand) show(ctx context.Context, c *client, out io.Writer) error {
	var pools []poolRow
	var instances []instanceRow
	var containers []containerRow
	for _, from := range []struct {
		path string
		rows any
	}{{"pools", &pools}, {"instances", &instances}, {"containers", &containers}} {
		if err := c.call(ctx, http.MethodGet, "/_lambent/v1/"+from.path, nil, from.rows); err != nil {
			return fmt.Errorf("read the %s: %w", from.path, err)
		}
	}
	t := newTable(out, "POOL", "TARGET", "READY", "OWNER")
	for _, r := range pools {
		t.row(r.Configuration, strconv.Itoa(r.Target), strconv.Itoa(r.Ready), r.Owner)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out, "INSTANCE", "STATE", "ACCOUNT", "CONFIGURATION", "MEMORY", "FREE", "HOST")
	for _, r := range instances {
		t.row(r.ID, r.State, r.Account, r.Configuration, megabytes(r.MemoryMB), megabytes(r.FreeMB), r.Host)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out, "CONTAINER", "INSTANCE", "STATE", "ACCOUNT", "FUNCTION", "VERSION", "MEMORY", "IDLE", "PID")
	for _, r := range containers {
		idle, pid := "", ""
		if since := readTime(r.IdleSince); !since.IsZero() && r.State != "busy" {
			idle = c.now().Sub(since).Round(time.Second).String()
		}
		if r.PID != 0 {
			pid = strconv.Itoa(r.PID)
		}
		t.row(r.ID, r.Instance, r.State, r.Account, r.Function, r.Version, megabytes(r.MemoryMB), idle, pid)
	}
	return t.flush()
}

func megabytes(n int) string { return strconv.Itoa(n) + " MB" }
