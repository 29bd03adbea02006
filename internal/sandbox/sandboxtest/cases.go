package sandboxtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/sandbox"
)

// cases are the subtests, from the simple to what builds on it.
func cases() []scenario {
	return []scenario{
		{"an instance lives until it is destroyed and has no cause then", lifecycle},
		{"descriptors 0 to 2 work and end with the process", descriptors},
		{"descriptor 3 works both ways", bothWays},
		{"a process without files has /dev/null", noFiles},
		{"a process ends with its exit status", exitStatus},
		{"a process ends by its signal", exitSignal},
		{"waiting for a process is bounded by the context", waitBounded},
		{"a process has the arguments, environment, folder and user it was given", given},
		{"a process of user 0 has no capabilities", noCapabilities},
		{"an attached folder is seen by a process that runs already, read-only", attach},
		{"a target is attached to once", attachOnce},
		{"mounted folders are there from the start, read-only", mounts},
		{"containers have a /tmp of their own", tmpOwn},
		{"/tmp is bounded", tmpBounded},
		{"destroying a container leaves its sibling answering", siblings},
		{"destroying is idempotent from many sides at once", destroyTwice},
		{"destroying an instance ends everything in it", destroyAll},
		{"an instance that dies closes Done with a cause and can be destroyed", death},
		{"the death of one instance leaves the others", deathAlone},
		{"limits change under load", limits},
		{"memory over the limit is ended by the machine", memory},
		{"the memory of a container is its own, its grandchildren's too", containerMemory},
		{"the memory of containers is told whatever a sibling does", containerMemoryUnderLoad},
		{"the memory of a dead instance's containers is not told", containerMemoryOfTheDead},
		{"ten containers come and go five times beside one that stays", comeAndGo},
		{"a start given up leaves nothing", startGivenUp},
		{"nothing is started for a context that has ended", contextEnded},
		{"eight instances start at once", startsAtOnce},
	}
}

func lifecycle(r *rig) {
	if r.driver.Capabilities().Isolation == "" {
		r.Error("the driver does not say what isolation it gives")
	}
	spec := r.spec()
	i, err := r.driver.Start(r.bounded(), spec)
	if err != nil {
		r.Fatal(err)
	}
	r.keep(i)
	if i.ID() != spec.ID {
		r.Errorf("id %s, want %s", i.ID(), spec.ID)
	}
	r.wantAlive(i)
	c := r.contain(i)
	s := r.serve(c)
	if s.PID() < 1 {
		r.Errorf("process id %d", s.PID())
	}
	if pid := i.PID(); pid != 0 {
		if err := syscall.Kill(pid, 0); err != nil {
			r.Errorf("the instance's process %d: %v", pid, err)
		}
	}
	if err := c.Destroy(r.bounded()); err != nil {
		r.Errorf("destroy the container: %v", err)
	}
	r.wantAlive(i)
	if err := i.Destroy(r.bounded()); err != nil {
		r.Errorf("destroy the instance: %v", err)
	}
	r.wantDone(i)
	if cause := i.Cause(); cause != nil {
		r.Errorf("a destroyed instance has a cause: %v", cause)
	}
}

func descriptors(r *rig) {
	c := r.contain(r.start())
	var pipes [3][2]*os.File // read and write end of 0, 1, 2
	for k := range pipes {
		read, write, err := os.Pipe()
		if err != nil {
			r.Fatal(err)
		}
		pipes[k] = [2]*os.File{read, write}
		defer read.Close()
		defer write.Close()
	}
	cmd := r.opts.Command(Cat)
	cmd.Files = []*os.File{pipes[0][0], pipes[1][1], pipes[2][1]}
	p := r.exec(c, cmd)
	for _, f := range cmd.Files { // the caller closes its own copies
		f.Close()
	}
	if _, err := pipes[0][1].WriteString("first\nsecond\x00\xff\n"); err != nil {
		r.Error(err)
	}
	pipes[0][1].Close()
	if out := r.readAll(pipes[1][0]); string(out) != "first\nsecond\x00\xff\n" {
		r.Errorf("descriptor 1: %q", out)
	}
	if out := r.readAll(pipes[2][0]); string(out) != "done\n" {
		r.Errorf("descriptor 2: %q", out)
	}
	r.wantExit(p, sandbox.Exit{})
}

