package runtimes_test

import (
	"strings"
	"testing"

	"lambent"
	"lambent/internal/runtimeapi/runtimetest"
)

// BenchmarkEcho is a warm call of the smallest function, natively: the host's
// session, the socket, and the language's bootstrap.
func BenchmarkEcho(b *testing.B) {
	for _, family := range []lambent.Family{lambent.FamilyNode, lambent.FamilyPython} {
		for name, payload := range map[string]string{"small": `{"key":"value"}`, "64KiB": `"` + strings.Repeat("x", 64<<10) + `"`} {
			b.Run(string(family)+"/"+name, func(b *testing.B) {
				f := echoes[family]
				p := ready(b, family, f.code, f.handler, nil)
				e := event(requestID, payload)
				for b.Loop() {
					if _, err := p.Invoke(b.Context(), e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkBoot is how long the start of a bootstrap takes, natively, until it
// waits for code; and how long after that a first function takes to be ready.
func BenchmarkBoot(b *testing.B) {
	for _, family := range []lambent.Family{lambent.FamilyNode, lambent.FamilyPython} {
		b.Run(string(family), func(b *testing.B) {
			for b.Loop() {
				_ = start(b, family).Close()
			}
		})
		b.Run(string(family)+"/assign", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p := start(b, family)
				b.StartTimer()
				f := echoes[family]
				if err := assign(b, p, f.code, f.handler, nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				end(p)
				b.StartTimer()
			}
		})
	}
}

func end(p *runtimetest.Process) {
	_ = p.Close()
	p.Wait()
}
