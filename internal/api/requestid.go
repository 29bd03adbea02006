package api

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"

	"lambent"
)

// newRequestID makes a random UUID (version 4) in lower case, as AWS's are.
func newRequestID() lambent.RequestID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return lambent.RequestID(s[:])
}

// maxTraceHeader bounds a trace header a caller brings along.
const maxTraceHeader = 1024

// traceID is the X-Amzn-Trace-Id of an invocation: the caller's, or a new one
// that is not sampled (X-Ray developer guide, "Tracing header").
func traceID(given string, now time.Time) string {
	if given != "" && len(given) <= maxTraceHeader && printable(given) {
		return given
	}
	var b [12]byte
	_, _ = rand.Read(b[:])
	s := make([]byte, 0, 52)
	s = append(s, "Root=1-"...)
	s = strconv.AppendInt(s, now.Unix()&0xffffffff, 16)
	s = append(s, '-')
	s = hex.AppendEncode(s, b[:])
	return string(append(s, ";Sampled=0"...))
}

// printable reports whether s can stand in a header: ASCII without controls.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
