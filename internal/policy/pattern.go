package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Wildcards stand in a compiled pattern as bytes that no UTF-8 text has, so
// that an asterisk which came out of a variable, or was written ${*}, is only an
// asterisk.
const (
	anyRun = 0xFF // any characters, or none
	anyOne = 0xFE // one character
)

// everything is the compiled pattern "*".
const everything = "\xFF"

// maxPattern bounds one string of a policy in bytes: no ARN may be longer (IAM
// quotas).
const maxPattern = 2048

// pattern is a string of a policy that values of a request are compared to.
type pattern struct {
	text  string // compiled; whole where there are no parts
	parts []part // in order, where it has variables
}

// part is a piece of a pattern: text, or a variable to be put in its place.
type part struct {
	text     string
	variable string // its condition key in lower case; "" where this is text
	fallback string // in place of a variable without a value
	hasElse  bool   // there is a fallback
}

// dialect says what is special in a string of a policy.
type dialect struct{ wildcards, variables bool }

// compile reads one string of a policy. Variables are ${key}, ${key, 'value if
// there is none'}, and ${*}, ${?} and ${$} for these characters themselves.
func compile(s string, d dialect) (pattern, error) {
	if len(s) > maxPattern {
		return pattern{}, fmt.Errorf("a value has %d bytes: at most %d may be", len(s), maxPattern)
	}
	var p pattern
	var text strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case d.variables && c == '$' && strings.HasPrefix(s[i:], "${"):
			inside, _, closed := strings.Cut(s[i+2:], "}")
			if !closed {
				return pattern{}, fmt.Errorf("the value %q has a variable that does not end: write ${name}, or ${$} for a dollar sign", s)
			}
			i += len("${") + len(inside)
			if inside == "*" || inside == "?" || inside == "$" {
				text.WriteString(inside)
				continue
			}
			v, err := variable(inside)
			if err != nil {
				return pattern{}, fmt.Errorf("the value %q: %w", s, err)
			}
			if text.Len() > 0 {
				p.parts = append(p.parts, part{text: text.String()})
				text.Reset()
			}
			p.parts = append(p.parts, v)
		case d.wildcards && c == '*':
			text.WriteByte(anyRun)
		case d.wildcards && c == '?':
			text.WriteByte(anyOne)
		default:
			text.WriteByte(c)
		}
	}
	if p.parts == nil {
		p.text = text.String()
	} else if text.Len() > 0 {
		p.parts = append(p.parts, part{text: text.String()})
	}
	return p, nil
}

// variable reads what stands between ${ and }.
func variable(inside string) (part, error) {
	name, otherwise, hasElse := strings.Cut(inside, ",")
	v := part{variable: strings.ToLower(strings.TrimSpace(name)), hasElse: hasElse}
	if err := checkKey(v.variable); err != nil {
		return part{}, fmt.Errorf("the variable ${%s} is none: %w", inside, err)
	}
	if hasElse {
		quoted := strings.TrimSpace(otherwise)
		if len(quoted) < 2 || quoted[0] != '\'' || quoted[len(quoted)-1] != '\'' {
			return part{}, fmt.Errorf("the variable ${%s} has a default value that is not in single quotes: write ${%s, 'value'}", inside, v.variable)
		}
		v.fallback = quoted[1 : len(quoted)-1]
	}
	return v, nil
}

// checkKey refuses what cannot be a condition key, such as aws:username or
// aws:PrincipalTag/team.
func checkKey(key string) error {
	prefix, name, ok := strings.Cut(key, ":")
	if !ok || prefix == "" || name == "" || len(key) > 256 || strings.ContainsAny(key, " \t\r\n${}*?'\"") {
		return fmt.Errorf("%q is not a condition key: one is a service's prefix, a colon and a name, such as aws:username", key)
	}
	return nil
}

// expand puts the values of the request in the place of variables. It reports
// false where one has none, more than one, or one that is no text: then nothing
// matches the pattern.
func (p *pattern) expand(e *evaluation) (string, bool) {
	if p.parts == nil {
		return p.text, true
	}
	var b strings.Builder
	for _, part := range p.parts {
		if part.variable == "" {
			b.WriteString(part.text)
			continue
		}
		values := e.values(part.variable)
		switch {
		case len(values) == 1 && utf8.ValidString(values[0]):
			b.WriteString(values[0])
		case len(values) == 0 && part.hasElse:
			b.WriteString(part.fallback)
		default:
			return "", false
		}
	}
	return b.String(), true
}

