package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestFramesSurviveAnySplittingOfTheStream(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 50_000)
	stream := AppendFrame(nil, Response, long, "id")
	stream = AppendHeader(stream, Ready, 0)
	stream = AppendFrame(stream, Error, []byte("{}"), "id", "Type")
	stream = AppendExit(stream, ExitStatus{Signal: 9})
	stream = AppendExit(stream, ExitStatus{Code: -1})
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			fr := NewReader(r, 0)
			next := func(want Type) {
				t.Helper()
				if got, _, err := fr.Next(); err != nil || got != want {
					t.Fatalf("got %s, %v, want %s", got, err, want)
				}
			}
			next(Response)
			if same, err := fr.ShortIs("id"); !same || err != nil {
				t.Fatalf("id: %v, %v", same, err)
			}
			if got, err := fr.Rest(); err != nil || !bytes.Equal(got, long) {
				t.Fatalf("payload of %d bytes, %v", len(got), err)
			}
			next(Ready)
			next(Error)
			id, err1 := fr.Short()
			typ, err2 := fr.Short()
			body, err3 := fr.Rest()
			if err := errors.Join(err1, err2, err3); err != nil || id != "id" || typ != "Type" || string(body) != "{}" {
				t.Fatalf("got %q %q %q, %v", id, typ, body, err)
			}
			for _, want := range []ExitStatus{{Signal: 9}, {Code: -1}} {
				next(Exit)
				if got, err := fr.ExitStatus(); err != nil || got != want {
					t.Fatalf("got %+v, %v", got, err)
				}
			}
			if _, _, err := fr.Next(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		})
	}
}

func TestWhatIsNotReadOfABodyIsSkipped(t *testing.T) {
	stream := AppendFrame(nil, Response, make([]byte, 100_000), "id")
	stream = AppendHeader(stream, Ready, 0)
	fr := NewReader(bytes.NewReader(stream), 0)
	if _, size, err := fr.Next(); err != nil || size != 100_003 {
		t.Fatal(size, err)
	}
	if got, _, err := fr.Next(); err != nil || got != Ready {
		t.Fatal(got, err)
	}
}

func TestStreamThatEndsWithinAFrameIsNotAnOrderlyEnd(t *testing.T) {
	whole := AppendFrame(nil, Response, []byte("payload"), "id")
	for n := 1; n < len(whole); n++ {
		fr := NewReader(bytes.NewReader(whole[:n]), 0)
		_, _, err := fr.Next()
		if err == nil {
			err = fr.Skip()
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestSecurityMemoryGrowsWithWhatCameNotWithWhatWasClaimed(t *testing.T) {
	head := []byte{0xff, 0xff, 0xff, 0xff, byte(Response)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		fr := NewReader(io.MultiReader(bytes.NewReader(head), strings.NewReader("little")), 0)
		if _, _, err := fr.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := fr.Bytes(MaxPayload); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 20; got > 2*firstPiece {
		t.Errorf("%d bytes allocated for a frame of 6", got)
	}
}

func TestPartsBeyondTheFrameAreMalformed(t *testing.T) {
	for name, read := range map[string]func(*Reader) error{
		"short":  func(r *Reader) error { _, err := r.Short(); return err },
		"is":     func(r *Reader) error { _, err := r.ShortIs("x"); return err },
		"bytes":  func(r *Reader) error { _, err := r.Bytes(3); return err },
		"number": func(r *Reader) error { _, err := r.Uint32(); return err },
		"exit":   func(r *Reader) error { _, err := r.ExitStatus(); return err },
	} {
		fr := NewReader(bytes.NewReader([]byte{3, 0, 0, 0, byte(Response), 200, 1, 0, 0, 0, 0, 0, 0, 0, 0}), 0)
		if _, _, err := fr.Next(); err != nil {
			t.Fatal(err)
		}
		if err := read(fr); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzEventHead(f *testing.F) {
	f.Add("id", int64(1), "arn", "trace", `{"a":"b"}`, "\x00\x1f\"\\\u2028", "\xff\xfe", true)
	f.Fuzz(func(t *testing.T, id string, deadline int64, arn, trace, client, identity, tenant string, streamed bool) {
		valid := func(s string) string { return strings.ToValidUTF8(s, "") }
		want := Event{
			RequestID: valid(id), DeadlineMillis: deadline, InvokedARN: valid(arn), TraceID: valid(trace),
			ClientContext: valid(client), CognitoIdentity: valid(identity), TenantID: valid(tenant), Streamed: streamed, Payload: []byte("payload"),
		}
		raw := append(AppendEventHead([]byte("before"), &want), want.Payload...)
		fr := NewReader(bytes.NewReader(raw[len("before"):]), 0)
		typ, _, err := fr.Next()
		if err != nil || typ != Invoke {
			t.Fatal(typ, err)
		}
		size, err := fr.Uint32()
		if err != nil {
			t.Fatal(err)
		}
		head, err := fr.Bytes(int64(size))
		if err != nil {
			t.Fatal(err)
		}
		var got Event
		if err := json.Unmarshal(head, &got); err != nil {
			t.Fatalf("%s: %v", head, err)
		}
		if got.Payload, err = fr.Rest(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		// Whatever the strings hold, the header is JSON.
		if b := appendString(nil, id+"\xff"+client); !json.Valid(b) {
			t.Errorf("not JSON: %q", b)
		}
	})
}
