// Package judge holds answers against what is declared to be right, each account's
// in a process of its own. A schema may lead in circles, a predicate may double a
// string sixty times, and an answer be made for either: what they take, they take
// there, from nobody else, and if it is too much the process ends and the answer is
// not what was expected.
package judge

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/control"
)

// Options are what a Judge needs.
type Options struct {
	// Processes is the most there are at a time, one an account: 8 if it is 0. An
	// account whose process is the longest idle gives way.
	Processes int
	// Idle is how long a process stays that nobody needs: a minute if it is 0.
	Idle time.Duration
	Log  *slog.Logger // nil: nowhere
}

// Judge has answers judged. Safe for concurrent use.
type Judge struct {
	opts Options
	ends sync.WaitGroup // of processes

	mu sync.Mutex
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	workers map[lambent.AccountID]*worker
	// +checklocks:mu
	changed chan struct{} // closed, and made anew, when a worker is free or gone
	// +checklocks:mu
	waiting map[lambent.AccountID]int // callers in acquire
	// +checklocks:mu
	queue []lambent.AccountID // of them, those without a process, in the order they get one
}

// New makes a judge; no process is started before it is needed.
func New(o Options) *Judge {
	if o.Processes == 0 {
		o.Processes = 8
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Judge{opts: o, workers: map[lambent.AccountID]*worker{}, changed: make(chan struct{}), waiting: map[lambent.AccountID]int{}}
}

// patience is how long a verdict may take, on a clock: it is there for what the
// process itself cannot bound.
const patience = 15 * time.Second

// Check tells why an answer is not what is expected; nil where it is. The answers
// of one account are judged one after another.
func (j *Judge) Check(ctx context.Context, account lambent.AccountID, e *control.Expectation, response, event []byte) error {
	declared, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("the answer cannot be judged: %w", err)
	}
	return j.judge(ctx, account, declared, response, event)
}

// CheckDeclared tells why nothing can be held against what is declared to be right,
// KindInvalid; nil where it can. That takes what an answer takes, and has the same
// bounds.
func (j *Judge) CheckDeclared(ctx context.Context, account lambent.AccountID, e *control.Expectation) error {
	declared, err := json.Marshal(e)
	if err == nil {
		err = j.judge(ctx, account, declared)
	}
	if err != nil {
		return &lambent.Error{Op: "read expectation", Kind: lambent.KindInvalid, Message: err.Error(), Err: err}
	}
	return nil
}

// judge has a process look at what is declared, and an answer and its event where
// they are given. One that somebody else has ended, as a machine without memory
// does, is none's fault: then another one is asked, once.
func (j *Judge) judge(ctx context.Context, account lambent.AccountID, texts ...[]byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for again := true; ; again = false {
		w, err := j.acquire(ctx, account)
		if err != nil {
			return fmt.Errorf("it cannot be judged: %w", err)
		}
		stop := context.AfterFunc(ctx, w.kill)
		why, err := w.ask(texts...)
		switch {
		case stop() && err == nil:
			j.release(w)
		default:
			err = j.lose(ctx, w)
			if why != "" {
				break
			}
			if again && w.wasKilled() && ctx.Err() == nil {
				continue
			}
			return err
		}
		if why != "" {
			return errors.New(why)
		}
		return nil
	}
}

// turn is how long an account keeps its process while others wait for theirs; the
// answer that is being judged then is judged whole.
const turn = 250 * time.Millisecond

// enter counts a caller who waits for a process, until leave.
func (j *Judge) enter(account lambent.AccountID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.waiting[account]++
}

func (j *Judge) leave(account lambent.AccountID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.waiting[account]--; j.waiting[account] == 0 {
		delete(j.waiting, account)
		j.unqueue(account)
	}
}

// unqueue has an account not wait for a process any more, and others look whether
// it is their turn.
//
// +checklocks:j.mu
func (j *Judge) unqueue(account lambent.AccountID) {
	if i := slices.Index(j.queue, account); i >= 0 {
		j.queue = slices.Delete(j.queue, i, i+1)
		j.tell()
	}
}

