package control_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"lambent/internal/runtimeapi/control"
)

const patience = 20 * time.Second

func newPoller(t testing.TB) *control.Poller {
	t.Helper()
	p, err := control.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// pair makes a connection and its other end, as a connection of Go's own.
func pair(t testing.TB, p *control.Poller) (*control.Conn, *net.UnixConn) {
	t.Helper()
	c, file, err := p.Pair()
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		far.Close()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, far.(*net.UnixConn)
}

func wait[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it did not come")
		panic("unreachable")
	}
}

func TestWhatOneEndWritesTheOtherReads(t *testing.T) {
	sent := make([]byte, 3<<20) // many times what the socket holds
	rand.Read(sent)
	c, far := pair(t, newPoller(t))
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := far.Write(sent); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() {
		if n, err := c.Write(sent); n != len(sent) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	for name, r := range map[string]io.Reader{"host": c, "guest": far} {
		both.Go(func() {
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("the %s read something else, %v", name, err)
			}
		})
	}
	both.Wait()
}

func TestManyConnectionsTalkAtOnceAndNoneMissesAnything(t *testing.T) {
	p := newPoller(t)
	var all sync.WaitGroup
	for range 200 { // more than the poller takes at a time
		c, far := pair(t, p)
		all.Go(func() {
			buf := make([]byte, 64)
			for i := range 200 {
				want := buf[:1+i%10]
				rand.Read(want)
				if _, err := far.Write(want); err != nil {
					t.Error(err)
					return
				}
				got := make([]byte, 64)
				n, err := io.ReadAtLeast(c, got, len(want))
				if err != nil || !bytes.Equal(got[:n], want) {
					t.Errorf("read %x, %v, want %x", got[:n], err, want)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestTheEndIsReadAfterTheLastBytes(t *testing.T) {
	p := newPoller(t)
	for name, hangUp := range map[string]func(*net.UnixConn) error{
		"both ways closed": (*net.UnixConn).Close, "only its writing closed": (*net.UnixConn).CloseWrite,
	} {
		t.Run(name, func(t *testing.T) {
			for _, readFirst := range []bool{true, false} {
				c, far := pair(t, p)
				got := make(chan error, 1)
				read := func() {
					buf := make([]byte, 64)
					n, err := c.Read(buf)
					if string(buf[:n]) != "last" || err != nil {
						got <- errors.Join(errors.New("read "+string(buf[:n])), err)
						return
					}
					_, err = c.Read(buf)
					got <- err
				}
				if readFirst {
					go read()
				}
				if _, err := far.Write([]byte("last")); err != nil {
					t.Fatal(err)
				}
				if err := hangUp(far); err != nil {
					t.Fatal(err)
				}
				if !readFirst {
					go read()
				}
				if err := wait(t, got); err != io.EOF {
					t.Errorf("got %v, want the end", err)
				}
			}
		})
	}
}

func TestCloseWakesWhoReadsAndWhoWrites(t *testing.T) {
	c, _ := pair(t, newPoller(t))
	read, written := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
	go func() { _, err := c.Write(make([]byte, 8<<20)); written <- err }()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, read); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	if err := wait(t, written); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing: %v", err)
	}
	if _, err := c.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing later: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestHurriedWriteDoesNotWaitForRoom(t *testing.T) {
	c, far := pair(t, newPoller(t))
	written := make(chan error, 1)
	go func() { _, err := c.Write(make([]byte, 8<<20)); written <- err }()
	c.Hurry(true)
	if err := wait(t, written); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if n, err := c.TryWrite([]byte("x")); n != 0 || err != nil {
		t.Fatalf("a full socket took %d bytes, %v", n, err)
	}
	c.Hurry(false)
	go func() { _, err := c.Write([]byte("later")); written <- err }()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	if err := wait(t, written); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestWriteToAGuestThatIsGoneFails(t *testing.T) {
	c, far := pair(t, newPoller(t))
	written := make(chan error, 1)
	go func() { _, err := c.Write(make([]byte, 8<<20)); written <- err }()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, written); err == nil {
		t.Error("it succeeded")
	}
}

// What has arrived is read, and then the end, though the other end stays open.
func TestWhatArrivedIsReadBeforeTheEndWhoeverHoldsTheOtherEnd(t *testing.T) {
	host, guest := pair(t, newPoller(t))
	if _, err := guest.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	host.EndReading()
	got := make(chan string)
	go func() {
		all, err := io.ReadAll(host)
		if err != nil {
			t.Error(err)
		}
		got <- string(all)
	}()
	if words := wait(t, got); words != "last words" {
		t.Errorf("%q is read", words)
	}
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	host.EndReading() // of one that is closed is harmless
}
