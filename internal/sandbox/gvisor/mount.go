package gvisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// readOnly are the attributes of everything of the host's that a container
// sees.
const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// mountClone mounts a read-only clone of source at target, whole and with its
// attributes from the first moment. propagation is MS_PRIVATE or MS_SHARED and,
// like attributes, holds for all mounts below as well. Needs Linux 5.12.
func mountClone(source, target string, propagation uint64) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("clone mount %s: %w", source, err)
	}
	defer unix.Close(fd)
	// Private first: else a clone of a shared mount would stay a peer of it.
	for _, p := range []uint64{unix.MS_PRIVATE, propagation} {
		attr := unix.MountAttr{Attr_set: readOnly, Propagation: p}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return fmt.Errorf("make clone of %s read-only: %w", source, err)
		}
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount clone of %s at %s: %w", source, target, err)
	}
	return nil
}

// mountTmpfs mounts an empty tmpfs that nobody else sees changes of.
func mountTmpfs(target, options string) error {
	if err := unix.Mount("lambent", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", target, err)
	}
	if err := unix.Mount("", target, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make tmpfs at %s private: %w", target, err)
	}
	return nil
}

// detach takes a mount and all below it away, at once for everybody who looks,
// and for good when its last user is gone. Nothing mounted there is fine.
func detach(target string) error {
	err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

// mountsBelow lists where something is mounted at or below dir, the last
// mounted first, each as often as there are mounts on it.
func mountsBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parseMounts(string(b), dir), nil
}

// parseMounts is mountsBelow on the text of /proc/self/mountinfo. A mount point
// is its fifth field, with octal escapes.
func parseMounts(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		if at := unescape.Replace(fields[4]); at == dir || strings.HasPrefix(at, dir+"/") {
			found = append(found, at)
		}
	}
	slices.Reverse(found)
	return found
}
