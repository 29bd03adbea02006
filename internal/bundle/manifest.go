package bundle

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"lambent"
)

// MaxUnpackedBytes is how large a package may be once unpacked, layers
// included (AWS Lambda quotas: 250 MB, which the service enforces as 262144000).
const MaxUnpackedBytes int64 = lambent.MaxUnzipped

// Bounds of ours that AWS does not publish. They keep a small upload from
// costing a host its inodes or its memory.
const (
	MaxEntries   = 100_000 // files, links and folders, those only implied by a path included
	maxPathBytes = 1024    // of an entry's whole path
	maxNameBytes = 255     // of one element of it: NAME_MAX of Linux
	maxDepth     = 64      // elements of a path
	maxLinkHops  = 40      // links followed while one is resolved: MAXSYMLINKS of Linux
)

// Messages of AWS for packages it refuses.
const (
	messageCorrupt = "Could not unzip uploaded file. Please check your file, then try to upload again."
	messageEmpty   = "Uploaded file must be a non-empty zip"
	messageSize    = "Unzipped size must be smaller than %d bytes"
)

// EntryKind is what an entry of a package is.
type EntryKind uint8

// The kinds of entry. There are no others: devices, sockets and pipes are
// refused.
const (
	KindFile EntryKind = iota
	KindFolder
	KindLink
)

// Entry is one file, folder or symbolic link of a package.
type Entry struct {
	Path       string // relative and clean, with slashes
	Kind       EntryKind
	Executable bool      // files only: any of the three execute bits was set
	Size       int64     // files only: bytes, unpacked
	Target     string    // links only: as written in the package, relative
	Modified   time.Time // UTC, from epoch on
}

// mode is what the entry is given on disk. AWS wants packages to be readable by
// everybody, because the function's user is not their owner; nobody but the
// owner may write; setuid, setgid and sticky bits are never kept.
func (e Entry) mode() fs.FileMode {
	if e.Kind == KindFolder || e.Executable {
		return 0o755
	}
	return 0o644
}

// Manifest tells what is in a package that was found to be safe.
type Manifest struct {
	Entries []Entry // in the order of the package; folders that an earlier path implies are not listed
	Size    int64   // bytes of all files and link targets, unpacked
}

// Inspect reads a whole package and refuses what must never reach a sandbox.
// Every byte is inflated and its checksum compared, so it takes as long as
// unpacking does without the writing: under a second for the largest package.
//
// Errors are *lambent.Error of KindInvalid. Message holds AWS's text; Err names
// the entry and what is wrong with it, for logs and for the one who deploys.
func Inspect(pkg []byte) (Manifest, error) {
	m, err := inspect(pkg, MaxUnpackedBytes)
	if err != nil {
		return Manifest{}, refusal("inspect package", err, MaxUnpackedBytes)
	}
	return m, nil
}

func inspect(pkg []byte, limit int64) (Manifest, error) {
	c, err := open(pkg, limit)
	if err != nil {
		return Manifest{}, err
	}
	b := budget{left: limit}
	m := Manifest{}
	for _, it := range c.items {
		if it.Kind == KindFile {
			if it.Size, err = b.inflate(io.Discard, it.source); err != nil {
				return Manifest{}, fmt.Errorf("entry %q: %w", it.Path, err)
			}
		}
		m.Entries = append(m.Entries, it.Entry)
		m.Size += it.Size + int64(len(it.Target))
	}
	return m, nil
}

// Reasons for a refusal that are told apart in the message to the caller; all
// others are "could not unzip".
var (
	errEmpty    = errors.New("nothing in it")
	errTooLarge = errors.New("unpacked, it is larger than allowed")
)

// refusal turns the reason for which a package was refused into what a caller
// of the API is told.
func refusal(op string, err error, limit int64) error {
	message := messageCorrupt
	switch {
	case errors.Is(err, errEmpty):
		message = messageEmpty
	case errors.Is(err, errTooLarge):
		message = fmt.Sprintf(messageSize, limit)
	}
	return &lambent.Error{Op: op, Kind: lambent.KindInvalid, Message: message, Err: err}
}

// contents are the entries of a package whose paths, kinds, links and declared
// sizes have been checked, but whose data has not been inflated.
type contents struct {
	items []item
}

// item is an entry with where its data comes from.
type item struct {
	Entry
	source *zip.File
}

