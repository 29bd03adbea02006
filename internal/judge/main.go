package judge

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent/internal/control"
)

// What an answer may take, which has 6 MB at most, as AWS's.
const (
	cpuLimit    = time.Second
	memoryLimit = 512 << 20 // resident
	stackLimit  = 64 << 20
)

// The exit status of a process that took more.
const (
	exitTooLong = 3 + iota
	exitTooMuch
)

// nobody has no rights.
const nobody = 65534

// Main judges what it is asked on its standard input until that ends. It is called
// before anything else is done.
func Main() error {
	if err := giveUpRights(); err != nil {
		return fmt.Errorf("judge: %w", err)
	}
	debug.SetMaxStack(stackLimit)
	debug.SetTraceback("none")
	watch := watchdog{parent: os.Getppid()}
	watch.timer = time.AfterFunc(math.MaxInt64, watch.look)
	in, checks := bufio.NewReader(os.Stdin), map[string]control.Check{}
	for {
		texts, err := readTexts(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("judge: read an answer: %w", err)
		}
		watch.begin()
		why := verdict(checks, texts)
		watch.timer.Stop()
		if err := writeText(os.Stdout, []byte(why)); err != nil {
			return fmt.Errorf("judge: tell: %w", err)
		}
	}
}

// mostChecks is how many expectations a process keeps compiled.
const mostChecks = 64

// readTexts reads what one question is of: what is declared, and the answer and its
// event, or neither. io.EOF is that there is no more.
func readTexts(in io.Reader) (texts [][]byte, err error) {
	head, err := readText(in, 1)
	if err != nil {
		return nil, err
	}
	if len(head) != 1 || head[0] != 1 && head[0] != 3 {
		return nil, fmt.Errorf("%v is no number of texts", head)
	}
	texts = make([][]byte, head[0])
	for k := range texts {
		if texts[k], err = readText(in, math.MaxUint32); err != nil {
			return nil, errors.Join(errors.New("it ends within an answer"), err)
		}
	}
	return texts, nil
}

// verdict tells why what is declared, or an answer, is not right.
func verdict(checks map[string]control.Check, texts [][]byte) string {
	declared := texts[0]
	check, ok := checks[string(declared)]
	if !ok {
		var e control.Expectation
		err := json.Unmarshal(declared, &e)
		if err == nil {
			check, err = e.Compile()
		}
		if err != nil {
			return fmt.Sprintf("%.2000s", err)
		}
		if len(checks) >= mostChecks {
			clear(checks)
		}
		checks[string(declared)] = check
	}
	if len(texts) == 1 {
		return ""
	}
	if err := check.Of(texts[1], texts[2]); err != nil {
		return fmt.Sprintf("%.2000s", err)
	}
	return ""
}

// watchdog ends the process when a check takes too much, or the server has ended
// meanwhile.
type watchdog struct {
	parent int
	timer  *time.Timer
	began  atomic.Int64 // what the process had computed when the check began, ns
}

// glance is how long a check goes unwatched.
const glance = 20 * time.Millisecond

func (w *watchdog) begin() {
	computed, _ := taken()
	w.began.Store(int64(computed))
	w.timer.Reset(glance)
}

func (w *watchdog) look() {
	computed, resident := taken()
	switch {
	case computed-time.Duration(w.began.Load()) > cpuLimit:
		os.Exit(exitTooLong)
	case resident > memoryLimit:
		os.Exit(exitTooMuch)
	case os.Getppid() != w.parent:
		os.Exit(0)
	}
	w.timer.Reset(glance)
}

// taken is what the process has computed so far, and the most bytes that it had.
func taken() (time.Duration, int64) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), u.Maxrss << 10
}

// giveUpRights leaves what it takes to compute, and no more.
func giveUpRights() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	for what, most := range map[int]uint64{unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("give up rights: %w", err)
		}
	}
	// In a user namespace of one user there is no other to become.
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)} {
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("give up rights: %w", err)
		}
	}
	return nil
}
