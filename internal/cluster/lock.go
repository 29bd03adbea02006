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
//
// A process that is killed while it starts another leaves the lock to that one for
// a moment, until it executes its program: where who took the lock is no more, it
// is waited for.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) || !holderHasEnded(f) {
			break
		}
	}
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

// lockPatience is how long the lock of a process that has ended is waited for.
const lockPatience = 5 * time.Second

// holderHasEnded reports whether the process that took the lock is no more.
func holderHasEnded(f io.ReaderAt) bool {
	var h holder
	if err := json.NewDecoder(io.NewSectionReader(f, 0, 4096)).Decode(&h); err != nil || h.PID <= 0 {
		return false
	}
	return errors.Is(unix.Kill(h.PID, 0), unix.ESRCH)
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
