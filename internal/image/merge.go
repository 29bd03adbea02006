package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent/internal/bundle"
	"lambent/internal/sandbox"
)

// merge makes the tree of an image aside and moves it to dir.
func (s *Store) merge(dir string, root Root, layers []layer, user string) (_ Root, err error) {
	temp, tree, err := s.aside(s.rootDir(""))
	if err != nil {
		return Root{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeTree(temp))
		}
	}()
	at, err := os.OpenRoot(tree)
	if err != nil {
		return Root{}, err
	}
	defer at.Close()
	for _, l := range layers {
		if err := take(at, l.removed); err != nil {
			return Root{}, err
		}
		if err := overlay(l.dir, tree); err != nil {
			return Root{}, err
		}
	}
	if err := furnish(at); err != nil {
		return Root{}, err
	}
	if root.UID, root.GID, err = userOf(at, user); err != nil {
		return Root{}, err
	}
	if err := addUser(at); err != nil {
		return Root{}, err
	}
	text, err := json.Marshal(root)
	if err != nil {
		return Root{}, err
	}
	if err := os.WriteFile(filepath.Join(temp, rootFile), text, 0o600); err != nil {
		return Root{}, err
	}
	if err := flush(temp); err != nil {
		return Root{}, err
	}
	switch err := os.Rename(temp, dir); {
	case taken(err): // for another account, the same
		if err := removeTree(temp); err != nil {
			return Root{}, err
		}
	case err != nil:
		return Root{}, err
	}
	root.Dir = filepath.Join(dir, treeDir)
	return root, nil
}

// take removes what a layer removes of those below it. A path that leads
// through a link out of the tree removes nothing.
func take(at *os.Root, r removal) error {
	for _, dir := range r.Opaque {
		info, err := at.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		inside, err := fs.ReadDir(at.FS(), dir)
		if err != nil {
			return err
		}
		for _, d := range inside {
			if err := at.RemoveAll(path.Join(dir, d.Name())); err != nil {
				return err
			}
		}
	}
	for _, gone := range r.Gone {
		if _, err := at.Lstat(gone); err != nil {
			continue
		}
		if err := at.RemoveAll(gone); err != nil {
			return err
		}
	}
	return nil
}

// overlay puts the tree of a layer over what is there, by hard links.
func overlay(source, target string) error {
	links := linker{}
	seen := 0
	return bundle.Overlay(source, target, func(from, to string, d fs.DirEntry, _ bool) error {
		if seen++; seen%(lookAtDisk/entryBytes) == 0 {
			if err := requireRoom(target); err != nil {
				return err
			}
		}
		if d.IsDir() {
			return like(from, to)
		}
		return links.link(from, to)
	})
}

// linker makes names of a layer's files. A file system bounds how many one file
// may have, ext4 at 65,000, and all images that have the layer add to them: beyond
// that, more names are of a copy, which is remembered here by the file's number.
type linker map[uint64]string

// link makes another name of what from is the name of; of a symbolic link, of the
// link.
func (l linker) link(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EMLINK) {
		return err
	}
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("copy %s: it has no number", from)
	}
	if other := l[st.Ino]; other != "" {
		if err := os.Link(other, to); !errors.Is(err, unix.EMLINK) {
			return err
		}
	}
	if err := duplicate(from, to, info, st); err != nil {
		return err
	}
	l[st.Ino] = to
	return nil
}

// duplicate copies a file, or a symbolic link, with its mode, owner and time.
func duplicate(from, to string, info fs.FileInfo, st *syscall.Stat_t) error {
	if info.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	} else {
		if err := requireRoom(filepath.Dir(to)); err != nil {
			return err
		}
		if err := duplicateContent(from, to); err != nil {
			return err
		}
		if err := errors.Join(os.Chmod(to, info.Mode().Perm()), os.Chtimes(to, info.ModTime(), info.ModTime())); err != nil {
			return err
		}
	}
	copied, err := os.Lstat(to)
	if err != nil {
		return err
	}
	if has, ok := copied.Sys().(*syscall.Stat_t); ok && (has.Uid != st.Uid || has.Gid != st.Gid) {
		return os.Lchown(to, int(st.Uid), int(st.Gid))
	}
	return nil
}