func bothWays(r *rig) {
	s := r.serve(r.contain(r.start()))
	for k := range 20 {
		word := fmt.Sprint("word", k)
		r.wantAnswer(s, "echo "+word, "ok "+word)
	}
	s.conn.Close()
	r.wantExit(s, sandbox.Exit{})
}

func noFiles(r *rig) {
	r.wantExit(r.exec(r.contain(r.start()), r.opts.Command(Cat)), sandbox.Exit{})
}

func exitStatus(r *rig) {
	c := r.contain(r.start())
	for _, code := range []int{0, 1, 42, 255} {
		p := r.exec(c, r.opts.Command(Exit, strconv.Itoa(code)))
		r.wantExit(p, sandbox.Exit{Code: code})
		r.wantExit(p, sandbox.Exit{Code: code}) // it can be asked again
	}
	s := r.serve(c)
	if _, err := fmt.Fprintln(s.conn, "exit 7"); err != nil {
		r.Error(err)
	}
	r.wantExit(s, sandbox.Exit{Code: 7})
	r.wantHungUp(s)
}

func exitSignal(r *rig) {
	c := r.contain(r.start())
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		r.wantExit(r.exec(c, r.opts.Command(Signal, strconv.Itoa(int(sig)))), sandbox.Exit{Signal: int(sig)})
	}
}

func waitBounded(r *rig) {
	s := r.serve(r.contain(r.start()))
	ctx, cancel := context.WithCancel(r.bounded())
	waited := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx)
		waited <- err
	}()
	cancel()
	select {
	case err := <-waited:
		if !errors.Is(err, context.Canceled) {
			r.Errorf("Wait with a cancelled context: %v", err)
		}
	case <-r.bounded().Done():
		r.Fatal("Wait goes on though its context was cancelled")
	}
	r.wantAnswer(s, "echo still", "ok still")
	s.conn.Close()
	r.wantExit(s, sandbox.Exit{}) // nothing was lost by giving up
}

// secret is in the environment of the test's own process.
const secret = "LAMBENT_SUITE_SECRET"

func given(r *rig) {
	r.Setenv(secret, "the host's")
	c := r.contain(r.start())
	cmd := r.opts.Command(Report, "plain", "", "with  spaces 'and' \"quotes\"", "ünï")
	cmd.Env = append(cmd.Env, "SUITE_VALUE=a b=c", "SUITE_EMPTY=")
	cmd.Dir = "/tmp"
	cmd.UID, cmd.GID = sandbox.UserID, sandbox.GroupID
	var got []string
	for _, line := range lines(r.output(c, cmd)) {
		if name, isEnv := strings.CutPrefix(line, "env="); !isEnv || strings.HasPrefix(name, "SUITE_") || strings.HasPrefix(name, secret) {
			got = append(got, line)
		}
	}
	slices.Sort(got[min(5, len(got)):]) // the arguments and then the environment, which has no order
	want := []string{"uid=993", "gid=990", "groups=990", "caps=0000000000000000", "dir=/tmp",
		"arg=", "arg=plain", "arg=with  spaces 'and' \"quotes\"", "arg=ünï", "env=SUITE_EMPTY=", "env=SUITE_VALUE=a b=c"}
	if diff := cmp.Diff(want, got); diff != "" {
		r.Errorf("what the process saw (-want +got):\n%s", diff)
	}
}

func noCapabilities(r *rig) {
	cmd := r.opts.Command(Report)
	cmd.UID, cmd.GID = 0, 0
	out := lines(r.output(r.contain(r.start()), cmd))
	for _, want := range []string{"uid=0", "caps=0000000000000000"} {
		if !slices.Contains(out, want) {
			r.Errorf("no %s in %q", want, out)
		}
	}
}

