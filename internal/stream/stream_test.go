package stream

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
)

// readAll reads a pipe to its end.
func readAll(t *testing.T, p *Pipe) (all []byte) {
	t.Helper()
	var spent []byte
	for {
		b, err := p.Next(spent)
		if err == io.EOF {
			return all
		}
		if err != nil || len(b) == 0 || len(b) > BufferSize {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		all = append(all, b...)
		spent = b
	}
}

func TestWhatIsWrittenIsReadInOrder(t *testing.T) {
	p := New(Limits{})
	want := make([]byte, 5*BufferSize+7)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		defer p.End()
		p.Begin(lambent.Start{Container: "c-1"}, "text/plain")
		for b := want; len(b) > 0; {
			n := min(len(b), 1000+len(b)%30_000)
			if err := p.Write(b[:n], nil); err != nil {
				t.Error(err)
				return
			}
			b = b[n:]
		}
	})
	if h, begun := p.Head(); !begun || h.ContentType != "text/plain" || h.Start.Container != "c-1" {
		t.Errorf("head %+v, %v", h, begun)
	}
	if got := readAll(t, p); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, not the %d", len(got), len(want))
	}
	writer.Wait()
}

func TestAByteIsReadBeforeTheNextIsWritten(t *testing.T) {
	p := New(AWS())
	p.Begin(lambent.Start{}, "")
	for _, want := range []string{"a", "b", "c"} {
		if err := p.Write([]byte(want), nil); err != nil {
			t.Fatal(err)
		}
		if got, err := p.Next(nil); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestFunctionThatEndsWithoutBeginningHasNoHead(t *testing.T) {
	p := New(AWS())
	go p.End()
	if h, begun := p.Head(); begun {
		t.Errorf("head %+v", h)
	}
	if b, err := p.Next(nil); err != io.EOF {
		t.Errorf("%q, %v", b, err)
	}
}

func TestWriterWaitsForAReaderThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{})
		p.Begin(lambent.Start{}, "")
		stop := make(chan struct{})
		written := make(chan error, 1)
		go func() { written <- p.Write(make([]byte, 10*BufferSize), stop) }()
		synctest.Wait()
		select {
		case err := <-written:
			t.Fatalf("nobody read, and it was written: %v", err)
		default:
		}
		p.mu.Lock()
		held, room := len(p.buf), cap(p.buf)
		p.mu.Unlock()
		if held != BufferSize || room > 2*BufferSize {
			t.Errorf("the pipe holds %d bytes in %d", held, room)
		}
		close(stop)
		if err := <-written; !errors.Is(err, ErrStopped) {
			t.Errorf("told to stop: %v", err)
		}
		p.End()
		if got := len(readAll(t, p)); got != BufferSize {
			t.Errorf("%d bytes were left to read", got)
		}
		if err := p.Write([]byte("late"), nil); err != nil {
			t.Errorf("after the end: %v", err)
		}
		if b, err := p.Next(nil); err != io.EOF {
			t.Errorf("after the end there is %q, %v", b, err)
		}
	})
}

func TestWriterGoesOnWithoutAReader(t *testing.T) {
	for name, l := range map[string]Limits{"unbound": {}, "held to a rate": {Burst: 10, Rate: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(l)
				p.Begin(lambent.Start{}, "")
				written := make(chan error, 1)
				go func() { written <- p.Write(make([]byte, 10*BufferSize), nil) }()
				synctest.Wait()
				began := time.Now()
				p.Leave()
				p.Leave()
				if err := <-written; err != nil {
					t.Error(err)
				}
				if err := p.Write(make([]byte, 10*BufferSize), nil); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d != 0 {
					t.Errorf("it took %v", d)
				}
			})
		})
	}
}

func TestAnswerOverItsLimitEndsAtIt(t *testing.T) {
	for _, read := range []bool{true, false} {
		p := New(Limits{Most: 100})
		p.Begin(lambent.Start{}, "")
		if !read {
			p.Leave()
		}
		if err := p.Write(make([]byte, 60), nil); err != nil {
			t.Fatal(err)
		}
		var over *TooLargeError
		err := p.Write(make([]byte, 41), nil)
		if !errors.As(err, &over) || err.Error() != "Response payload size exceeded maximum allowed payload size (100 bytes)." {
			t.Errorf("got %v", err)
		}
		p.End()
		if got := len(readAll(t, p)); read && got != 100 {
			t.Errorf("%d bytes went out", got)
		}
	}
	p := New(Limits{Most: 100})
	p.Begin(lambent.Start{}, "")
	if err := p.Write(make([]byte, 100), nil); err != nil {
		t.Errorf("just at the limit: %v", err)
	}
}

func TestRateIsKeptAfterTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst, rate = 6 << 20, 2 << 20
		p := New(AWS())
		p.Begin(lambent.Start{}, "")
		var writer sync.WaitGroup
		took := map[int]time.Duration{} // until so many bytes were out
		began := time.Now()
		writer.Go(func() {
			defer p.End()
			for n := 0; n < burst+4*rate; n += 16 << 10 {
				if err := p.Write(make([]byte, 16<<10), nil); err != nil {
					t.Error(err)
					return
				}
				took[n+16<<10] = time.Since(began)
			}
		})
		if got := len(readAll(t, p)); got != burst+4*rate {
			t.Errorf("%d bytes came", got)
		}
		writer.Wait()
		if d := took[burst]; d != 0 {
			t.Errorf("the burst took %v", d)
		}
		for s := 1; s <= 4; s++ {
			if d, want := took[burst+s*rate], time.Duration(s)*time.Second; d < want-50*time.Millisecond || d > want+50*time.Millisecond {
				t.Errorf("%d s worth of bytes took %v", s, d)
			}
		}
	})
}

func TestWaitForTheRateEndsWithTheFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Limits{Burst: 1, Rate: 1})
		p.Begin(lambent.Start{}, "")
		stop := make(chan struct{})
		written := make(chan error, 1)
		go func() { written <- p.Write(make([]byte, BufferSize), stop) }()
		synctest.Wait()
		close(stop)
		if err := <-written; !errors.Is(err, ErrStopped) {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzPipe writes and reads parts of any size under any limits: what is read is
// what was written, up to the limit.
func FuzzPipe(f *testing.F) {
	f.Add([]byte{1, 200, 3}, int64(100), int64(10), int64(1000))
	f.Add([]byte{255, 255, 255}, int64(0), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, sizes []byte, most, burst, rate int64) {
		if len(sizes) > 50 || rate < 0 || rate > 0 && rate < 1000 || burst < 0 || most < 0 || burst > 1<<40 || rate > 1<<40 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			p := New(Limits{Most: most, Burst: burst, Rate: rate})
			p.Begin(lambent.Start{}, "")
			want := 0
			var writer sync.WaitGroup
			writer.Go(func() {
				defer p.End()
				for i, size := range sizes {
					b := bytes.Repeat([]byte{byte(i)}, int(size)*700)
					want += len(b)
					if err := p.Write(b, nil); err != nil {
						if most == 0 || int64(want) <= most {
							t.Errorf("%d bytes: %v", want, err)
						}
						want = int(most)
						return
					}
				}
			})
			got := readAll(t, p)
			writer.Wait()
			if len(got) != want {
				t.Errorf("%d bytes came of %d", len(got), want)
			}
		})
	})
}
