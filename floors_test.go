package lambent_test

import (
	"strings"
	"testing"
)

// floors says on which floor each package stands: it imports only from lower
// floors, never a sibling. A package that is not named stands where the nearest
// one above its folder does, and counts as a part of that one: what is below one
// folder may import each other.
var floors = map[string]int{
	"lambent": 0, // the vocabulary

	// mechanisms and decisions
	"lambent/examples":             1,
	"lambent/internal/bundle":      1,
	"lambent/internal/capacity":    1,
	"lambent/internal/cgroup":      1,
	"lambent/internal/control":     1,
	"lambent/internal/egress":      1,
	"lambent/internal/functionlog": 1,
	"lambent/internal/hostinfo":    1,
	"lambent/internal/obs":         1,
	"lambent/internal/placement":   1,
	"lambent/internal/policy":      1,
	"lambent/internal/reconnect":   1,
	"lambent/internal/runtimeapi":  1,
	"lambent/internal/s3":          1,
	"lambent/internal/sandbox":     1,
	"lambent/internal/sigv4":       1,
	"lambent/internal/stream":      1,
	"lambent/runtimes":             1,

	// heavy libraries
	"lambent/internal/cluster":             2,
	"lambent/internal/deliver":             2,
	"lambent/internal/image":               2,
	"lambent/internal/judge":               2,
	"lambent/internal/sandbox/fake":        2,
	"lambent/internal/sandbox/gvisor":      2,
	"lambent/internal/sandbox/sandboxtest": 2,

	// records over cluster; one machine over sandbox
	"lambent/internal/failures":  3,
	"lambent/internal/host":      3,
	"lambent/internal/hotreload": 3,
	"lambent/internal/identity":  3,
	"lambent/internal/queue":     3,
	"lambent/internal/registry":  3,
	"lambent/internal/state":     3,

	"lambent/internal/pool": 4, // the worker manager

	"lambent/internal/invoke": 5, // one invocation's life

	// doors
	"lambent/internal/api":     6,
	"lambent/internal/console": 6,
	"lambent/internal/gateway": 6,
	"lambent/internal/source":  6,

	// wiring; programs
	"lambent/cmd/lambent":         7,
	"lambent/cmd/lambent-init":    7,
	"lambent/cmd/lambent-sandbox": 7,
	"lambent/examples/go":         7,
	"lambent/scripts":             7,
}

// floorOf finds the entry that holds for a package.
func floorOf(importPath string) (entry string, floor int, ok bool) {
	for p := importPath; p != "lambent" && p != "."; p = p[:max(0, strings.LastIndex(p, "/"))] {
		if floor, ok := floors[p]; ok {
			return p, floor, true
		}
	}
	return "lambent", 0, importPath == "lambent"
}

func TestPackagesImportOnlyLowerFloors(t *testing.T) {
	for _, p := range packages(t) {
		entry, floor, ok := floorOf(p.path)
		if !ok {
			t.Errorf("%s stands on no floor: add it to the table", p.path)
			continue
		}
		check := func(imports []string, highest int, what string) {
			for _, i := range imports {
				if i != "lambent" && !strings.HasPrefix(i, "lambent/") {
					continue
				}
				other, at, ok := floorOf(i)
				if !ok {
					t.Errorf("%s imports %s, which stands on no floor", p.path, i)
				} else if at > highest && other != entry {
					t.Errorf("%s (floor %d) imports %s (floor %d)%s", p.path, floor, i, at, what)
				}
			}
		}
		check(p.imports(false), floor-1, "")
		if p.path != "lambent" { // these tests are about all floors
			check(p.imports(true), floor, " in its tests")
		}
	}
}

func TestHeavyLibrariesStayWhereTheyBelong(t *testing.T) {
	home := map[string][]string{ // what an import begins with → the folders that may
		"gvisor.dev/":                            {"lambent/internal/sandbox/gvisor", "lambent/cmd/lambent="},
		"github.com/nats-io/":                    {"lambent/internal/cluster", "lambent/internal/deliver"},
		"github.com/google/go-containerregistry": {"lambent/internal/image"},
		"github.com/alecthomas/":                 {"lambent/cmd"},
		"github.com/goccy/go-yaml":               {"lambent/cmd"},
		"github.com/prometheus/":                 {"lambent/internal/obs"},
	}
	for _, p := range packages(t) {
		for _, i := range append(p.imports(false), p.imports(true)...) {
			for library, folders := range home {
				if strings.HasPrefix(i, library) && !inAny(p.path, folders) {
					t.Errorf("%s imports %s, which belongs to %s", p.path, i, strings.Join(folders, " and "))
				}
			}
		}
	}
}

// inAny reports whether a package is one of the folders or below one; a folder
// with = at its end stands for itself alone.
func inAny(importPath string, folders []string) bool {
	for _, f := range folders {
		if alone, ok := strings.CutSuffix(f, "="); ok {
			if importPath == alone {
				return true
			}
			continue
		}
		if importPath == f || strings.HasPrefix(importPath, f+"/") {
			return true
		}
	}
	return false
}

func TestDecisionsArePure(t *testing.T) {
	pure := []string{"lambent", "lambent/internal/placement", "lambent/internal/capacity", "lambent/internal/control", "lambent/internal/policy"}
	for _, p := range packages(t) {
		for _, name := range pure {
			if p.path != name && (name == "lambent" || !strings.HasPrefix(p.path, name+"/")) {
				continue
			}
			for _, i := range p.imports(false) {
				first, _, _ := strings.Cut(i, "/")
				switch {
				case first == "os" || first == "net" && i != "net/netip" || strings.HasPrefix(i, "math/rand"): // netip is addresses as values
					t.Errorf("%s imports %s: it decides, and what it decides from is an argument", p.path, i)
				case name == "lambent" && strings.Contains(first, "."):
					t.Errorf("%s imports %s: the vocabulary needs the standard library only", p.path, i)
				}
			}
		}
	}
}
