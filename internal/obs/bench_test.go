package obs

import (
	"testing"
)

// BenchmarkAdd is what a call pays for its record.
func BenchmarkAdd(b *testing.B) {
	s := openStore(b, StoreOptions{})
	e := usual()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s.Add(&e)
		if n++; n%1000 == 0 { // as after some 30 ms
			b.StopTimer()
			s.flush()
			b.StartTimer()
		}
	}
	if s.Lost() > 0 {
		b.Errorf("%d of %d were lost", s.Lost(), n)
	}
}

// BenchmarkWriteRecord is what the background pays for it.
func BenchmarkWriteRecord(b *testing.B) {
	s := openStore(b, StoreOptions{})
	e := usual()
	batch := make([]Execution, 120)
	for k := range batch {
		batch[k] = e
	}
	b.ReportAllocs()
	for b.Loop() {
		s.disk.Lock()
		s.write(batch)
		s.disk.Unlock()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/record")
}

func benchmarkNewest(b *testing.B, q Query) {
	s := openStore(b, StoreOptions{})
	for n := range 100_000 {
		s.Add(numbered(n))
		if n%10_000 == 0 {
			s.flush()
		}
	}
	found := 0
	b.ReportAllocs()
	for b.Loop() {
		found = 0
		if err := s.Newest(b.Context(), q, func(*Execution) error { found++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(found), "found")
}

func BenchmarkNewestHundredOf100000(b *testing.B) { benchmarkNewest(b, Query{Limit: 100}) }
func BenchmarkNewestHundredOfAFunction(b *testing.B) {
	benchmarkNewest(b, Query{Account: "000000000001", Function: "f1", Limit: 100})
}
func BenchmarkNewestOfAFunctionThatNeverRan(b *testing.B) {
	benchmarkNewest(b, Query{Account: "000000000001", Function: "never", Limit: 100})
}
func BenchmarkOneRequestOf100000(b *testing.B) {
	benchmarkNewest(b, Query{RequestID: numbered(3).RequestID, Limit: 1})
}
func BenchmarkAll100000(b *testing.B) { benchmarkNewest(b, Query{Limit: 100_000}) }

func BenchmarkOpen100000(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, StoreOptions{Dir: dir})
	for n := range 110_000 {
		s.Add(numbered(n))
		if n%10_000 == 0 {
			s.flush()
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := NewStore(StoreOptions{Dir: dir})
		if err := s.Open(); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
