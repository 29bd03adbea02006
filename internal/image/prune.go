package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lambent"
)

// Prune removes the images that wanted does not list, now or when nobody holds
// them any more, and the layers that no image has, nor one that is being made.
// Nobody takes hold of an image while wanted is called.
func (s *Store) Prune(wanted func() map[lambent.CodeHash]bool) error {
	gone, err := s.cut(wanted)
	for _, dir := range gone { // which takes a while, and nobody waits for it
		err = errors.Join(err, removeTree(dir))
	}
	if err != nil {
		return fmt.Errorf("prune images: %w", err)
	}
	return nil
}

// discard moves a folder to where Open would remove it, and tells where that is.
func discard(dir string) (gone string, err error) {
	temp, err := os.MkdirTemp(filepath.Dir(dir), unfinished)
	if err != nil {
		return "", err
	}
	return temp, os.Rename(dir, filepath.Join(temp, "gone"))
}

// discardTo adds where it is to those that are gone.
func discardTo(gone []string, dir string) ([]string, error) {
	temp, err := discard(dir)
	if temp != "" {
		gone = append(gone, temp)
	}
	return gone, err
}

// cut discards what Prune removes, and tells where it is.
func (s *Store) cut(wanted func() map[lambent.CodeHash]bool) (gone []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed := map[string]bool{}
	for _, m := range s.making {
		for _, id := range m.layers {
			needed[id.Hex] = true
		}
	}
	names, err := os.ReadDir(s.rootDir(""))
	if err != nil {
		return gone, err
	}
	keep := wanted()
	for _, n := range names {
		digest := n.Name()
		if strings.HasPrefix(digest, unfinished) {
			continue
		}
		kept := keep[codeHash(v1.Hash{Algorithm: "sha256", Hex: digest})]
		e := s.roots[digest]
		if !kept && e != nil && e.refs > 0 {
			e.doomed = true
		} else if !kept {
			delete(s.roots, digest)
			if gone, err = discardTo(gone, s.rootDir(digest)); err != nil {
				return gone, err
			}
			continue
		}
		root, err := readRoot(s.rootDir(digest))
		if unreadable(err) { // whoever wants it next makes it anew
			continue
		}
		if err != nil {
			return gone, err
		}
		for _, id := range root.Layers {
			needed[id] = true
		}
	}
	if names, err = os.ReadDir(s.layerDir("")); err != nil {
		return gone, err
	}
	for _, n := range names {
		if id := n.Name(); !needed[id] && !strings.HasPrefix(id, unfinished) {
			if gone, err = discardTo(gone, s.layerDir(id)); err != nil {
				return gone, err
			}
		}
	}
	return gone, nil
}

// unreadable is whether what is on the disk is not what this server wrote.
func unreadable(err error) bool {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	return syntax || kind
}
