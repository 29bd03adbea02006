package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
)

// holder is what the lock file tells of the process that holds it.
type holder struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
}

// lockFolder takes the lock of a data folder, which the kernel gives back when
// the file is closed or the process ends, however it ends. The file itself
// stays. It returns KindUnavailable where another process holds the lock.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = lockedBy(dir, f)
	} else if err == nil {
		err = writeHolder(f, holder{PID: os.Getpid(), Since: time.Now().UTC()})
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockedBy says who holds the lock of dir. What the file tells is a courtesy,
// and may be missing for a moment.
func lockedBy(dir string, f io.Reader) error {
	who := "another process"
	var h holder
	if err := json.NewDecoder(io.LimitReader(f, 4096)).Decode(&h); err == nil {
		who = fmt.Sprintf("process %d, since %s", h.PID, h.Since.Format(time.RFC3339))
	}
	return &lambent.Error{
		Op: "lock data folder", Resource: dir, Kind: lambent.KindUnavailable, Reason: "Locked",
		Message: fmt.Sprintf("it is in use by %s; stop that server, or give this one a data folder of its own", who),
	}
}

func writeHolder(f *os.File, h holder) error {
	text, err := json.Marshal(h)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("write the lock of the data folder: %w", err)
	}
	return nil
}
