package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"lambent"
	"lambent/internal/cluster"
)

// These name, to the child, the folder it shall write functions, or objects, to
// until it is killed.
const (
	crashDir     = "LAMBENT_TEST_CRASH_DIR"
	crashObjects = "LAMBENT_TEST_CRASH_OBJECTS_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, changeUntilKilled(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(crashObjects); dir != "" {
		fmt.Fprintln(os.Stderr, writeObjectsUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// outcome is what a function is to be after a change: the child prints it
// before it begins and again when it was acknowledged.
type outcome struct {
	Acked bool
	Name  lambent.FunctionName
	Code  string // empty: deleted
	Note  string // its description
}

// changeUntilKilled creates, updates and deletes few functions, so that they
// share code and most changes replace something.
func changeUntilKilled(dir string) error {
	ctx := context.Background()
	node := cluster.New(cluster.Options{Dir: dir})
	if err := node.Open(ctx); err != nil {
		return err
	}
	settled := make(chan struct{}, 1000)
	r, err := Open(ctx, node, Options{Region: region, CodeGrace: 1})
	if err != nil {
		return err
	}
	r.Subscribe(func(c Change) {
		if c.After != nil && !changing(c.After) {
			settled <- struct{}{}
		}
	})
	out := json.NewEncoder(os.Stdout)
	for i := 0; ; i++ {
		o := outcome{Name: lambent.FunctionName(fmt.Sprintf("f%d", rand.IntN(3))), Code: fmt.Sprintf("code%d", rand.IntN(4)), Note: fmt.Sprintf("%d-%d", os.Getpid(), i)}
		if rand.IntN(3) == 0 {
			o.Code, o.Note = "", ""
		}
		fn, err := r.Function(account, o.Name, "")
		exists := err == nil
		if (!exists && o.Code == "") || (exists && changing(fn)) {
			continue
		}
		if err := out.Encode(o); err != nil {
			return err
		}
		s := spec(o.Name)
		s.Description = o.Note
		switch {
		case o.Code == "":
			err = r.DeleteFunction(ctx, account, o.Name)
		case exists:
			_, err = r.UpdateFunctionCode(ctx, account, o.Name, "", func(fn *lambent.Function) { fn.Description = o.Note }, []byte(o.Code), lambent.Unpublished)
		default:
			_, err = r.CreateFunction(ctx, s, []byte(o.Code), lambent.Unpublished)
		}
		if err != nil {
			return err
		}
		o.Acked = true
		if err := out.Encode(o); err != nil {
			return err
		}
		if o.Code != "" && rand.IntN(2) == 0 {
			<-settled
		}
	}
}

func TestAcknowledgedFunctionsAndTheirCodeSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[lambent.FunctionName]outcome{}
	for round := range 3 {
		pending := runAndKill(t, crashDir, dir, 1+rand.IntN(40), acked)
		node := openNode(t, dir)
		f := open(t, node, make(chan error)) // nothing settles yet
		named := map[lambent.CodeHash]bool{}
		for _, name := range []lambent.FunctionName{"f0", "f1", "f2"} {
			got := outcome{Name: name, Acked: true}
			if fn, err := f.Function(account, name, ""); err == nil {
				got.Note = fn.Description
				if got.Code, err = f.code(fn.Code); err != nil {
					t.Errorf("round %d: code of %s: %v", round, name, err)
				}
				named[fn.Code] = true
				if fn.Previous != nil {
					named[fn.Previous.Code] = true
				}
			}
			want := acked[name]
			want.Name, want.Acked = name, true
			if got != want && (pending == nil || got != *pending) {
				t.Errorf("round %d: %+v, acknowledged was %+v, begun %+v", round, got, want, pending)
			}
			acked[name] = got
		}
		if keys := must(f.blobs.Keys(t.Context()))(t); len(keys) != len(named) {
			t.Errorf("round %d: %d packages are stored for %d that are named", round, len(keys), len(named))
		}
		for _, listed := range first(f.ListFunctions(account, "", 10)) {
			for changing(must(f.Function(account, listed.Name, ""))(t)) { // what is sent may settle another
				f.prepare <- nil
				f.wait()
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func first[A, B any](a A, _ B) A { return a }

// runAndKill has a child change what it is for until it has acknowledged so many and
// kills it then, at whatever it is doing. It records what was acknowledged and
// returns what was begun and was not.
func runAndKill(t *testing.T, child, dir string, changes int, acked map[lambent.FunctionName]outcome) (pending *outcome) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var o outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			break // cut short by the kill
		}
		if !o.Acked {
			o.Acked = true
			pending = &o
			continue
		}
		acked[o.Name], pending = o, nil
		if changes--; changes == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // says that it was killed
	if changes > 0 {
		t.Fatalf("the child ended by itself: %s", stderr.String())
	}
	return pending
}
