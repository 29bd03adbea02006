package registry

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/cluster"
)

// fill writes functions with an object each past the registry, as if they had
// been created.
func fill(t testing.TB, node *cluster.Node, n int) {
	records, objects := must(node.Bucket(t.Context(), recordsName))(t), must(node.Bucket(t.Context(), objectsName))(t)
	for i := range n {
		fn := spec(lambent.FunctionName(fmt.Sprintf("function-with-a-usual-name-%05d", i)))
		fn.Version, fn.State, fn.UpdateStatus = lambent.Latest, stateActive, updateSuccessful
		fn.Code, fn.CodeSize = hashOf([]byte(fn.Name)), 1000
		fn.Environment = map[string]string{"TABLE": strings.Repeat("x", 200), "LOG_LEVEL": "debug"}
		fn.Revision, fn.ConfigHash = "8e3e1e7c-31c2-4f0a-9b1c-0a53b2a1d000", fn.HashConfig()
		must(records.Put(t.Context(), recordKey(fn), must(encodeRecord(fn, nil))(t)))(t)
		object := must(encodeObject(invokeConfig("arn:aws:sqs:eu-west-1:111122223333:dead-letters"), nil))(t)
		must(objects.Put(t.Context(), cluster.Key("event-invoke", string(account), string(fn.Name), ""), object))(t)
	}
}

// A fifth of the 10,000 functions that must fit into 50 MB, so that the test is
// short; the benchmark opens them all.
func TestFunctionsFitIntoTheirMemory(t *testing.T) {
	const functions, bound = 2_000, 10 << 20
	node := openNode(t, t.TempDir())
	fill(t, node, functions)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	f := open(t, node, nil)
	used := int64(heap()) - int64(before)
	fs, _ := f.ListFunctions(account, "", functions+1)
	if len(fs) != functions || used > bound {
		t.Errorf("%d functions take %d bytes, of at most %d", len(fs), used, bound)
	}
}

func BenchmarkOpenTenThousand(b *testing.B) {
	node := openNode(b, b.TempDir())
	fill(b, node, 10_000)
	for b.Loop() {
		r, err := Open(b.Context(), node, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFunction(b *testing.B) {
	node := openNode(b, b.TempDir())
	fill(b, node, 10_000)
	r := must(Open(b.Context(), node, Options{}))(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Function(account, "function-with-a-usual-name-05000", "$LATEST"); err != nil {
				b.Error(err)
			}
		}
	})
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
}
