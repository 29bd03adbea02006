package api

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"lambent"
)

// A rule is one constraint of the service model on a string.
type rule struct {
	text string // as AWS words it: "Member must …"
	ok   func(string) bool
}

const mustNotBeNull = "Member must not be null"

func maxLength(n int) rule {
	return rule{
		text: "Member must have length less than or equal to " + strconv.Itoa(n),
		ok:   func(s string) bool { return utf16Length(s) <= n },
	}
}

func minLength(n int) rule {
	return rule{
		text: "Member must have length greater than or equal to " + strconv.Itoa(n),
		ok:   func(s string) bool { return utf16Length(s) >= n },
	}
}

// matching takes a pattern of the service model: it must hold for the whole
// string, and its text is what callers are shown.
func matching(pattern string) rule { return matchingAs(pattern, pattern) }

// matchingAs is for a pattern that RE2 has to have written differently.
func matchingAs(shown, pattern string) rule {
	re := regexp.MustCompile(`\A(?:` + pattern + `)\z`)
	return rule{text: "Member must satisfy regular expression pattern: " + shown, ok: re.MatchString}
}

func oneOf(values ...string) rule {
	return rule{
		text: "Member must satisfy enum value set: [" + strings.Join(values, ", ") + "]",
		ok:   func(s string) bool { return slices.Contains(values, s) },
	}
}

// violations gathers every broken constraint of a request, so that the caller
// is told of all of them at once.
type violations struct{ found []string }

// err is the ValidationException for what was found, nil if nothing was.
func (v *violations) err() error {
	if len(v.found) == 0 {
		return nil
	}
	return &lambent.Error{Op: "validate request", Kind: lambent.KindValidation, Message: v.text()}
}

func (v *violations) text() string {
	plural := "s"
	if len(v.found) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%d validation error%s detected: %s", len(v.found), plural, strings.Join(v.found, "; "))
}

// add notes one violation. value is printed as it is: quoted where there is
// one, "null" where there is none, empty where it is secret.
func (v *violations) add(path, value, constraint string) {
	if value != "" {
		value = " " + value
	}
	v.found = append(v.found, "Value"+value+" at '"+path+"' failed to satisfy constraint: "+constraint)
}

// required notes a member that is not there.
func (v *violations) required(path string, present bool) {
	if !present {
		v.add(path, "null", mustNotBeNull)
	}
}

// str checks an optional string.
func (v *violations) str(path string, s *string, rules ...rule) {
	if s == nil {
		return
	}
	for _, r := range rules {
		if !r.ok(*s) {
			v.add(path, quote(*s), r.text)
		}
	}
}

// integer checks an optional number against both its bounds.
func (v *violations) integer(path string, n *int, low, high int) {
	if n == nil {
		return
	}
	if *n < low {
		v.add(path, quote(strconv.Itoa(*n)), "Member must have value greater than or equal to "+strconv.Itoa(low))
	}
	if *n > high {
		v.add(path, quote(strconv.Itoa(*n)), "Member must have value less than or equal to "+strconv.Itoa(high))
	}
}

// list checks an optional list: its length, then its elements, all of whose
// rules AWS prints in one if any element breaks any.
func (v *violations) list(path string, l []*string, low, high int, rules ...rule) {
	if l == nil {
		return
	}
	shown := make([]string, 0, len(l))
	bad := false
	for _, s := range l {
		if s == nil {
			shown, bad = append(shown, "null"), true
			continue
		}
		shown = append(shown, *s)
		bad = bad || breaksAny(*s, rules)
	}
	value := quote("[" + strings.Join(shown, ", ") + "]")
	if len(l) < low {
		v.add(path, value, "Member must have length greater than or equal to "+strconv.Itoa(low))
	}
	if len(l) > high {
		v.add(path, value, "Member must have length less than or equal to "+strconv.Itoa(high))
	}
	if bad {
		v.add(path, value, "Member must satisfy constraint: "+allOf(rules))
	}
}

// secretMap checks the keys and values of an optional map whose content the
// model marks as sensitive: it is never printed.
func (v *violations) secretMap(path string, m map[string]*string, keys ...rule) {
	badKey, badValue := false, false
	for _, k := range slices.Sorted(maps.Keys(m)) {
		badKey = badKey || breaksAny(k, keys)
		badValue = badValue || m[k] == nil
	}
	if badKey {
		v.add(path, "", "Map keys must satisfy constraint: "+allOf(keys))
	}
	if badValue {
		v.add(path, "", "Map value must satisfy constraint: "+allOf(nil))
	}
}

func breaksAny(s string, rules []rule) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return !r.ok(s) })
}

func allOf(rules []rule) string {
	texts := make([]string, 0, len(rules)+1)
	for _, r := range rules {
		texts = append(texts, r.text)
	}
	return "[" + strings.Join(append(texts, mustNotBeNull), ", ") + "]"
}

// maxShown bounds how much of a refused value an answer repeats.
const maxShown = 4096

func quote(s string) string {
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return "'" + s + "'"
}

// utf16Length counts as Java does, whose lengths the model means.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		if n++; r >= utf8.RuneSelf && r > 0xFFFF {
			n++
		}
	}
	return n
}
