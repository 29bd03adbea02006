package runtimeapi_test

import (
	"fmt"
	"strings"
	"testing"

	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// BenchmarkInvoke is a round trip with a guest that answers at once, in the same
// process: what the session and two passes through a socket cost.
func BenchmarkInvoke(b *testing.B) {
	for _, size := range []int{2, 1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s, far, g := readySession(b)
			go echo(g, far)
			e := event("11111111-2222-3333-4444-555555555555", strings.Repeat("x", size))
			b.ReportAllocs()
			b.SetBytes(int64(2 * size))
			for b.Loop() {
				if _, err := s.Invoke(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// echo answers with READY in the same write, as the bootstraps do.
func echo(g *guest.Conn, far interface{ Write([]byte) (int, error) }) {
	var buf []byte
	for {
		e, err := g.NextEvent()
		if err != nil {
			return
		}
		buf = frame.AppendHeader(frame.AppendFrame(buf[:0], frame.Response, e.Payload, e.RequestID), frame.Ready, 0)
		if _, err := far.Write(buf); err != nil {
			return
		}
	}
}
