package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// SandboxProcesses lists, by number, the processes of gVisor's that a server has
// started: kernels, gofers and whatever else runs beside them.
func (s *Server) SandboxProcesses() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, p := range all {
		if strings.HasPrefix(p.args[0], "runsc-") && descends(all, p, s.PID()) {
			found = append(found, p.pid)
		}
	}
	slices.Sort(found)
	return found, nil
}

// KillSandboxes kills those of the server's sandbox processes that pick wants, as
// `kill -9` does, and tells how many it hit.
func (s *Server) KillSandboxes(pick func() bool) (killed int, err error) {
	pids, err := s.SandboxProcesses()
	if err != nil {
		return 0, fmt.Errorf("look for sandboxes to kill: %w", err)
	}
	for _, pid := range pids {
		if pick() && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed, nil
}

// Orphans lists the processes that work in a server's data folder and do not come
// from it: what a server before it left.
func (s *Server) Orphans() ([]string, error) {
	c, err := countProcesses(s.Data, s.PID(), nil)
	return c.Orphans, err
}

// Freeze has the server's process do nothing more, and waits until it does.
func (s *Server) Freeze() error {
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return Until(ctx, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.PID()))
		if err != nil {
			return err
		}
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if after := stat[bytes.LastIndexByte(stat, ')')+1:]; !bytes.HasPrefix(after, []byte(" T")) {
				return fmt.Errorf("%s is not stopped: %.20s", path, after)
			}
		}
		return nil
	})
}