// glob reports whether a compiled pattern matches all of s. It never goes back
// over an asterisk: what stands between two is taken where it is first found.
func glob(p, s string) bool {
	star := strings.IndexByte(p, anyRun)
	if star < 0 {
		n := prefix(p, s)
		return n == len(s)
	}
	n := prefix(p[:star], s)
	if n < 0 {
		return false
	}
	p, s = p[star+1:], s[n:]
	for {
		star = strings.IndexByte(p, anyRun)
		if star < 0 {
			return endsWith(s, p)
		}
		n := find(p[:star], s)
		if n < 0 {
			return false
		}
		p, s = p[star+1:], s[n:]
	}
}

// prefix tells how many bytes of s a pattern without asterisks takes at its
// beginning, -1 where it does not match.
func prefix(p, s string) int {
	at := 0
	for i := range len(p) {
		if at >= len(s) {
			return -1
		}
		if p[i] == anyOne {
			_, n := utf8.DecodeRuneInString(s[at:])
			at += n
			continue
		}
		if p[i] != s[at] {
			return -1
		}
		at++
	}
	return at
}

// endsWith reports whether a pattern without asterisks matches the end of s.
func endsWith(s, p string) bool {
	for i := len(p) - 1; i >= 0; i-- {
		if s == "" {
			return false
		}
		if p[i] == anyOne {
			_, n := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-n]
			continue
		}
		if p[i] != s[len(s)-1] {
			return false
		}
		s = s[:len(s)-1]
	}
	return true
}

// find tells where in s the first match of a pattern without asterisks ends, -1
// where there is none.
func find(p, s string) int {
	if strings.IndexByte(p, anyOne) < 0 {
		if at := strings.Index(s, p); at >= 0 {
			return at + len(p)
		}
		return -1
	}
	return findAny(p, s)
}

// findAny is find for a pattern with question marks. It keeps, as bits, all the
// beginnings of the pattern that end where it has come to in s (Baeza-Yates and
// Gonnet's Shift-And), so that a hostile pattern costs no more than its length
// in words for each character of s.
func findAny(p, s string) int {
	const bits = 64
	words := (len(p) + bits - 1) / bits
	masks := map[rune][]uint64{} // of a character: where in the pattern it fits
	fitsAll := make([]uint64, words)
	count := 0
	for rest := p; rest != ""; count++ {
		if rest[0] == anyOne {
			fitsAll[count/bits] |= 1 << (count % bits)
			rest = rest[1:]
			continue
		}
		c, n := utf8.DecodeRuneInString(rest)
		if masks[c] == nil {
			masks[c] = make([]uint64, words)
		}
		masks[c][count/bits] |= 1 << (count % bits)
		rest = rest[n:]
	}
	state := make([]uint64, words)
	for at, c := range s {
		carry := uint64(1) // the pattern may begin anywhere
		mask := masks[c]
		for i := range state {
			next := state[i]<<1 | carry
			carry = state[i] >> (bits - 1)
			fits := fitsAll[i]
			if mask != nil {
				fits |= mask[i]
			}
			state[i] = next & fits
		}
		if state[(count-1)/bits]>>((count-1)%bits)&1 == 1 {
			_, n := utf8.DecodeRuneInString(s[at:])
			return at + n
		}
	}
	return -1
}

// arnParts is how many parts an ARN has, divided by colons; the last may hold
// more of them.
const arnParts = 6

// globARN compares ARNs part by part, so that a wildcard does not reach over a
// colon into the next one, except in the last.
func globARN(p, s string) bool {
	for range arnParts - 1 {
		head, rest, ok := strings.Cut(p, ":")
		value, more, okay := strings.Cut(s, ":")
		if !ok || !okay || !glob(head, value) {
			return false
		}
		p, s = rest, more
	}
	return glob(p, s)
}
