package policy

import (
	"regexp"
	"strings"
	"testing"
)

// A pattern matches what the same regular expression does.
func FuzzPatternsMatchLikeRegularExpressions(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*?a?*", "bcab")
	f.Add("**", "")
	f.Add("?", "é")
	f.Add("*é?x*"+strings.Repeat("?", 70), "aéyx"+strings.Repeat("z", 80))
	f.Fuzz(func(t *testing.T, text, s string) {
		text, s = strings.ToValidUTF8(text, "~"), strings.ToValidUTF8(s, "~")
		p, err := compile(text, dialect{wildcards: true})
		if err != nil {
			return
		}
		quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(text))
		re, err := regexp.Compile(`(?s)\A` + quoted + `\z`)
		if err != nil {
			return // too long for a regular expression
		}
		if got, want := glob(p.text, s), re.MatchString(s); got != want {
			t.Errorf("%q matches %q: %t, a regular expression says %t", text, s, got, want)
		}
	})
}
