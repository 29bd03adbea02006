package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lambent/internal/sandbox"
)

// initPath is lambent-init in every container. Not below RuntimeDir, which the
// owner of the container may cover.
const initPath = sandbox.InitPath

// groupPath is where a container has the group that gVisor's kernel counts its
// memory by. The kernel keeps one only for a container that mounts it; code of
// a function cannot enter ownDir, and finds every program as on a machine
// without groups.
const (
	ownDir    = "/lambent/own"
	groupPath = ownDir + "/cgroup"
)

// systemFolders are those of the host that hold programs and libraries. On a
// host with a merged /usr all but the first are links into it.
var systemFolders = [...]string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// etcFolders are those of the host's /etc that programs need and that hold no
// secrets: certificates of authorities, and where links in /usr/bin lead.
var etcFolders = [...]string{
	"etc/alternatives",
	"etc/ssl/certs",                                   // Debian, Alpine, openSUSE
	"etc/pki/tls/certs", "etc/pki/ca-trust/extracted", // Fedora
	"etc/ca-certificates/extracted", // Arch
}

// etcFiles are copied from the host's /etc.
var etcFiles = [...]string{"ld.so.cache", "ssl/openssl.cnf", "mime.types"}

// madeUp are the files of /etc that are ours.
var madeUp = map[string]string{
	"passwd": fmt.Sprintf("root:x:0:0:root:/:/bin/sh\n%s:x:%d:%d::/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		sandbox.UserName, sandbox.UserID, sandbox.GroupID),
	"group":         fmt.Sprintf("root:x:0:\n%s:x:%d:\nnogroup:x:65534:\n", sandbox.UserName, sandbox.GroupID),
	"hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
	"hostname":      hostname + "\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	"resolv.conf":   "", // no way out, so nobody to ask
}

// hostname is what code inside sees as the machine's name.
const hostname = "sandbox"

// buildBase makes the root file system that all containers have in common, in
// the empty folder base. host is the root of the host, "/" but in tests.
func buildBase(base, host string, init fs.File, extra []string) error {
	for _, d := range []string{"etc", "dev", "proc", "sys", "mnt", "run", "lambent", sandbox.TaskDir, sandbox.LayerDir, sandbox.RuntimeDir} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			return fmt.Errorf("make root file system: %w", err)
		}
	}
	if err := os.Mkdir(filepath.Join(base, "tmp"), 0o755); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	if err := os.Chmod(filepath.Join(base, "tmp"), 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(base, groupPath), 0o700); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	if err := placeProgram(init, filepath.Join(base, initPath)); err != nil {
		return err
	}
	for _, name := range systemFolders {
		if err := showSystemFolder(base, host, name); err != nil {
			return err
		}
	}
	if err := buildEtc(base, host); err != nil {
		return err
	}
	for _, dir := range extra {
		if err := showFolder(base, host, strings.TrimPrefix(dir, "/")); err != nil {
			return fmt.Errorf("show read-only folder %s: %w", dir, err)
		}
	}
	return nil
}

// showSystemFolder shows one of the host's top folders as what it is there: a
// folder or a link.
func showSystemFolder(base, host, name string) error {
	info, err := os.Lstat(filepath.Join(host, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the host's system folders: %w", err)
	}
	if info.Mode().Type() != fs.ModeSymlink {
		return showFolder(base, host, name)
	}
	to, err := os.Readlink(filepath.Join(host, name))
	if err != nil {
		return fmt.Errorf("look at the host's system folders: %w", err)
	}
	if err := os.Symlink(to, filepath.Join(base, name)); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	return nil
}

// showFolder mounts a folder of the host read-only at the same place.
func showFolder(base, host, name string) error {
	target := filepath.Join(base, name)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	return mountClone(filepath.Join(host, name), target, unix.MS_PRIVATE)
}

func buildEtc(base, host string) error {
	for _, name := range etcFolders {
		info, err := os.Stat(filepath.Join(host, name))
		if errors.Is(err, fs.ErrNotExist) || (err == nil && !info.IsDir()) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at the host's certificates: %w", err)
		}
		if err := showFolder(base, host, name); err != nil {
			return err
		}
	}
	for _, name := range etcFiles {
		b, err := os.ReadFile(filepath.Join(host, "etc", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("copy for root file system: %w", err)
		}
		if err := writeEtc(base, name, b); err != nil {
			return err
		}
	}
	for name, text := range madeUp {
		if err := writeEtc(base, name, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

func writeEtc(base, name string, b []byte) error {
	path := filepath.Join(base, "etc", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("make root file system: %w", err)
	}
	return nil
}
