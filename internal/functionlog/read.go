package functionlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lambent"
)

// Filter says which entries are wanted; the zero Filter wants all.
type Filter struct {
	Since     time.Time         // not those before
	RequestID lambent.RequestID // only those of one invocation; "" for all
	Limit     int               // of those that are stored, only the newest so many; 0 for all
}

// wants lets every note through that is not too old: the missing lines may have
// been wanted ones.
func (f Filter) wants(e Entry) bool {
	return !e.Time.Before(f.Since) && (f.RequestID == "" || e.RequestID == f.RequestID || e.Stream == StreamNote)
}

// Read gives what is kept of a function's log, oldest first, everything that
// was appended before included. A function without a log has an empty one.
func (l *Log) Read(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, want Filter) (entries []Entry, err error) {
	o := owner{account, name}
	var stored *sections
	if e := l.do(ctx, func() { stored, err = openSections(l.writer.dir, o) }); e != nil || err != nil {
		return nil, fmt.Errorf("read log of %s: %w", name, errors.Join(e, err))
	}
	entries, err = stored.read(ctx, want)
	if err = errors.Join(err, stored.close()); err != nil {
		return nil, fmt.Errorf("read log of %s: %w", name, err)
	}
	return entries, nil
}

// Delete forgets the log of a function, everything that was appended before
// included. That there is none is no error. Followers go on.
func (l *Log) Delete(ctx context.Context, account lambent.AccountID, name lambent.FunctionName) (err error) {
	if e := l.do(ctx, func() { err = l.writer.remove(owner{account, name}) }); e != nil {
		return fmt.Errorf("delete log of %s: %w", name, e)
	}
	return err
}

// sections are the segments of a function as they are at one moment. They can
// be read while the writer goes on: it only appends to them, or gives their
// names to others.
type sections struct {
	files []*os.File // oldest first
	sizes []int64
}

// openSections is for the writer's goroutine.
func openSections(dir string, o owner) (*sections, error) {
	s := &sections{}
	for _, name := range []string{previousName, currentName} {
		f, err := os.Open(filepath.Join(folder(dir, o), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.files = append(s.files, f)
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.sizes = append(s.sizes, info.Size())
	}
	return s, nil
}

func (s *sections) close() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// read gives the entries that are wanted. Lines that cannot be read, and those
// that are longer than any this package writes, are passed over.
func (s *sections) read(ctx context.Context, want Filter) (entries []Entry, err error) {
	// Every byte of a text can take six in JSON (\u0000), and the rest of the
	// line is names.
	const maxLine = 6*MaxText + 64<<10
	for i, f := range s.files {
		r := bufio.NewReaderSize(io.NewSectionReader(f, 0, s.sizes[i]), 64<<10)
		for {
			text, err := readLine(r, maxLine)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return nil, err
			}
			var l line
			if json.Unmarshal(text, &l) != nil || l.Time.IsZero() {
				continue
			}
			if e := entryOf(l); want.wants(e) {
				entries = append(entries, e)
			}
			if want.Limit > 0 && len(entries) >= 2*want.Limit {
				entries = append([]Entry(nil), entries[len(entries)-want.Limit:]...)
			}
		}
	}
	if want.Limit > 0 && len(entries) > want.Limit {
		entries = entries[len(entries)-want.Limit:]
	}
	return entries, nil
}

// readLine reads up to a newline, or to the end, which is how a damaged tail
// looks. Of a line over limit it keeps nothing.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var all []byte
	over := false
	for {
		part, err := r.ReadSlice('\n')
		over = over || len(all)+len(part) > limit
		if !over {
			all = append(all, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(part) == 0 && len(all) == 0 && !over:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case over:
			return nil, nil
		}
		return bytes.TrimSuffix(all, []byte("\n")), nil
	}
}
