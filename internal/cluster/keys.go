package cluster

import (
	"fmt"
	"strings"

	"lambent"
)

// Key makes the key of a record from its parts, whatever bytes they hold. Parts
// are joined by dots; letters, digits, "-" and "_" stand for themselves, every
// other byte for "=" and its two hexadecimal digits, and an empty part for "=".
// Different parts make different keys, and KeyParts undoes it.
func Key(parts ...string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		if part == "" {
			b.WriteByte('=')
		}
		for _, c := range []byte(part) {
			if isPlain(c) {
				b.WriteByte(c)
			} else {
				b.Write([]byte{'=', hex[c>>4], hex[c&15]})
			}
		}
	}
	return b.String()
}

// KeyParts gives the parts Key made key from, or KindInvalid where Key makes no
// such key.
func KeyParts(key string) ([]string, error) {
	parts := strings.Split(key, ".")
	for i, part := range parts {
		if part == "=" {
			parts[i] = ""
			continue
		}
		var b strings.Builder
		for at := 0; at < len(part); at++ {
			c := part[at]
			if c == '=' && at+2 < len(part) {
				hi, lo := unhex(part[at+1]), unhex(part[at+2])
				if hi >= 0 && lo >= 0 {
					c = byte(hi<<4 | lo)
					at += 2
				}
			}
			b.WriteByte(c)
		}
		parts[i] = b.String()
	}
	if Key(parts...) != key {
		return nil, &lambent.Error{Op: "read key", Resource: fmt.Sprintf("%q", key), Kind: lambent.KindInvalid}
	}
	return parts, nil
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
