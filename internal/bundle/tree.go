package bundle

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unsafe"
)

// tree is what a package would look like on disk. It finds what no single entry
// shows: two entries for one path, entries below a file or a link, links that
// leave the root through other links.
type tree struct {
	nodes  map[string]EntryKind // by path; folders implied by a path included
	links  map[string]string    // target by path
	folded map[string]string    // path by its lower-case form; a link's where there are several
	work   int                  // bytes checkLinks may still handle
}

// maxLinkWork bounds the work of following all links of a package, which the
// number of links, hops and elements alone would let grow to minutes. It is
// counted in bytes of the paths that are put together: half a second at most. Fifty
// thousand links of ten elements, as package managers make them, take less than half of it.
const maxLinkWork = 256 << 20

func newTree() *tree {
	return &tree{nodes: map[string]EntryKind{}, links: map[string]string{}, folded: map[string]string{}, work: maxLinkWork}
}

// add places an entry. It reports false for a folder that is there already, be
// it because of what lies in it, which is harmless and common.
func (t *tree) add(e Entry) (bool, error) {
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		kind, there := t.nodes[dir]
		if there && kind != KindFolder {
			return false, fmt.Errorf("lies below %q, which is not a folder", dir)
		}
		if there {
			break // and so are the folders above it
		}
		if err := t.put(dir, KindFolder); err != nil {
			return false, err
		}
	}
	if kind, there := t.nodes[e.Path]; there {
		if kind == KindFolder && e.Kind == KindFolder {
			return false, nil
		}
		return false, errors.New("is in the package twice")
	}
	if e.Kind == KindLink {
		t.links[e.Path] = e.Target
	}
	return true, t.put(e.Path, e.Kind)
}

// put records a path. Names that differ by case only are two files on the file
// systems lambent unpacks to, and packages for Linux have such; on one that
// folds case, a link among them could redirect the other, so that is refused.
func (t *tree) put(p string, kind EntryKind) error {
	t.nodes[p] = kind
	if len(t.nodes) > MaxEntries {
		return fmt.Errorf("more than %d files and folders", MaxEntries)
	}
	low := strings.ToLower(p)
	other, clash := t.folded[low]
	if clash && (kind == KindLink || t.nodes[other] == KindLink) {
		return fmt.Errorf("differs from %q by case only, and one of them is a link", other)
	}
	if !clash || kind == KindLink {
		t.folded[low] = p
	}
	return nil
}

// checkLinks refuses links that, followed through all the others, leave the
// root or never end. A link to nothing inside the root is let through.
func (t *tree) checkLinks() error {
	for _, p := range slices.Sorted(maps.Keys(t.links)) {
		if err := t.follow(p); err != nil {
			return fmt.Errorf("entry %q: link to %q %w", p, t.links[p], err)
		}
	}
	return nil
}

// follow resolves a link as the kernel would: element by element, and ".." of
// what was reached rather than of what was written.
func (t *tree) follow(link string) error {
	var at []string // the elements reached so far, none of them a link
	rest := strings.Split(link, "/")
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if t.work -= 1 + len(part); t.work < 0 || len(at) > maxDepth {
			return errors.New("goes on for too long")
		}
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return errors.New("leaves the package")
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at, part)
		here := strings.Join(at, "/")
		t.work -= len(here)
		target, isLink := t.links[here]
		if !isLink {
			continue
		}
		if hops++; hops > maxLinkHops {
			return errors.New("goes in a circle")
		}
		at = at[:len(at)-1]
		rest = append(strings.Split(target, "/"), rest...)
		t.work -= len(target) + len(rest)*int(unsafe.Sizeof(part))
	}
	return nil
}
