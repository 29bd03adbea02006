package host

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/functionlog"
	"lambent/internal/hostinfo"
	"lambent/internal/runtimeapi"
)

// errInitLimit is why a context of Load ended.
var errInitLimit = errors.New("the init phase took too long")

// TimeoutError is a function that did not end its init or an invocation in time.
type TimeoutError struct {
	Phase string // "init" or "invoke"
	Limit time.Duration
}

// Error says which phase and the limit.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s phase timed out after %s", e.Phase, e.Limit)
}

// CodeError is code that could not be had on this machine: its store does not
// give it, or the disk does not take it.
type CodeError struct{ Err error }

// Error tells what could not be done.
func (e *CodeError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *CodeError) Unwrap() error { return e.Err }

// ExitError is a runtime that ended, or cut its connection, instead of
// answering.
type ExitError struct {
	runtimeapi.ExitError
	OutOfMemory bool // the machine ended it for memory
}

// Unwrap lets callers match the runtimeapi error.
func (e *ExitError) Unwrap() error { return &e.ExitError }

// exitGrace is how long the end of a process is waited for once its connection
// has ended: the two events come from different places. On a machine with much
// else to do they are up to half a second apart.
const exitGrace = 2 * time.Second

// failure makes of a session's error what happened to the runtime. The container
// is of no use afterwards.
//
// +checklocks:c.mu
func (c *Container) failure(err error) error {
	if c.timedOut {
		return &TimeoutError{Phase: "invoke", Limit: c.fn.Timeout()}
	}
	exit := &ExitError{}
	if c.starved {
		exit.Signal, exit.OutOfMemory = syscall.SIGKILL, true
		return exit
	}
	if !errors.Is(err, runtimeapi.ErrClosed) {
		return err // an init error, or a guest that broke the protocol
	}
	select {
	case <-c.exited:
		exit.Code, exit.Signal = c.exit.Code, syscall.Signal(c.exit.Signal)
	case <-time.After(exitGrace): // it lives, but cut the connection
	}
	if reported, ok := errors.AsType[*runtimeapi.ExitError](err); ok {
		exit.ExitError = *reported // a supervisor knows better
	}
	if usage, err := c.inst.box.Usage(); err == nil && usage.OOMKills > 0 {
		exit.OutOfMemory = true
		exit.Code, exit.Signal = 0, syscall.SIGKILL
	}
	return exit
}

// lastWords is what a runtime wrote before it failed to boot.
func (c *Container) lastWords() string {
	c.logs.drain()
	c.mu.Lock()
	defer c.mu.Unlock()
	if words := strings.TrimSpace(string(c.log.tail.bytes())); words != "" {
		return "; it wrote: " + words
	}
	return ""
}

// MaxMemoryUsed is the most memory, in MB, that the container was seen to use.
func (c *Container) MaxMemoryUsed() int {
	c.mu.Lock()
	now := c.host.now()
	stale, long := now.Sub(c.log.sampled) >= memorySampling, now.Sub(c.started) >= fullSpeed
	c.mu.Unlock()
	stale = stale || long && c.inst.grown()
	var memory int64
	read := false
	if stale {
		memory, read = c.inst.memoryOf(c.id, c.host.now(), memoryPatience)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if read {
		c.sampled(memory)
	} else if c.log.maxMemory == 0 && c.fn != nil { // the sandbox is too busy to tell, or gone: the least bound there is
		if usage, err := c.inst.box.Usage(); err == nil {
			c.log.maxMemory = min(usage.MemoryBytes, int64(c.fn.MemoryMB)<<20)
		}
	}
	return int((c.log.maxMemory + 1<<20 - 1) >> 20)
}

// sampled takes a reading of the container's memory, and tells whether it is
// within the function's.
//
// +checklocks:c.mu
func (c *Container) sampled(memory int64) (within bool) {
	c.log.sampled = c.host.now()
	c.log.maxMemory = max(c.log.maxMemory, memory)
	return c.fn == nil || memory <= int64(c.fn.MemoryMB)<<20
}

const (
	// memorySampling is how often the memory counter is read at most at the end of
	// an execution: reading it costs as much as a short call.
	memorySampling = 200 * time.Millisecond
	// memoryPatience is how long the end of an execution waits for a reading.
	memoryPatience = 20 * time.Millisecond
)

// initLine is the first line of a log stream; it tells when another version than
// the one asked for serves.
func (c *Container) initLine(asked lambent.Runtime) string {
	line := "INIT_START Runtime Version: " + c.banner
	if c.runtime.Image != "" {
		return line
	}
	if _, exact, _ := hostinfo.Match(asked, []hostinfo.Installed{c.runtime}); !exact {
		line += " (the nearest installed to " + string(asked) + ")"
	}
	return line
}

// Log puts a line of the platform's own into the function's log.
func (c *Container) Log(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appendLine(line)
}

// Begin starts an execution in the function's log: what follows is the
// request's. The first execution's tail keeps what init wrote.
func (c *Container) Begin(id lambent.RequestID, version lambent.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log.ended {
		c.log.tail.reset()
		c.log.ended = false
	}
	c.log.request = id
	c.appendLine("START RequestId: " + string(id) + " Version: " + string(version))
}

// End ends an execution in the function's log.
func (c *Container) End(lines ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range lines {
		c.appendLine(line)
	}
	c.log.ended = true
}

// Tail returns the last 4,096 bytes of the log of the last execution.
func (c *Container) Tail() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.tail.bytes()
}

// takeLine takes a line the function wrote.
func (c *Container) takeLine(line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.appendLine(string(line))
}

// +checklocks:c.mu
func (c *Container) appendLine(line string) {
	c.log.tail.add(line)
	if c.fn == nil {
		return // a runtime that waits for its code writes into nobody's log
	}
	c.host.opts.Logs.Append(c.fn.Account, c.fn.Name,
		functionlog.Entry{Time: c.host.now(), Stream: c.log.stream, RequestID: c.log.request, Text: line})
}

// logState is a container's place in its function's log.
type logState struct {
	stream    string
	request   lambent.RequestID // whose lines come now; empty during init
	tail      tail
	ended     bool      // the execution the tail is of
	maxMemory int64     // bytes
	sampled   time.Time // when maxMemory was last brought up to date
	looked    time.Time // when its limit was last held against it
}

// start names the stream as AWS does: YYYY/MM/DD/[VERSION]32hex.
func (l *logState) start(fn *lambent.Function, now time.Time) (stream string) {
	l.stream = now.UTC().Format("2006/01/02") + "/[" + string(fn.Version) + "]" + newID("") + newID("")[:15]
	l.tail.reset()
	return l.stream
}

// tailBytes is how much of a log Invoke gives back (AWS: "the last 4 KB").
const tailBytes = 4096

// tail keeps the last tailBytes of what is added. The zero value is ready.
type tail struct{ buf []byte }

func (t *tail) add(line string) {
	t.buf = append(append(t.buf, line...), '\n')
	if len(t.buf) > 4*tailBytes { // seldom, so that adding stays cheap
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
}

func (t *tail) bytes() []byte {
	from := max(0, len(t.buf)-tailBytes)
	return append([]byte(nil), t.buf[from:]...)
}

func (t *tail) reset() { t.buf = t.buf[:0] }