func duplicateContent(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// like gives a folder the mode and the owner of another.
func like(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	there, err := os.Lstat(to)
	if err != nil {
		return err
	}
	want, ok1 := info.Sys().(*syscall.Stat_t)
	has, ok2 := there.Sys().(*syscall.Stat_t)
	if ok1 && ok2 && (want.Uid != has.Uid || want.Gid != has.Gid) {
		if err := os.Lchown(to, int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(to, info.Mode()&(fs.ModePerm|fs.ModeSticky))
}

// furnish makes the places that a container's root needs.
func furnish(at *os.Root) error {
	folders, files := sandbox.RootNeeds()
	for _, name := range folders {
		info, err := at.Lstat(name)
		if err == nil && info.IsDir() {
			continue
		}
		if err == nil {
			if err := at.Remove(name); err != nil {
				return err
			}
		}
		if err := at.Mkdir(name, 0o755); err != nil {
			return err
		}
		if err := at.Chmod(name, 0o755); err != nil { // umask
			return err
		}
	}
	for _, name := range files {
		if err := replace(at, name, nil); err != nil {
			return err
		}
	}
	return at.Chmod("tmp", 0o777|fs.ModeSticky)
}

// replace writes a file anew: the one that is there is a layer's.
func replace(at *os.Root, name string, content []byte) error {
	if err := at.RemoveAll(name); err != nil {
		return err
	}
	f, err := at.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return at.Chmod(name, 0o644)
}

// maxTable bounds what is read of an image's users and groups.
const maxTable = 1 << 20

// table reads the lines of a file like /etc/passwd, each cut at its colons. One
// that is not there, or leads out of the image, has none.
func table(at *os.Root, name string) (rows [][]string, err error) {
	f, err := at.Open(name)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTable))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\r\n"), ":"))
	}
	return rows, nil
}

// userOf finds the numbers of an image's USER: a name or number, perhaps with a
// group's behind a colon. Root, and none, are 0.
func userOf(at *os.Root, user string) (uid, gid uint32, err error) {
	if user == "" {
		return 0, 0, nil
	}
	who, group, hasGroup := strings.Cut(user, ":")
	users, err := table(at, "etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	u := number(who)
	k := slices.IndexFunc(users, func(row []string) bool { return len(row) >= 4 && (row[0] == who || u >= 0 && row[2] == who) })
	if k >= 0 {
		u = number(users[k][2])
		gid = uint32(max(0, number(users[k][3])))
	}
	if u < 0 {
		return 0, 0, fmt.Errorf("%w: its user %.100q is not in its /etc/passwd", errHostile, user)
	}
	if hasGroup {
		g := number(group)
		if g < 0 {
			groups, err := table(at, "etc/group")
			if err != nil {
				return 0, 0, err
			}
			k := slices.IndexFunc(groups, func(row []string) bool { return len(row) >= 3 && row[0] == group })
			if k < 0 || number(groups[k][2]) < 0 {
				return 0, 0, fmt.Errorf("%w: its group %.100q is not in its /etc/group", errHostile, group)
			}
			g = number(groups[k][2])
		}
		gid = uint32(g)
	}
	if u == 0 {
		gid = 0
	}
	return uint32(u), gid, nil
}

// number is a user's or group's, -1 where s is none.
func number(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1
	}
	return int64(n)
}

// addUser makes the user that functions run as known by name, as it is at AWS.
func addUser(at *os.Root) error {
	root := map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh", "etc/group": "root:x:0:"}
	for name, line := range map[string]string{
		"etc/passwd": fmt.Sprintf("%s:x:%d:%d::/tmp:/sbin/nologin", sandbox.UserName, sandbox.UserID, sandbox.GroupID),
		"etc/group":  fmt.Sprintf("%s:x:%d:", sandbox.UserName, sandbox.GroupID),
	} {
		info, err := at.Lstat(name)
		if err == nil && !info.Mode().IsRegular() {
			continue // the image has its own idea of it
		}
		rows, err := table(at, name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(rows, func(row []string) bool { return row[0] == sandbox.UserName }) {
			continue
		}
		if len(rows) == 0 {
			rows = [][]string{{root[name]}}
		}
		var text strings.Builder
		for _, row := range rows {
			text.WriteString(strings.Join(row, ":") + "\n")
		}
		if err := replace(at, name, []byte(text.String()+line+"\n")); err != nil {
			return err
		}
	}
	return nil
}