func attach(r *rig) {
	i := r.start()
	c, other := r.contain(i), r.contain(i)
	s, stranger := r.serve(c), r.serve(other)
	code, layer := r.folder(map[string]string{"code": "print(1)"}), r.folder(map[string]string{"lib": "shared"})
	if err := c.Attach(sandbox.TaskDir, code); err != nil {
		r.Fatal(err)
	}
	r.wantAnswer(s, "read /var/task/code", "ok print(1)")
	if err := c.Attach(sandbox.LayerDir, layer); err != nil {
		r.Fatal(err)
	}
	r.wantAnswer(s, "read /opt/lib", "ok shared")
	r.wantErr(s, "read /var/task/none")
	r.wantErr(s, "write /var/task/new text")
	r.wantErr(s, "write /var/task/code text")
	r.wantErr(s, "write /opt/new text")
	r.wantUntouched(code, "code", "print(1)")
	r.wantUntouched(layer, "lib", "shared")

	later := r.serve(c) // a process that comes later sees it too
	r.wantAnswer(later, "read /var/task/code", "ok print(1)")
	r.wantErr(stranger, "read /var/task/code")
	if err := other.Attach(sandbox.TaskDir, r.folder(map[string]string{"code": "print(2)"})); err != nil {
		r.Fatal(err)
	}
	if got := r.serve(r.contain(i)); r.wantErr(got, "read /var/task/code") == "" {
		r.Error("a third container gives no reason for a file it does not have")
	}
	r.wantAnswer(s, "read /var/task/code", "ok print(1)")
}

// wantUntouched checks that a folder on the host holds one file of one line.
func (r *rig) wantUntouched(dir, name, line string) {
	r.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		r.Errorf("%s holds %v, error %v; want %s alone", dir, entries, err, name)
	}
	if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != line+"\n" {
		r.Errorf("%s on the host: %q, error %v; want %q", name, data, err, line)
	}
}

func attachOnce(r *rig) {
	c := r.contain(r.start())
	first, second := r.folder(map[string]string{"who": "first"}), r.folder(map[string]string{"who": "second"})
	if err := c.Attach(sandbox.TaskDir, first); err != nil {
		r.Fatal(err)
	}
	if err := c.Attach(sandbox.TaskDir, second); err == nil {
		r.Error("a second folder was attached to one target")
	}
	if err := c.Attach("/etc", second); err == nil {
		r.Error("a folder was attached to /etc")
	}
	if err := c.Attach(sandbox.LayerDir, filepath.Join(second, "none")); err == nil {
		r.Error("a folder that does not exist was attached")
	}
	s := r.serve(c)
	r.wantAnswer(s, "read /var/task/who", "ok first")
	if err := c.Attach(sandbox.LayerDir, second); err != nil { // a failed one does not count
		r.Error(err)
	}
	r.wantAnswer(s, "read /opt/who", "ok second")
}

func mounts(r *rig) {
	dir := r.folder(map[string]string{"boot": "strap"})
	i := r.start()
	s := r.serve(r.contain(i, sandbox.Mount{Source: dir, Target: sandbox.RuntimeDir}))
	r.wantAnswer(s, "read /var/runtime/boot", "ok strap")
	r.wantErr(s, "write /var/runtime/boot text")
	r.wantErr(s, "write /var/runtime/new text")
	r.wantUntouched(dir, "boot", "strap")
	r.wantErr(r.serve(r.contain(i)), "read /var/runtime/boot")
	for _, bad := range []sandbox.Mount{{Source: dir, Target: "/"}, {Source: dir, Target: "/etc"}, {Source: dir, Target: "/var/../etc"},
		{Source: "relative", Target: "/mnt/x"}, {Source: filepath.Join(dir, "none"), Target: "/mnt/x"}} {
		if _, err := r.tryContain(i, bad); err == nil {
			r.Errorf("mount %+v was taken", bad)
		}
	}
	r.wantAlive(i)
}

func tmpOwn(r *rig) {
	one, two := r.start(), r.start()
	a, b, far := r.serve(r.contain(one)), r.serve(r.contain(one)), r.serve(r.contain(two))
	note := "/tmp/note-" + rand.Text() // the host's /tmp is everybody's: no name there is ours by right
	r.wantAnswer(a, "write "+note+" mine", "ok")
	r.wantAnswer(a, "read "+note, "ok mine")
	r.wantErr(b, "read "+note)
	r.wantErr(far, "read "+note)
	r.wantAnswer(b, "write "+note+" yours", "ok")
	r.wantAnswer(a, "read "+note, "ok mine")
	if _, err := os.Lstat(note); err == nil {
		r.Error("a file of a container is in the host's /tmp")
	}
	r.wantErr(a, "write /usr/note x")
	r.wantErr(a, "write /etc/note x")
	r.wantErr(a, "write /note x")
}

