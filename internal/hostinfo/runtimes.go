package hostinfo

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// Installed is a language runtime found on the machine.
type Installed struct {
	Family  lambent.Family
	Version string // "20.20.2"; empty for provided, which needs no runtime
	Path    string // of the program itself, all symbolic links followed
	Root    string // the folder that holds all of it: "/usr" or "/opt/NAME"
	Image   string // by its digest, that is the whole file system; empty for runtimes of the machine
}

// String is for logs and tables: "nodejs 20.20.2 (/usr/bin/node)".
func (i Installed) String() string {
	if i.Image != "" {
		return "image " + i.Image
	}
	if i.Path == "" {
		return string(i.Family)
	}
	return fmt.Sprintf("%s %s (%s)", i.Family, i.Version, i.Path)
}

// Refused is a program that looks like a runtime and is not used.
type Refused struct {
	Path   string
	Reason string
}

// systemFolders are the only places a runtime is taken from: what an
// administrator installed for everybody. A home is never one of them: what is
// in it would have to be shown to every function.
var systemFolders = [...]string{"/usr/bin", "/usr/local/bin", "/opt/*/bin"}

// kind is how to recognise and read one family's runtimes.
type kind struct {
	family lambent.Family
	glob   string
	name   *regexp.Regexp
	output *regexp.Regexp
	oldest version // the oldest our bootstraps run on
}

func kinds() []kind {
	return []kind{
		{lambent.FamilyNode, "node*", regexp.MustCompile(`^node(js)?(-?\d+)?$`), regexp.MustCompile(`^v(\d+\.\d+\.\d+)`), version{18, 0}},
		{lambent.FamilyPython, "python3*", regexp.MustCompile(`^python3(\.\d+)?$`), regexp.MustCompile(`^Python (3\.\d+\.\d+)`), version{3, 9}},
	}
}

// FindRuntimes looks for language runtimes in the system folders: the newest of
// a family first, each program once, of equal versions the one in the first
// folder. Programs that cannot be used are told of with the reason. Versions are
// found by running the programs (some 0.1 s each).
func FindRuntimes(ctx context.Context, p Probe) ([]Installed, []Refused) {
	var found []Installed
	var refused []Refused
	seen := map[string]bool{}
	for _, k := range kinds() {
		for _, folder := range systemFolders {
			for _, file := range p.Glob(path.Join(folder, k.glob)) {
				if !k.name.MatchString(path.Base(file)) {
					continue
				}
				target, err := p.Resolve(file)
				if err != nil {
					refused = append(refused, Refused{file, fmt.Sprintf("its link leads nowhere: %v", err)})
					continue
				}
				if seen[target] {
					continue
				}
				seen[target] = true
				inst, err := k.examine(ctx, p, target)
				if err != nil {
					refused = append(refused, Refused{file, err.Error()})
					continue
				}
				if !slices.ContainsFunc(found, func(f Installed) bool { return f.Family == inst.Family && f.Version == inst.Version }) {
					found = append(found, inst)
				}
			}
		}
	}
	order := lambent.Families()
	slices.SortStableFunc(found, func(a, b Installed) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Family), slices.Index(order, b.Family)),
			-slices.Compare(versionParts(a.Version), versionParts(b.Version)))
	})
	return found, refused
}

// examine decides whether the program may and can be used.
func (k kind) examine(ctx context.Context, p Probe, target string) (Installed, error) {
	root, ok := rootOf(target)
	if !ok {
		return Installed{}, fmt.Errorf("it is really %s, outside of /usr and /opt: install it there", target)
	}
	head, err := p.Head(target, 4)
	if err != nil {
		return Installed{}, err
	}
	if !bytes.Equal(head, []byte("\x7fELF")) {
		return Installed{}, fmt.Errorf("it is a script, which may lead anywhere: install the program itself")
	}
	out, err := p.Version(ctx, target)
	if err != nil {
		return Installed{}, err
	}
	m := k.output.FindStringSubmatch(out)
	if m == nil {
		return Installed{}, fmt.Errorf("it told no version but %.80q", out)
	}
	if v := versionParts(m[1]); slices.Compare(v, k.oldest[:]) < 0 {
		return Installed{}, fmt.Errorf("%s is too old: %d.%d is the oldest that is supported", m[1], k.oldest[0], k.oldest[1])
	}
	return Installed{Family: k.family, Version: m[1], Path: target, Root: root}, nil
}

// rootOf is the folder a sandbox must show for the program to run.
func rootOf(target string) (string, bool) {
	switch parts := strings.Split(target, "/"); {
	case strings.HasPrefix(target, "/usr/"), strings.HasPrefix(target, "/bin/"):
		return "/usr", true
	case len(parts) >= 4 && parts[1] == "opt":
		return "/opt/" + parts[2], true
	}
	return "", false
}

// version is the part of a version that AWS's runtime identifiers tell apart:
// {22, 0} for any Node 22, {3, 12} for any Python 3.12.
type version [2]int

func versionParts(s string) []int {
	var parts []int
	for f := range strings.SplitSeq(s, ".") {
		n, err := strconv.Atoi(f)
		if err != nil {
			break
		}
		parts = append(parts, n)
	}
	return parts
}

// served is what of a version matters to functions: Node's major, Python's
// major and minor.
func served(f lambent.Family, s string) (v version) {
	parts := versionParts(s)
	if f == lambent.FamilyNode {
		parts = parts[:min(1, len(parts))]
	}
	copy(v[:], parts)
	return v
}

// Match picks the runtime that serves functions of rt: the same version, else
// the nearest newer one, else the nearest older one. Newer goes first because
// languages take away less than they add. ok is false where nothing of the
// family is there, or lambent has no such family. Provided functions bring their
// runtime along: they always match, with an Installed that has no Path.
func Match(rt lambent.Runtime, installed []Installed) (best Installed, exact, ok bool) {
	family, known := rt.Family()
	if !known {
		return Installed{}, false, false
	}
	if family == lambent.FamilyProvided {
		return Installed{Family: family}, true, true
	}
	want := served(family, rt.LanguageVersion())
	// rank orders candidates: smaller is better.
	rank := func(i Installed) [2]int {
		have := served(family, i.Version)
		gap := (have[0]-want[0])*1000 + have[1] - want[1]
		switch {
		case gap == 0:
			return [2]int{0, 0}
		case gap > 0:
			return [2]int{1, gap}
		}
		return [2]int{2, -gap}
	}
	for _, i := range installed {
		if i.Family != family {
			continue
		}
		a, b := rank(i), rank(best)
		if !ok || slices.Compare(a[:], b[:]) < 0 {
			best, ok = i, true
		}
	}
	return best, ok && rank(best)[0] == 0, ok
}
