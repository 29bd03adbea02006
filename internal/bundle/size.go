package bundle

import (
	"archive/zip"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// checkDeclared refuses by the sizes and places the directory declares:
// packages that say themselves that they are too large, and packages whose
// entries share bytes, which only bombs do. Sizes that are lied about are found
// while inflating.
func checkDeclared(files []*zip.File, limit int64) error {
	type span struct {
		start, end int64
		name       string
	}
	spans := make([]span, 0, len(files))
	left := uint64(limit)
	for _, f := range files {
		if f.UncompressedSize64 > left {
			return errTooLarge
		}
		left -= f.UncompressedSize64
		data, err := f.DataOffset()
		if err != nil {
			return fmt.Errorf("entry %q: %w", f.Name, err)
		}
		// The local header before the data is 30 bytes, the name and extra
		// fields; what the local header adds in extra fields is not known here.
		const localHeader = 30 // APPNOTE.TXT 4.3.7
		end := data + int64(f.CompressedSize64)
		if end < data {
			return fmt.Errorf("entry %q: compressed size %d", f.Name, f.CompressedSize64)
		}
		spans = append(spans, span{data - localHeader - int64(len(f.Name)), end, f.Name})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(spans); i++ {
		if spans[i].start < spans[i-1].end {
			return fmt.Errorf("entries %q and %q overlap", spans[i-1].name, spans[i].name)
		}
	}
	return nil
}

// budget counts the bytes a package may still unpack to.
type budget struct {
	left int64
}

// inflate writes the data of f to w and takes its size off the budget. It stops
// at the first byte over, with errTooLarge; a wrong checksum or length is an
// error too.
func (b *budget) inflate(w io.Writer, f *zip.File) (int64, error) {
	r, err := f.Open()
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, io.LimitReader(r, b.left))
	b.left -= n
	if err == nil && b.left == 0 {
		err = requireEnd(r)
	}
	return n, errors.Join(err, r.Close())
}

// requireEnd reports errTooLarge where r has another byte. Reading on also has
// the checksum compared, which the limit kept from happening.
func requireEnd(r io.Reader) error {
	var one [1]byte
	switch _, err := io.ReadFull(r, one[:]); {
	case err == nil:
		return errTooLarge
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}