// acquire gives the account's process to one caller. Accounts that have none get
// one in turn, however many wait for each.
func (j *Judge) acquire(ctx context.Context, account lambent.AccountID) (*worker, error) {
	j.enter(account)
	defer j.leave(account)
	for {
		w, wait, err := j.tryAcquire(account)
		if err != nil || w != nil {
			return w, err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryAcquire gives the account's process, or what to wait for.
func (j *Judge) tryAcquire(account lambent.AccountID) (w *worker, wait <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, nil, errors.New("the server ends")
	}
	if w = j.workers[account]; w != nil {
		if w.busy {
			return nil, j.changed, nil
		}
		w.busy = true
		w.idle.Stop()
		return w, nil, nil
	}
	if !slices.Contains(j.queue, account) {
		j.queue = append(j.queue, account)
	}
	if j.queue[0] != account {
		return nil, j.changed, nil
	}
	if len(j.workers) >= j.opts.Processes {
		var oldest *worker
		for _, o := range j.workers {
			if !o.busy && (oldest == nil || o.since.Before(oldest.since)) {
				oldest = o
			}
		}
		if oldest == nil {
			return nil, j.changed, nil
		}
		j.drop(oldest)
	}
	j.unqueue(account)
	w, err = start(account)
	if err != nil {
		return nil, nil, err
	}
	w.busy, w.began = true, time.Now()
	w.idle = time.AfterFunc(j.opts.Idle, func() { j.retire(w) })
	w.idle.Stop()
	j.workers[account] = w
	j.ends.Go(w.wait)
	return w, nil, nil
}

// release has others use a process.
func (j *Judge) release(w *worker) {
	j.mu.Lock()
	defer j.mu.Unlock()
	w.busy, w.since = false, time.Now()
	if j.closed || len(j.queue) > 0 && w.since.Sub(w.began) > turn {
		j.drop(w)
		return
	}
	w.idle.Reset(j.opts.Idle)
	j.tell()
}

// retire ends a process that nobody has needed.
func (j *Judge) retire(w *worker) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.workers[w.account] == w && !w.busy {
		j.drop(w)
	}
}

// lose takes a process out that did not answer, and says why it did not.
func (j *Judge) lose(ctx context.Context, w *worker) error {
	j.mu.Lock()
	j.drop(w)
	j.mu.Unlock()
	<-w.ended
	why := w.why(ctx)
	j.opts.Log.Info("an answer was too much to be judged", "account", w.account, "err", why)
	return why
}

// drop ends a process and forgets it.
//
// +checklocks:j.mu
func (j *Judge) drop(w *worker) {
	w.kill()
	if j.workers[w.account] == w {
		delete(j.workers, w.account)
	}
	j.tell()
}

// tell wakes all who wait.
//
// +checklocks:j.mu
func (j *Judge) tell() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// Close ends all processes and waits for them. It is idempotent.
func (j *Judge) Close() error {
	j.mu.Lock()
	j.closed = true
	for _, w := range j.workers {
		j.drop(w)
	}
	j.mu.Unlock()
	j.ends.Wait()
	return nil
}

// worker is a process that judges the answers of one account.
type worker struct {
	account lambent.AccountID
	cmd     *exec.Cmd
	to      io.WriteCloser
	from    io.ReadCloser
	ended   chan struct{}

	// Guarded by the Judge's mu.
	busy  bool
	began time.Time
	since time.Time // it is idle
	idle  *time.Timer
}

// processName is argv[0] of a worker.
const processName = "lambent-judge"

// start starts a process. It sees no network, and gives up its rights by itself.
func start(account lambent.AccountID) (*worker, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{processName}, []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC}
	to, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process that judges: %w", err)
	}
	return &worker{account: account, cmd: cmd, to: to, from: from, ended: make(chan struct{})}, nil
}

// wait reaps the process.
func (w *worker) wait() {
	_ = w.cmd.Wait() // how it ended, why tells
	close(w.ended)
}

// kill ends the process, if it has not ended.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill() // it has ended
}

// why tells how the process ended that did not answer.
func (w *worker) why(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the answer could not be judged in time: %w", context.Cause(ctx))
	case w.cmd.ProcessState.ExitCode() == exitTooLong:
		return fmt.Errorf("to hold the answer against what is expected took more than the %v of computing there is", cpuLimit)
	case w.cmd.ProcessState.ExitCode() == exitTooMuch:
		return fmt.Errorf("to hold the answer against what is expected took more than the %d MiB of memory there are", memoryLimit>>20)
	case w.wasKilled():
		return errors.New("the process that holds the answer against what is expected was ended by the machine")
	default: // Go's runtime has ended it
		return fmt.Errorf("to hold the answer against what is expected went too deep, in a circle, or took more memory than there is (%v)", w.cmd.ProcessState)
	}
}

// wasKilled tells whether the process, which has ended, was ended by another one:
// by this one only where nobody waits for it any more.
func (w *worker) wasKilled() bool {
	status, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// ask has one answer judged, or without it what is declared; why is empty where it
// is right.
func (w *worker) ask(texts ...[]byte) (why string, err error) {
	if err := writeText(w.to, []byte{byte(len(texts))}); err != nil {
		return "", err
	}
	for _, t := range texts {
		if err := writeText(w.to, t); err != nil {
			return "", err
		}
	}
	b, err := readText(w.from, longestVerdict)
	return string(b), err
}

// longestVerdict is the most bytes a process may say of an answer.
const longestVerdict = 64 << 10

func writeText(to io.Writer, text []byte) error {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(text)))
	if _, err := to.Write(head[:]); err != nil {
		return err
	}
	_, err := to.Write(text)
	return err
}

func readText(from io.Reader, most uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > most {
		return nil, fmt.Errorf("%d bytes are over the %d there may be", n, most)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(from, b)
	return b, err
}

// IsJudge reports whether this process was started to judge, so that Main is to be
// called and nothing else.
func IsJudge() bool { return os.Args[0] == processName }
