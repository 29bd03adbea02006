package identity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"lambent"
)

// KeyFile is the name of the file in the data folder that holds the key under
// which secrets are sealed: 64 hexadecimal digits.
const KeyFile = "identity.key"

const masterSize = 32 // bytes

// readMaster reads the key under which secrets are sealed. It is nil where there
// is no such file.
func readMaster(path string) ([]byte, error) {
	const op = "read the key of secrets"
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &lambent.Error{Op: op, Resource: path, Err: err}
	}
	defer f.Close()
	if err := requirePrivate(f, op, path); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, &lambent.Error{Op: op, Resource: path, Err: err}
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != masterSize {
		return nil, &lambent.Error{Op: op, Resource: path, Reason: "Unreadable",
			Err: fmt.Errorf("it does not hold %d hexadecimal digits: restore it from a backup", 2*masterSize)}
	}
	return key, nil
}

// requirePrivate refuses a file with secrets that others than its owner, who
// runs this process, may read or change.
func requirePrivate(f *os.File, op, path string) error {
	info, err := f.Stat()
	if err != nil {
		return &lambent.Error{Op: op, Resource: path, Err: err}
	}
	refused := func(format string, args ...any) error {
		return &lambent.Error{Op: op, Resource: path, Kind: lambent.KindDenied, Reason: "Permissions", Message: fmt.Sprintf(format, args...)}
	}
	if !info.Mode().IsRegular() {
		return refused("it is not a file of its own, but %v: put the file itself there", info.Mode().Type())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return refused("its mode is %04o, so that others than the server can reach the secrets of all keys: chmod 600 %s, and if somebody may have read it, revoke all keys", mode, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return refused("it belongs to user %d, and the server runs as %d: chown it", st.Uid, os.Geteuid())
	}
	return nil
}

// makeMaster makes a key and its file.
func makeMaster(path string) ([]byte, error) {
	key := make([]byte, masterSize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	if err := writePrivate(path, hex.EncodeToString(key)+"\n"); err != nil {
		return nil, &lambent.Error{Op: "make the key of secrets", Resource: path, Err: err}
	}
	return key, nil
}

// writePrivate writes a file that its owner alone can read, whole or not at all,
// and has it on the disk when it returns.
func writePrivate(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close(), f.Close())
}
