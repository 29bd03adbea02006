package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// oneShot is the function's handler as a program for one event.
const oneShot = `
const handler = async (event) => event;
handler(JSON.parse(require('fs').readFileSync(0))).then((answer) => process.stdout.write(JSON.stringify(answer)));
`

// measureRunners times the same handler in a container that is made for each
// call, with the runners of containers that this machine has. One that does not
// work here is no failure: its row says so.
func measureRunners(ctx context.Context, dir string) []figure {
	var rows []figure
	for _, runner := range []struct {
		name string
		args []string
	}{
		{"runsc", []string{"--network=none"}},
		{"runc", nil},
	} {
		f := figure{name: fmt.Sprintf("the same handler in a container made for each call, `%s run`, end to end", runner.name)}
		program, err := exec.LookPath(runner.name)
		if err != nil {
			f.value = "not installed"
			rows = append(rows, f)
			continue
		}
		all, err := timeRunner(ctx, filepath.Join(dir, runner.name), program, runner.args)
		if err != nil {
			progress("%s: %v", runner.name, err)
			f.value = "does not run here"
		} else {
			f.value = times("", all, goal{}).value
		}
		rows = append(rows, f)
	}
	return rows
}

func timeRunner(ctx context.Context, bundle, program string, args []string) ([]time.Duration, error) {
	const calls = 10
	progress("%s: %d calls", program, calls)
	if err := makeBundle(bundle); err != nil {
		return nil, err
	}
	state := filepath.Join(bundle, "state")
	defer func() { _ = unix.Unmount(filepath.Join(state, "null-netns"), unix.MNT_DETACH) }() // which runsc leaves, runc does not have
	args = append(args, "--root", state, "run", "--bundle", bundle)
	var all []time.Duration
	for i := range calls {
		ctx, cancel := context.WithTimeout(ctx, patience)
		cmd := exec.CommandContext(ctx, program, append(args, fmt.Sprintf("figures-%d-%d", os.Getpid(), i))...)
		cmd.Stdin = bytes.NewReader(event)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		begin := time.Now()
		answer, err := cmd.Output()
		took := time.Since(begin)
		cancel()
		if err != nil || !bytes.Equal(answer, event) {
			return nil, fmt.Errorf("it answers %q, %w: %s", answer, err, complaint.Bytes())
		}
		all = append(all, took)
	}
	return all, nil
}

// makeBundle makes an OCI bundle that shows the host's system folders, read only,
// and runs oneShot.
func makeBundle(bundle string) error {
	program, err := exec.LookPath("node")
	if err != nil {
		return err
	}
	root := filepath.Join(bundle, "rootfs")
	mounts := []map[string]any{{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755"}}}
	folders := []string{"proc", "tmp", "dev"}
	for _, name := range []string{"usr", "lib", "lib64", "bin"} {
		if to, err := os.Readlink("/" + name); err == nil {
			if err := os.MkdirAll(root, 0o755); err != nil {
				return err
			}
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				return err
			}
		} else if _, err := os.Stat("/" + name); err == nil {
			folders = append(folders, name)
			mounts = append(mounts, map[string]any{"destination": "/" + name, "type": "bind", "source": "/" + name, "options": []string{"rbind", "ro"}})
		}
	}
	for _, name := range folders {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	var namespaces []map[string]string
	for kind := range strings.FieldsSeq("pid ipc uts mount network") {
		namespaces = append(namespaces, map[string]string{"type": kind})
	}
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2", "hostname": "figures", "mounts": mounts,
		"root": map[string]any{"path": "rootfs", "readonly": true},
		"process": map[string]any{"args": []string{program, "-e", oneShot}, "cwd": "/", "env": []string{"PATH=/usr/bin:/bin"},
			"user": map[string]int{"uid": 0, "gid": 0}},
		"linux": map[string]any{"namespaces": namespaces},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600)
}