func tmpBounded(r *rig) {
	i := r.start()
	c := r.contain(i) // 16 MiB
	s, other := r.serve(c), r.serve(r.contain(i))
	if text := r.wantErr(s, "fill /tmp/big 64"); !strings.Contains(strings.ToLower(text), "no space left on device") {
		r.Errorf("error %q, want that of ENOSPC", text)
	}
	r.wantAnswer(s, "echo alive", "ok alive")
	r.wantAnswer(other, "write /tmp/small text", "ok") // it is not theirs that is full
}

func siblings(r *rig) {
	i := r.start()
	doomed, sibling := r.contain(i), r.contain(i)
	s, keeper := r.serve(doomed), r.serve(sibling)
	asleep := r.exec(doomed, r.opts.Command(Sleep))
	if err := doomed.Destroy(r.bounded()); err != nil {
		r.Fatal(err)
	}
	r.wantExit(s, killed())
	r.wantExit(asleep, killed())
	r.wantHungUp(s)
	r.wantContainerRefuses(doomed)
	r.wantAnswer(keeper, "echo here", "ok here")
	r.wantAlive(i)
	r.wantAnswer(r.serve(r.contain(i)), "echo new", "ok new")
}

func destroyTwice(r *rig) {
	i := r.start()
	c := r.contain(i)
	s := r.serve(c)
	r.contain(i)
	for _, destroy := range []func(context.Context) error{c.Destroy, i.Destroy} {
		var sides sync.WaitGroup
		for range 4 {
			sides.Go(func() {
				if err := destroy(r.bounded()); err != nil {
					r.Error(err)
				}
			})
		}
		sides.Wait()
	}
	for name, destroy := range map[string]func(context.Context) error{"container": c.Destroy, "instance": i.Destroy} {
		if err := destroy(r.bounded()); err != nil {
			r.Errorf("destroy the %s once more: %v", name, err)
		}
	}
	r.wantExit(s, killed())
}

func destroyAll(r *rig) {
	i := r.start()
	a, b := r.contain(i), r.contain(i)
	s, asleep := r.serve(a), r.exec(b, r.opts.Command(Sleep))
	pid := i.PID()
	if err := i.Destroy(r.bounded()); err != nil {
		r.Fatal(err)
	}
	r.wantDone(i)
	r.wantExit(s, killed())
	r.wantExit(asleep, killed())
	r.wantHungUp(s)
	r.wantRefused(i, a)
	if pid != 0 {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			r.Errorf("the instance's process %d outlived it: %v", pid, err)
		}
	}
}

func death(r *rig) {
	i := r.start()
	c := r.contain(i)
	s, asleep := r.serve(c), r.exec(c, r.opts.Command(Sleep))
	if err := c.Attach(sandbox.TaskDir, r.folder(map[string]string{"code": "x"})); err != nil {
		r.Fatal(err)
	}
	r.opts.Kill(r.T, r.driver, i)
	r.wantDone(i)
	if i.Cause() == nil {
		r.Error("a dead instance has no cause")
	}
	r.wantExit(s, killed())
	r.wantExit(asleep, killed())
	r.wantHungUp(s)
	r.wantRefused(i, c)
	if err := errors.Join(c.Destroy(r.bounded()), i.Destroy(r.bounded())); err != nil {
		r.Errorf("destroy what has died: %v", err)
	}
}

func deathAlone(r *rig) {
	doomed, other := r.start(), r.start()
	s := r.serve(r.contain(other))
	r.opts.Kill(r.T, r.driver, doomed)
	r.wantDone(doomed)
	r.wantAnswer(s, "echo here", "ok here")
	r.wantAlive(other)
	r.wantAnswer(r.serve(r.contain(r.start())), "echo new", "ok new")
}

