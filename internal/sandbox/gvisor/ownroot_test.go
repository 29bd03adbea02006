package gvisor_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/sandbox"
)

// ownRoot makes a root with a shell and nothing else of the machine's.
func ownRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	place := func(path string, content []byte, mode fs.FileMode) {
		t.Helper()
		to := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(to, content, mode), os.Chmod(to, mode)); err != nil { // umask
			t.Fatal(err)
		}
	}
	folders, files := sandbox.RootNeeds()
	for _, name := range folders {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		place(name, nil, 0o644)
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Skip("there is no /bin/sh to make a root of")
	}
	needs := []string{shell}
	out, err := exec.CommandContext(t.Context(), "ldd", shell).Output()
	if err == nil { // else it is static
		for field := range strings.FieldsSeq(string(out)) {
			if filepath.IsAbs(field) {
				needs = append(needs, field)
			}
		}
	}
	for _, path := range needs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		place(path, content, 0o755)
	}
	place("bin/sh.mine", nil, 0o755)
	if err := os.Symlink(shell, filepath.Join(root, "sh")); err != nil {
		t.Fatal(err)
	}
	place("hello", []byte("of the image\n"), 0o644)
	place("open", []byte("x\n"), 0o666)
	return root
}

func TestContainerMayHaveARootOfItsOwn(t *testing.T) {
	d := openDriver(t)
	root := ownRoot(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512})
	for _, id := range []lambent.ContainerID{"c-1", "c-2"} { // which share it
		c, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: id, EphemeralMB: 64, Root: root})
		if err != nil {
			t.Fatal(err)
		}
		out, exit := run(t, c, "/sh", "-c", `read x < /hello; echo "$x"
			[ -x /lambent/init ] && echo init; read h < /etc/hosts; echo "$h"; [ -e /usr/share ] || echo nothing of the host
			[ -c /dev/null ] && echo devices; [ -e /proc/self/status ] && echo proc
			echo mine > /tmp/x && read y < /tmp/x && echo "$y"
			(echo z > /open) 2>&1; (echo z > /new) 2>&1; (echo z > /lambent/new) 2>&1; [ -e /tmp/other ] || echo alone; echo o > /tmp/other`)
		for _, want := range []string{"of the image", "init", "127.0.0.1 localhost", "nothing of the host", "devices", "proc", "mine", "alone"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in what it says", id, want)
			}
		}
		if exit.Code != 0 || !strings.Contains(out, "open: Read-only file system") && !strings.Contains(out, "cannot create /open: Read-only file system") {
			t.Errorf("%s: ended with %+v and says\n%s", id, exit, out)
		}
	}
	if text, err := os.ReadFile(filepath.Join(root, "open")); err != nil || string(text) != "x\n" {
		t.Errorf("a file of the root is %q, %v", text, err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "lambent")); err != nil || len(entries) != 0 {
		t.Errorf("in the root's own place for what is ours there are %v, %v", entries, err)
	}
	// Containers of either kind live beside each other.
	if out, exit := run(t, newContainer(t, i, "c-3"), "/bin/sh", "-c", "[ -e /hello ] || echo common"); out != "common\n" && out != "common" || exit.Code != 0 {
		t.Errorf("%q, %+v", out, exit)
	}
}

func TestSecurityRootThatLeadsElsewhereIsRefused(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 256})
	outside := t.TempDir()
	folders, files := sandbox.RootNeeds()
	for _, name := range append(folders, files...) {
		root := ownRoot(t)
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
		for _, how := range []string{"missing", "link"} {
			if how == "link" {
				if err := os.Symlink(outside, filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-1", EphemeralMB: 1, Root: root})
			if lambent.KindOf(err) != lambent.KindInvalid {
				t.Errorf("with %s %s: %v", name, how, err)
			}
		}
	}
	_, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-1", EphemeralMB: 1, Root: ownRoot(t), Mounts: []sandbox.Mount{{Source: outside, Target: sandbox.RuntimeDir}}})
	if lambent.KindOf(err) != lambent.KindInvalid {
		t.Errorf("with mounts: %v", err)
	}
}
