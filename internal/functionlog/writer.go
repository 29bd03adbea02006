package functionlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"lambent"
)

// The two segments of a function.
const (
	currentName  = "current.log"
	previousName = "previous.log"
)

// line is an entry on disk.
type line struct {
	Time      time.Time `json:"time"`
	Stream    string    `json:"stream,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
	Text      string    `json:"text"`
}

// writer puts entries into files and before followers. It belongs to one
// goroutine.
type writer struct {
	dir       string
	segment   int64 // bytes of one
	log       *slog.Logger
	note      func(format string, args ...any) Entry
	followers map[owner]map[*follower]bool
	lost      map[owner]int // lines the disk refused, not told of yet
	failing   bool          // the disk refused the last write; said once
}

// write writes a batch, the lines of each function at once, and then the notes
// of what was dropped.
func (w *writer) write(batch []queued, dropped map[owner]int) {
	entries := map[owner][]Entry{}
	var order []owner
	for _, q := range batch {
		if entries[q.owner] == nil {
			order = append(order, q.owner)
		}
		entries[q.owner] = append(entries[q.owner], q.Entry)
	}
	for o, n := range dropped {
		if entries[o] == nil {
			order = append(order, o)
		}
		entries[o] = append(entries[o], w.note("%d lines were dropped here: they came faster than they could be stored", n))
	}
	for _, o := range order {
		w.store(o, entries[o])
		for f := range w.followers[o] {
			f.push(entries[o])
		}
	}
}

// store writes entries to the files of a function. What the disk refuses is
// lost: to wait for it would only lose more. A note takes its place once the
// disk takes it.
func (w *writer) store(o owner, entries []Entry) {
	told := w.lost[o]
	if told > 0 {
		entries = append([]Entry{w.note("up to %d lines were lost here: the disk did not take them", told)}, entries...)
	}
	err := w.append(o, entries)
	if err == nil {
		delete(w.lost, o)
		w.failing = false
		return
	}
	w.lost[o] = told + len(entries)
	if told > 0 {
		w.lost[o]-- // the note
	}
	if !w.failing {
		w.failing = true
		w.log.Warn("function logs cannot be stored, and are lost until they can", "account", o.account, "function", o.name, "err", err)
	}
}

func (w *writer) append(o owner, entries []Entry) (err error) {
	dir := folder(w.dir, o)
	f, size, err := openCurrent(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var buf bytes.Buffer
	flush := func() error {
		n, err := f.Write(buf.Bytes())
		size += int64(n)
		buf.Reset()
		return err
	}
	if size > 0 {
		if err := endLine(f, size, &buf); err != nil {
			return err
		}
	}
	for _, e := range entries {
		text, err := json.Marshal(line{e.Time.UTC(), e.Stream, string(e.RequestID), e.Text})
		if err != nil {
			continue // a year JSON cannot hold: nobody's clock
		}
		if at := size + int64(buf.Len()); at > 0 && at+int64(len(text)) >= w.segment {
			if err := errors.Join(flush(), f.Close()); err != nil {
				return err
			}
			if err := os.Rename(filepath.Join(dir, currentName), filepath.Join(dir, previousName)); err != nil {
				return err
			}
			if f, size, err = openCurrent(dir); err != nil {
				return err
			}
		}
		buf.Write(text)
		buf.WriteByte('\n')
	}
	return flush()
}

// openCurrent opens the newest segment of a function for appending.
func openCurrent(dir string) (f *os.File, size int64, err error) {
	path := filepath.Join(dir, currentName)
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, 0, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// endLine ends a line that a crash cut short, so that it spoils no other.
func endLine(f *os.File, size int64, buf *bytes.Buffer) error {
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		buf.WriteByte('\n')
	}
	return nil
}

// remove forgets the log of a function.
func (w *writer) remove(o owner) error {
	if err := os.RemoveAll(folder(w.dir, o)); err != nil {
		return fmt.Errorf("delete log of %s: %w", o.name, err)
	}
	// The account's folder goes with its last function.
	err := os.Remove(filepath.Dir(folder(w.dir, o)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("delete log of %s: %w", o.name, err)
	}
	return nil
}

func (w *writer) endFollowers() {
	for _, fs := range w.followers {
		for f := range fs {
			f.end()
		}
	}
}

// folder is where the log of a function is. Accounts and names are plain by
// their own rules; here they are made so, whoever calls.
func folder(dir string, o owner) string {
	return filepath.Join(dir, fileName(string(o.account)), fileName(string(o.name)))
}

// fileName makes any text a file name of its own: letters, digits, "-" and "_"
// stand for themselves, other bytes for "=" and two hexadecimal digits.
func fileName(s string) string {
	var b bytes.Buffer
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	if b.Len() == 0 {
		return "="
	}
	return b.String()
}

func entryOf(l line) Entry {
	return Entry{Time: l.Time, Stream: l.Stream, RequestID: lambent.RequestID(l.RequestID), Text: l.Text}
}