func limits(r *rig) {
	i := r.start()
	s := r.serve(r.contain(i))
	var load sync.WaitGroup
	load.Go(func() {
		for k := range 20 {
			l := sandbox.Limits{MemoryMB: 512 + 64*(k%3), CPUs: []float64{0, 0.5, 2}[k%3]}
			if err := i.SetLimits(l); err != nil {
				r.Errorf("set limits %+v: %v", l, err)
			}
		}
	})
	var before sandbox.Usage
	for k := range 20 {
		r.wantAnswer(s, fmt.Sprint("echo ", k), fmt.Sprint("ok ", k))
		now, err := i.Usage()
		if err != nil || now.MemoryBytes < 0 || now.CPUTime < before.CPUTime || now.OOMKills != 0 {
			r.Errorf("usage %+v after %+v, error %v", now, before, err)
		}
		before = now
	}
	load.Wait()
	r.wantAlive(i)
}

func memory(r *rig) {
	if !r.driver.Capabilities().MemoryLimits {
		if len(r.driver.Capabilities().Weaker) == 0 {
			r.Error("the driver enforces no memory limit here and does not say so in Weaker")
		}
		return
	}
	i, other := r.start(), r.start()
	s, neighbour := r.serve(r.contain(i)), r.serve(r.contain(other))
	r.wantAnswer(s, "eat 16", "ok")
	if err := i.SetLimits(sandbox.Limits{MemoryMB: 64}); err != nil {
		r.Fatal(err)
	}
	if got, err := s.ask("eat 1024"); err == nil && strings.HasPrefix(got, "ok") {
		r.Error("1 GiB was eaten under a limit of 64 MiB")
	}
	if u, err := i.Usage(); err != nil || u.OOMKills < 1 {
		r.Errorf("usage %+v, error %v; want an OOM kill", u, err)
	}
	r.wantAnswer(neighbour, "echo here", "ok here")
	r.wantAlive(other)
	if err := i.Destroy(r.bounded()); err != nil {
		r.Error(err)
	}
}

func startGivenUp(r *rig) {
	r.late = true
	for _, after := range []time.Duration{0, 1, 2, 5, 10, 20, 40, 80} {
		ctx, cancel := context.WithTimeout(r.bounded(), after*time.Millisecond)
		i, err := r.driver.Start(ctx, r.spec())
		cancel()
		if err == nil { // it was faster
			r.keep(i)
			r.wantAlive(i) // the context bounds the start only
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			r.Errorf("given up after %d ms: %v", after, err)
		}
	}
	r.wantAnswer(r.serve(r.contain(r.start())), "echo well", "ok well")
}

func contextEnded(r *rig) {
	ended, cancel := context.WithCancel(r.bounded())
	cancel()
	if _, err := r.driver.Start(ended, r.spec()); !errors.Is(err, context.Canceled) {
		r.Errorf("start: %v", err)
	}
	i := r.start()
	if _, err := i.NewContainer(ended, sandbox.ContainerSpec{ID: "c-ended", EphemeralMB: 16}); !errors.Is(err, context.Canceled) {
		r.Errorf("new container: %v", err)
	}
	c := r.contain(i)
	if _, err := c.Exec(ended, r.opts.Command(Sleep)); !errors.Is(err, context.Canceled) {
		r.Errorf("exec: %v", err)
	}
	r.wantAnswer(r.serve(c), "echo well", "ok well")
	// A wait that is not waited for is finished nevertheless.
	_ = i.Destroy(ended)
	r.wantDone(i)
	if err := i.Destroy(r.bounded()); err != nil {
		r.Error(err)
	}
}

func startsAtOnce(r *rig) {
	var all sync.WaitGroup
	for k := range 8 {
		all.Go(func() {
			if err := r.startAndAsk(k); err != nil {
				r.Errorf("instance %d: %v", k, err)
			}
		})
	}
	all.Wait()
}

// startAndAsk goes the whole way for one of several instances.
func (r *rig) startAndAsk(k int) error {
	i, err := r.tryStart()
	if err != nil {
		return err
	}
	c, err := r.tryContain(i)
	if err != nil {
		return err
	}
	s, err := r.tryServe(c)
	if err != nil {
		return err
	}
	for _, exchange := range []struct{ ask, want string }{
		{fmt.Sprint("write /tmp/k ", k), "ok"}, {"read /tmp/k", fmt.Sprint("ok ", k)},
	} {
		if got, err := s.ask(exchange.ask); err != nil || got != exchange.want {
			return fmt.Errorf("%s: answer %q, error %w; want %q", exchange.ask, got, err, exchange.want)
		}
	}
	return i.Destroy(r.bounded())
}
