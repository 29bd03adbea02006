package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a lambent server in a process of its own.
type server struct {
	endpoint   string
	readyAfter time.Duration // from the start of the process until it answered
	spares     int           // its setting instance.spares
	cmd        *exec.Cmd
}

// startTimeout is how long the server may take until it is called broken.
const startTimeout = 30 * time.Second

// settings are what a server is started with.
type settings struct {
	flags  []string
	spares int
}

// startServer starts the binary and waits until it answers.
func startServer(ctx context.Context, binary, data string, set settings, verbose bool) (*server, error) {
	args := append([]string{"up", "--instance-spares", strconv.Itoa(set.spares)}, set.flags...)
	progress("%s %s", binary, strings.Join(args, " "))
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, append(args, "--listen", addr, "--data", data, "--log-level", "warn")...)
	if verbose {
		cmd.Args = append(cmd.Args, "--log-level", "debug")
	}
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; build it with make", binary, err)
	}
	s := &server{endpoint: "http://" + addr, spares: set.spares, cmd: cmd}
	for time.Since(begin) < startTimeout {
		resp, err := http.Get(s.endpoint + "/_lambent/health")
		if err == nil {
			code := resp.StatusCode
			drop(resp.Body)
			if code == http.StatusOK {
				s.readyAfter = time.Since(begin)
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not answer within %v", binary, startTimeout), s.stop())
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server as an operator would.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the server: %w", err)
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the server ended badly: %w", err)
	}
	return nil
}

// user is the nth of many accounts.
func (s *server) user(n int) user { return user{s.endpoint, fmt.Sprintf("7%011d", n)} }

// instance is one as the admin API shows it.
type instance struct {
	State      string   `json:"state"`
	Containers []string `json:"containers"`
}

func (s *server) instances(ctx context.Context) (all []instance, err error) {
	err = user{s.endpoint, operator}.call(ctx, http.MethodGet, "/_lambent/v1/instances", nil, &all)
	return all, err
}

// pool is one as the admin API shows it.
type pool struct {
	Target int `json:"target"`
	Ready  int `json:"ready"`
}

// settle waits until the pools are full, each warm instance has its spare, the
// others have so many containers in all, and nothing else is going on.
func (s *server) settle(ctx context.Context, containers int) error {
	err := poll(ctx, func() (bool, error) {
		var pools []pool
		if err := (user{s.endpoint, operator}).call(ctx, http.MethodGet, "/_lambent/v1/pools", nil, &pools); err != nil {
			return false, err
		}
		instances, err := s.instances(ctx)
		return err == nil && isSettled(pools, instances, s.spares, containers), err
	})
	if err != nil {
		return fmt.Errorf("wait for full pools and %d containers beside them: %w", containers, err)
	}
	return nil
}

// calm waits until the pools are full and nothing has been booted for a while,
// whatever containers there are beside them.
func (s *server) calm(ctx context.Context) error {
	for have := -1; ; {
		instances, err := s.instances(ctx)
		if err != nil {
			return err
		}
		now := 0
		for _, i := range instances {
			if i.State == "active" {
				now += len(i.Containers)
			}
		}
		if now == have {
			return s.settle(ctx, now)
		}
		have = now
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

func isSettled(pools []pool, instances []instance, spares, containers int) bool {
	target := 0
	for _, p := range pools {
		if p.Ready < p.Target {
			return false
		}
		target += p.Target
	}
	warm, have := 0, 0
	for _, i := range instances {
		switch {
		case i.State == "warm" && len(i.Containers) == 1+spares:
			warm++
		case i.State == "active":
			have += len(i.Containers)
		default:
			return false
		}
	}
	return warm == target && have == containers
}

// residentMB is a process's resident memory, in MiB.
func residentMB(pid int) (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kb / 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell a process's memory")
}

func meminfoKB(name string) (int, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("/proc/meminfo has no %s", name)
}

// machine describes what the figures were measured on.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	memory := "unknown memory"
	if kb, err := meminfoKB("MemTotal"); err == nil {
		memory = fmt.Sprintf("%d GiB", (kb+1<<19)>>20)
	}
	return fmt.Sprintf("%d × %s, %s, Linux %s, %s, %s", runtime.NumCPU(), model, memory, strings.TrimSpace(string(kernel)),
		runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}
