package gvisor_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
)

// built is where TestMain puts the two programs that sandboxes consist of.
var built struct{ sandbox, init string }

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		os.Exit(victim(dir))
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lambent-gvisor-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // for users without rights, too
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		built.sandbox, built.init = filepath.Join(dir, "lambent-sandbox"), filepath.Join(dir, "lambent-init")
		for out, pkg := range map[string]string{built.sandbox: "lambent/cmd/lambent-sandbox", built.init: "lambent/cmd/lambent-init"} {
			build := exec.Command("go", "build", "-o", out, pkg)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
				return 1
			}
		}
		return m.Run()
	}())
}

// openDriver opens a driver in a folder of its own and closes it in the end.
func openDriver(t testing.TB, change ...func(*gvisor.Options)) *gvisor.Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the gVisor driver needs root: run the tests as root")
	}
	dir, err := os.MkdirTemp("", "lambent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts := gvisor.Options{Dir: dir, Sandbox: built.sandbox, Init: built.init, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range change {
		c(&opts)
	}
	if debug := os.Getenv("LAMBENT_GVISOR_DEBUG"); debug != "" && opts.DebugDir == "" {
		opts.DebugDir = debug
	}
	d, err := gvisor.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close driver: %v", err)
		}
	})
	return d
}

// startInstance starts an instance and destroys it in the end.
func startInstance(t testing.TB, d sandbox.Driver, id string, limits sandbox.Limits) sandbox.Instance {
	t.Helper()
	i, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: lambent.InstanceID(id), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := i.Destroy(ctx); err != nil {
			t.Errorf("destroy instance: %v", err)
		}
	})
	return i
}

func newContainer(t testing.TB, i sandbox.Instance, id string, mounts ...sandbox.Mount) sandbox.Container {
	t.Helper()
	c, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: lambent.ContainerID(id), EphemeralMB: 64, Mounts: mounts})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
