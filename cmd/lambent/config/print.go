package config

import (
	"regexp"
	"strconv"
	"strings"
)

// plain are values that YAML reads back as they stand.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._][A-Za-z0-9/._,:-]*$`)

// Print renders c as a whole configuration file: every key with what it is for,
// its environment variable and its flag above it. Load reads it back to the
// same configuration.
func (c Config) Print() string {
	var b strings.Builder
	b.WriteString("# lambent's configuration. Each key can also be given as an environment variable\n" +
		"# or a flag; a flag wins over the environment, the environment over this file.\n")
	group := ""
	for _, k := range Keys() {
		name, indent := k.Name, ""
		if g, rest, ok := strings.Cut(k.Name, "."); ok {
			name, indent = rest, "  "
			if g != group {
				b.WriteString("\n" + g + ":")
			}
			group = g
		}
		b.WriteString("\n")
		for _, line := range wrap(k.Help, 92) {
			b.WriteString(indent + "# " + line + "\n")
		}
		b.WriteString(indent + "# " + k.Env() + ", --" + k.Flag() + "\n")
		text := k.get(&c)
		if !plain.MatchString(text) || strings.HasSuffix(text, ":") {
			text = strconv.Quote(text)
		}
		b.WriteString(indent + name + ": " + text + "\n")
	}
	return b.String()
}

func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
