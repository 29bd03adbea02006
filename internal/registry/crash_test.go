package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/cluster/crashtest"
)

func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, map[string]crashtest.Work{"functions": changeUntilKilled, "objects": writeObjectsUntilKilled}))
}

// outcome is what a function is to be after a change.
type outcome struct {
	Name lambent.FunctionName
	Code string // empty: deleted
	Note string // its description
}

// changeUntilKilled creates, updates and deletes few functions, so that they
// share code and most changes replace something.
func changeUntilKilled(dir string, out *crashtest.Output) error {
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
		s := spec(o.Name)
		s.Description = o.Note
		err = crashtest.Change(out, o, func() error {
			switch {
			case o.Code == "":
				return r.DeleteFunction(ctx, account, o.Name)
			case exists:
				_, err := r.UpdateFunctionCode(ctx, account, o.Name, "", func(fn *lambent.Function) { fn.Description = o.Note }, []byte(o.Code), lambent.Unpublished)
				return err
			}
			_, err := r.CreateFunction(ctx, s, []byte(o.Code), lambent.Unpublished)
			return err
		})
		if err != nil {
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
		pending := crashtest.Changes(t, "functions", dir, 1+rand.IntN(40), func(o outcome) { acked[o.Name] = o })
		node := openNode(t, dir)
		f := open(t, node, make(chan error)) // nothing settles yet
		named := map[lambent.CodeHash]bool{}
		for _, name := range []lambent.FunctionName{"f0", "f1", "f2"} {
			got := outcome{Name: name}
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
			want.Name = name
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
