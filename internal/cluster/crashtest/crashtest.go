// Package crashtest ends what stores something at a moment nobody chose, for tests
// of what is there afterwards: the process, by a kill, or the disk under it.
//
// A test's own program is the child that is killed: Main has it do a work instead
// of the tests where Until or Changes started it. It says on its standard output
// what it did; so the test knows what was acknowledged.
package crashtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Work is what a child does in a folder, until it is killed. It returns an error
// only.
type Work func(dir string, out *Output) error

// These name, to the child, its work and the folder.
const (
	workEnv = "LAMBENT_TEST_CRASH_WORK"
	dirEnv  = "LAMBENT_TEST_CRASH_DIR"
)

// Main runs the tests, or in a child one of the works, by name, and tells the exit
// status.
func Main(m *testing.M, works map[string]Work) (status int) {
	name := os.Getenv(workEnv)
	if name == "" {
		return m.Run()
	}
	work, ok := works[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no work %q\n", name)
		return 1
	}
	fmt.Fprintln(os.Stderr, work(os.Getenv(dirEnv), &Output{enc: json.NewEncoder(os.Stdout)}))
	return 1
}

// Output is where a child says what it did. Safe for concurrent use.
type Output struct {
	mu sync.Mutex
	// +checklocks:mu
	enc *json.Encoder
}

// Say tells of something that was done. A child that nobody listens to ends.
func (o *Output) Say(what any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.enc.Encode(what); err != nil {
		panic(err) // it is a pipe to who started the child
	}
}

// change is what Change says.
type change[T any] struct {
	Acked bool
	What  T
}

// Change does something, and tells of it before and when it is acknowledged.
func Change[T any](o *Output, what T, do func() error) error {
	o.Say(change[T]{What: what})
	if err := do(); err != nil {
		return err
	}
	o.Say(change[T]{Acked: true, What: what})
	return nil
}

// Changes has a child do a work of Changes until so many are acknowledged, each of
// which it tells of, and kills it then, at whatever it is doing. pending is what was
// begun and not acknowledged, nil where nothing was.
func Changes[T any](t testing.TB, work, dir string, count int, acked func(T)) (pending *T) {
	t.Helper()
	Until(t, work, dir, count, func(c change[T]) (counts bool) {
		if c.Acked {
			pending = nil
			acked(c.What)
		} else {
			pending = &c.What
		}
		return c.Acked
	}, (*os.Process).Kill)
	return pending
}

// Until has a child do a work until it has said so much that counts, and has end end
// it then. done is told all it says, also while it is being ended.
func Until[T any](t testing.TB, work, dir string, count int, done func(T) (counts bool), end func(*os.Process) error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workEnv+"="+work, dirEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var what T
		if json.Unmarshal(lines.Bytes(), &what) != nil {
			break // cut short by the kill
		}
		if !done(what) {
			continue
		}
		if count--; count == 0 {
			if err := end(cmd.Process); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // says that it was killed
	if count > 0 {
		t.Fatalf("the child ended by itself: %s", stderr.String())
	}
}
