package gvisor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
)

// makeHost makes a host's root with these files ("name → target" is a link,
// "name/" a folder).
func makeHost(t *testing.T, names ...string) string {
	t.Helper()
	host := t.TempDir()
	for _, name := range names {
		link, to, isLink := strings.Cut(name, " → ")
		path := filepath.Join(host, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(to, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return host
}

func TestTheRootShowsProgramsAndNoSecretsOfAnyKindOfHost(t *testing.T) {
	secrets := []string{"etc/shadow", "etc/passwd", "etc/ssl/private/key", "etc/lambent.yaml", "root/.ssh/id", "home/me/x", "var/lib/x", "run/secret", "srv/x", "boot/x"}
	for name, c := range map[string]struct {
		host  []string
		extra []string
		want  []string // "name → target" for links
	}{
		"Debian, merged": {
			host: []string{"usr/bin/node", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib64/", "bin → usr/bin", "sbin → usr/sbin", "lib → usr/lib", "lib64 → usr/lib64",
				"etc/ssl/certs/ca.pem", "etc/alternatives/awk", "etc/ld.so.cache"},
			want: []string{"usr/bin/node", "usr/lib/x86_64-linux-gnu/libc.so.6", "bin → usr/bin", "lib64 → usr/lib64", "etc/ssl/certs/ca.pem", "etc/alternatives/awk", "etc/ld.so.cache"},
		},
		"arm64, without lib64": {
			host: []string{"usr/bin/node", "usr/lib/aarch64-linux-gnu/libc.so.6", "bin → usr/bin", "lib → usr/lib"},
			want: []string{"usr/lib/aarch64-linux-gnu/libc.so.6", "lib → usr/lib"},
		},
		"not merged": {
			host: []string{"usr/bin/node", "bin/sh", "lib/libc.so.6", "lib64/ld.so", "sbin/init"},
			want: []string{"bin/sh", "lib/libc.so.6", "lib64/ld.so"},
		},
		"Fedora": {
			host: []string{"usr/bin/node", "bin → usr/bin", "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/pki/tls/certs/ca-bundle.crt → /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/pki/tls/private/key", "etc/ssl/certs → ../pki/tls/certs"},
			want: []string{"etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "etc/pki/tls/certs/ca-bundle.crt → /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
		},
		"a runtime outside /usr": {
			host:  []string{"usr/bin/sh", "opt/node20/bin/node", "opt/other/x"},
			extra: []string{"/opt/node20"},
			want:  []string{"opt/node20/bin/node"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := makeHost(t, append(c.host, secrets...)...)
			base := t.TempDir()
			t.Cleanup(func() {
				if err := detachAll(base); err != nil {
					t.Error(err)
				}
			})
			init, err := fstest.MapFS{"lambent-init": {Data: []byte("init")}}.Open("lambent-init")
			if err != nil {
				t.Fatal(err)
			}
			if err := buildBase(base, host, init, c.extra); err != nil {
				t.Fatal(err)
			}
			for _, w := range append(c.want, "etc/hosts", "etc/passwd", "lambent/init", "var/task", "opt", "tmp") {
				path, to, isLink := strings.Cut(w, " → ")
				if got, _ := os.Readlink(filepath.Join(base, path)); isLink && got != to {
					t.Errorf("%s leads to %q, want %q", path, got, to)
				} else if _, err := os.Lstat(filepath.Join(base, path)); err != nil {
					t.Error(err)
				}
			}
			for _, s := range append(secrets, "etc/pki/tls/private/key", "opt/other/x") {
				if b, err := os.ReadFile(filepath.Join(base, s)); err == nil && string(b) == s {
					t.Errorf("%s of the host is shown", s)
				}
			}
			err = os.WriteFile(filepath.Join(base, "usr/new"), nil, 0o644)
			if !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to the host's /usr: %v", err)
			}
		})
	}
}

func TestMountsAreListedTopmostFirst(t *testing.T) {
	got := parseMounts(`21 1 0:20 / / rw - ext4 /dev/vda rw
30 21 0:21 / /data/run rw - tmpfs lambent rw
31 30 0:22 / /data/run/i/a\040b/root ro shared:4 - ext4 /dev/vda rw
32 31 0:23 / /data/run/i/a\040b/root/usr ro shared:5 - ext4 /dev/vda rw
33 21 0:24 / /data/runner rw - tmpfs x rw
34 30 0:25 / /data/run rw - tmpfs lambent rw
short line
`, "/data/run")
	want := []string{"/data/run", "/data/run/i/a b/root/usr", "/data/run/i/a b/root", "/data/run"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNothingIsRemovedUnderAMount(t *testing.T) {
	dir := t.TempDir()
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(precious, at, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer detach(at)
	if err := removeTree(filepath.Join(dir, "a")); err == nil {
		t.Error("removed a folder with a mount in it")
	}
	if _, err := os.Stat(filepath.Join(precious, "x")); err != nil {
		t.Error(err)
	}
	if err := detachAll(dir); err != nil {
		t.Error(err)
	}
	if err := removeTree(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAMountIsReadOnlyFromItsFirstMoment(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	if err := mountClone(source, target, unix.MS_PRIVATE); err != nil {
		t.Fatal(err)
	}
	defer detach(target)
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Fatal(err)
	}
	if want := int64(unix.ST_RDONLY | unix.ST_NOSUID | unix.ST_NODEV); int64(st.Flags)&want != want {
		t.Errorf("flags %#x lack some of %#x", st.Flags, want)
	}
	if err := os.WriteFile(filepath.Join(source, "x"), nil, 0o644); err != nil {
		t.Errorf("the source itself is read-only: %v", err)
	}
}

func TestMountTargetsStayWhereMountsBelong(t *testing.T) {
	for target, want := range map[string]bool{
		"/var/task": true, "/var/runtime": true, "/opt": true, "/opt/x": true, "/mnt/efs": true,
		"/": false, "/var": false, "/mnt": false, "/var/": false, "/var/../etc": false, "/etc": false, "/usr/x": false, "/lambent": false, "": false, "var/task": false,
	} {
		if validTarget(target) != want {
			t.Errorf("%q: %v", target, !want)
		}
	}
}