// open reads the directory of a package and checks everything that does not
// need the data of its files.
func open(pkg []byte, limit int64) (*contents, error) {
	if len(pkg) == 0 {
		return nil, errEmpty
	}
	// The reader makes a structure for every directory record it finds, whatever
	// number the archive declares, so their number is bounded before it looks.
	// Zips within the zip count too, which is why the bound is doubled.
	if n := bytes.Count(pkg, []byte("PK\x01\x02")); n > 2*MaxEntries {
		return nil, fmt.Errorf("%d directory records, of at most %d", n, MaxEntries)
	}
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // paths are checked below, all of them
		return nil, err
	}
	if len(r.File) == 0 {
		return nil, errEmpty
	}
	if len(r.File) > MaxEntries {
		return nil, fmt.Errorf("%d entries, of at most %d", len(r.File), MaxEntries)
	}
	if err := checkDeclared(r.File, limit); err != nil {
		return nil, err
	}
	c := &contents{items: make([]item, 0, len(r.File))}
	t := newTree()
	b := budget{left: limit}
	for _, f := range r.File {
		it, err := readEntry(f, &b)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", f.Name, err)
		}
		if it.Path == "." {
			continue // "./", the root itself
		}
		added, err := t.add(it.Entry)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", f.Name, err)
		}
		if added {
			c.items = append(c.items, it)
		}
	}
	if len(c.items) == 0 {
		return nil, errEmpty
	}
	if err := t.checkLinks(); err != nil {
		return nil, err
	}
	return c, nil
}

// readEntry checks one directory record by itself and reads the target of a
// link.
func readEntry(f *zip.File, b *budget) (item, error) {
	const encrypted, strongEncryption, maskedHeaders = 1 << 0, 1 << 6, 1 << 13 // APPNOTE.TXT 4.4.4
	if f.Flags&(encrypted|strongEncryption|maskedHeaders) != 0 {
		return item{}, errors.New("is encrypted; make the package without a password")
	}
	if f.Method != zip.Store && f.Method != zip.Deflate {
		return item{}, fmt.Errorf("compression method %d; only stored and deflated entries are taken", f.Method)
	}
	p, err := cleanPath(f.Name)
	if err != nil {
		return item{}, err
	}
	if !knownType(f) {
		return item{}, fmt.Errorf("is of no file type there is (mode %#o)", f.ExternalAttrs>>16)
	}
	it := item{Entry: Entry{Path: p, Modified: clampTime(f.Modified)}, source: f}
	mode := f.Mode()
	switch mode.Type() {
	case 0:
		it.Kind = KindFile
		it.Executable = mode&0o111 != 0
	case fs.ModeDir:
		it.Kind = KindFolder
		if f.UncompressedSize64 != 0 {
			return item{}, errors.New("is a folder that has data")
		}
	case fs.ModeSymlink:
		it.Kind = KindLink
		if it.Target, err = readTarget(f, b); err != nil {
			return item{}, err
		}
	default:
		return item{}, fmt.Errorf("is neither a file, a folder nor a symbolic link (%v)", mode.Type())
	}
	if p == "." && it.Kind != KindFolder {
		return item{}, errors.New("the root of a package is a folder")
	}
	return it, nil
}

// knownType reports whether the type that Unix writers put into an entry's mode
// is one of Unix's, or none, as of those that write only permissions. zip.File
// takes any other for a plain file's.
func knownType(f *zip.File) bool {
	const unix, darwin = 3, 19 // APPNOTE.TXT 4.4.2
	if by := f.CreatorVersion >> 8; by != unix && by != darwin {
		return true
	}
	switch f.ExternalAttrs >> 16 & syscall.S_IFMT {
	case 0, syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFLNK, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFBLK, syscall.S_IFCHR:
		return true
	}
	return false
}

// cleanPath refuses a path that is absolute, climbs, or that different systems
// read differently, and gives the others without "." and doubled slashes.
func cleanPath(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("has no name")
	case len(name) > maxPathBytes:
		return "", fmt.Errorf("path of %d bytes, of at most %d", len(name), maxPathBytes)
	case strings.ContainsRune(name, 0):
		return "", errors.New("NUL in a path")
	case strings.ContainsRune(name, '\\'):
		return "", errors.New("backslash in a path; make the package with forward slashes")
	case name[0] == '/':
		return "", errors.New("absolute path")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New("climbs with .. in its path")
		}
		if len(part) > maxNameBytes {
			return "", fmt.Errorf("name of %d bytes, of at most %d", len(part), maxNameBytes)
		}
	}
	p := path.Clean(name)
	if strings.Count(p, "/") >= maxDepth {
		return "", fmt.Errorf("path of more than %d folders", maxDepth)
	}
	return p, nil
}

// readTarget reads where a link points to and refuses what cannot stay inside
// the root whatever else the package holds.
func readTarget(f *zip.File, b *budget) (string, error) {
	if f.UncompressedSize64 > maxPathBytes {
		return "", fmt.Errorf("link target of %d bytes, of at most %d", f.UncompressedSize64, maxPathBytes)
	}
	var buf bytes.Buffer
	if _, err := b.inflate(&buf, f); err != nil {
		return "", err
	}
	target := buf.String()
	switch {
	case target == "":
		return "", errors.New("link without a target")
	case strings.ContainsAny(target, "\x00\\"):
		return "", errors.New("NUL or backslash in a link's target")
	case target[0] == '/':
		return "", fmt.Errorf("link to the absolute path %q; links must be relative and stay inside the package", target)
	}
	return target, nil
}

// epoch is the first moment the format can hold. It stands for the time of
// whatever has none of its own, so that equal packages make equal trees.
func epoch() time.Time { return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) }

func clampTime(t time.Time) time.Time {
	if t.Before(epoch()) {
		return epoch()
	}
	return t.UTC()
}
