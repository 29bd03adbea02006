package fake_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

func start(t *testing.T, d *fake.Driver, id lambent.InstanceID) sandbox.Instance {
	t.Helper()
	i, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: id, Limits: sandbox.Limits{MemoryMB: 128}})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func contain(t *testing.T, i sandbox.Instance, id lambent.ContainerID, mounts ...sandbox.Mount) sandbox.Container {
	t.Helper()
	c, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: id, EphemeralMB: 1, Mounts: mounts})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func exec(t *testing.T, c sandbox.Container, path string, files ...*os.File) sandbox.Process {
	t.Helper()
	p, err := c.Exec(t.Context(), sandbox.Command{Path: path, Args: []string{path}, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantNothingLeft destroys all and fails when something of it is left.
func wantNothingLeft(t *testing.T, d *fake.Driver, instances ...sandbox.Instance) {
	t.Helper()
	for _, i := range instances {
		if err := i.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if left := d.Alive(); left != (fake.Alive{}) {
		t.Errorf("left: %+v", left)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func sleep(ctx context.Context, g *fake.Guest) int {
	<-ctx.Done()
	return 0
}

func TestNthStartFailsAndTheNextDoesNot(t *testing.T) {
	boom := &lambent.Error{Op: "boot", Kind: lambent.KindUnavailable, Message: "no memory"}
	d := fake.New(fake.Options{Faults: []fake.Fault{{Op: fake.OpStart, Nth: 2, Err: boom}}})
	a := start(t, d, "i-1")
	_, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: "i-2"})
	if !errors.Is(err, boom) || lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("second start: %v", err)
	}
	wantNothingLeft(t, d, a, start(t, d, "i-3"))
}

func TestEveryStartFailsUntilHealed(t *testing.T) {
	boom := errors.New("boom")
	d := fake.New(fake.Options{})
	d.Script(fake.Fault{Op: fake.OpStart, Err: boom})
	for _, id := range []lambent.InstanceID{"i-1", "i-2"} {
		if _, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: id}); !errors.Is(err, boom) {
			t.Errorf("start %s: %v", id, err)
		}
	}
	d.Heal()
	wantNothingLeft(t, d, start(t, d, "i-3"))
}

func TestStartTakesItsDelayOnTheBubblesClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.New(fake.Options{StartDelay: time.Hour, Faults: []fake.Fault{{Op: fake.OpDestroy, Delay: time.Minute}}})
		began := time.Now()
		i := start(t, d, "i-1")
		if took := time.Since(began); took != time.Hour {
			t.Errorf("start took %s", took)
		}
		began = time.Now()
		wantNothingLeft(t, d, i)
		if took := time.Since(began); took != time.Minute {
			t.Errorf("destroy took %s", took)
		}
	})
}

func TestStartGivenUpLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fake.New(fake.Options{StartDelay: time.Hour})
		why := errors.New("the pool closes")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		_, err := d.Start(ctx, sandbox.InstanceSpec{ID: "i-1"})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
			t.Errorf("start: %v", err)
		}
		wantNothingLeft(t, d)
	})
}

func TestHookHoldsACallUntilReleased(t *testing.T) {
	held, goOn := make(chan fake.Call), make(chan struct{})
	d := fake.New(fake.Options{Before: func(ctx context.Context, c fake.Call) error {
		if c.Op != fake.OpStart {
			return nil
		}
		held <- c
		<-goOn
		return nil
	}})
	started := make(chan sandbox.Instance)
	go func() { started <- start(t, d, "i-1") }()
	if c := <-held; c.Instance != "i-1" {
		t.Errorf("held %v", c)
	}
	if alive := d.Alive().Instances; alive != 0 {
		t.Errorf("%d instances while the start is held", alive)
	}
	close(goOn)
	wantNothingLeft(t, d, <-started)
}

func TestInstanceDiesInACall(t *testing.T) {
	crash := errors.New("the kernel panicked")
	for _, op := range []fake.Op{fake.OpStart, fake.OpNewContainer, fake.OpAttach, fake.OpExec, fake.OpSetLimits, fake.OpUsage} {
		t.Run(string(op), func(t *testing.T) {
			d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/sleep": sleep},
				Faults: []fake.Fault{{Op: op, Death: crash}}})
			dir := t.TempDir()
			var i sandbox.Instance
			err := func() (err error) {
				if i, err = d.Start(t.Context(), sandbox.InstanceSpec{ID: "i-1"}); err != nil {
					return err
				}
				c, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-1"})
				if err != nil {
					return err
				}
				if err := c.Attach(sandbox.TaskDir, dir); err != nil {
					return err
				}
				if _, err := c.Exec(t.Context(), sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep"}}); err != nil {
					return err
				}
				if err := i.SetLimits(sandbox.Limits{MemoryMB: 1}); err != nil {
					return err
				}
				_, err = i.Usage()
				return err
			}()
			if !errors.Is(err, crash) {
				t.Fatalf("error: %v", err)
			}
			if i == nil {
				wantNothingLeft(t, d)
				return
			}
			<-i.Done()
			if !errors.Is(i.Cause(), crash) {
				t.Errorf("cause: %v", i.Cause())
			}
			wantNothingLeft(t, d, i)
		})
	}
}

func TestKillWakesAProgramThatBlocksInARead(t *testing.T) {
	pipeR, pipeW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipeW.Close()
	for name, files := range map[string]func(t *testing.T) (guest *os.File){
		"Go's pipe":       func(t *testing.T) *os.File { return pipeR },
		"blocking pipe":   blockingPipe,
		"blocking socket": blockingSocket,
	} {
		t.Run(name, func(t *testing.T) {
			reading := make(chan struct{})
			d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/cat": func(ctx context.Context, g *fake.Guest) int {
				close(reading)
				if _, err := g.Files[3].Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
					t.Errorf("read: %v", err)
				}
				return 7
			}}})
			i := start(t, d, "i-1")
			p := exec(t, contain(t, i, "c-1"), "/bin/cat", nil, nil, nil, files(t))
			<-reading
			if err := d.Kill("i-1", nil); err != nil {
				t.Error(err)
			}
			<-i.Done()
			if exit, err := p.Wait(t.Context()); err != nil || exit != (sandbox.Exit{Signal: 9}) {
				t.Errorf("exit: %+v, %v", exit, err)
			}
			if !errors.Is(i.Cause(), fake.ErrKilled) {
				t.Errorf("cause: %v", i.Cause())
			}
			wantNothingLeft(t, d, i)
		})
	}
}

func blockingPipe(t *testing.T) *os.File {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	r := os.NewFile(uintptr(fds[0]), "pipe")
	t.Cleanup(func() { r.Close() })
	return r
}

func blockingSocket(t *testing.T) *os.File {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	r := os.NewFile(uintptr(fds[0]), "socket")
	t.Cleanup(func() { r.Close() })
	return r
}

func TestPeerSeesTheEndOfAKilledProgram(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	defer conn.Close()
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/echo": func(ctx context.Context, g *fake.Guest) int {
		io.Copy(g.Files[3], g.Files[3])
		return 0
	}}})
	i := start(t, d, "i-1")
	exec(t, contain(t, i, "c-1"), "/bin/echo", nil, nil, nil, theirs)
	theirs.Close()
	fmt.Fprintln(conn, "hello")
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	if err := d.Kill("i-1", nil); err != nil {
		t.Error(err)
	}
	if _, err := lines.ReadByte(); err == nil {
		t.Error("the connection outlived the process")
	}
	wantNothingLeft(t, d, i)
}

func TestDestroyWaitsForProgramsAndContextBoundsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let := make(chan struct{})
		d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/stubborn": func(context.Context, *fake.Guest) int {
			<-let
			return 0
		}}})
		i := start(t, d, "i-1")
		p := exec(t, contain(t, i, "c-1"), "/bin/stubborn")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := i.Destroy(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("destroy: %v", err)
		}
		if exit, err := p.Wait(t.Context()); err != nil || exit.Signal != 9 {
			t.Errorf("exit: %+v, %v", exit, err)
		}
		if alive := d.Alive(); alive != (fake.Alive{Instances: 1, Containers: 1, Processes: 1}) {
			t.Errorf("alive: %+v", alive)
		}
		close(let)
		wantNothingLeft(t, d, i)
	})
}

func TestMemoryOverTheLimitKillsTheInstance(t *testing.T) {
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/eat": func(ctx context.Context, g *fake.Guest) int {
		g.UseMemory(100 << 20)
		g.UseMemory(29 << 20)
		<-ctx.Done()
		return 0
	}}})
	i := start(t, d, "i-1")
	exec(t, contain(t, i, "c-1"), "/bin/eat")
	<-i.Done()
	if !errors.Is(i.Cause(), fake.ErrOutOfMemory) {
		t.Errorf("cause: %v", i.Cause())
	}
	if u, err := i.Usage(); err != nil || u.OOMKills != 1 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	wantNothingLeft(t, d, i)
	if _, err := i.Usage(); err == nil {
		t.Error("a destroyed instance has counters")
	}
}

func TestUsageIsWhatWasSet(t *testing.T) {
	d := fake.New(fake.Options{})
	i := start(t, d, "i-1")
	want := sandbox.Usage{MemoryBytes: 5, CPUTime: time.Second}
	if err := d.SetUsage("i-1", want); err != nil {
		t.Fatal(err)
	}
	if u, err := i.Usage(); u != want || err != nil {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if err := d.OutOfMemory("i-1"); err != nil {
		t.Error(err)
	}
	want.OOMKills = 1
	if u, err := i.Usage(); u != want || err != nil {
		t.Errorf("usage of the dead: %+v, %v", u, err)
	}
	wantNothingLeft(t, d, i)
}

func TestGuestSeesWhatIsAttachedAndNothingElse(t *testing.T) {
	code, runtime := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{filepath.Join(code, "index.js"): "code", filepath.Join(runtime, "boot"): "boot"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(code, "out")); err != nil {
		t.Fatal(err)
	}
	look, looked := make(chan struct{}), make(chan []string, 1)
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/look": func(ctx context.Context, g *fake.Guest) int {
		<-look
		var seen []string
		note := func(what string, err error) {
			var no syscall.Errno
			switch {
			case errors.As(err, &no):
				what = no.Error()
			case err != nil:
				what = "error"
			}
			seen = append(seen, what)
		}
		for _, name := range []string{"/var/task/index.js", "index.js", "/var/runtime/boot", "/var/task/none", "/opt/x", "/etc/passwd",
			"/var/task/out", "/var/task/../../etc/passwd", "/tmp/a"} {
			data, err := g.ReadFile(name)
			note(string(data), err)
		}
		host, err := g.Resolve("/var/task/index.js")
		if host != filepath.Join(code, "index.js") {
			err = fmt.Errorf("resolved to %s", host)
		}
		note("resolved", err)
		note("written", g.WriteFile("/tmp/a", []byte("a")))
		note("written", g.WriteFile("/var/task/a", nil))
		note("written", g.WriteFile("/tmp/big", make([]byte, 1<<20)))
		looked <- seen
		return 0
	}}})
	i := start(t, d, "i-1")
	c := contain(t, i, "c-1", sandbox.Mount{Source: runtime, Target: sandbox.RuntimeDir})
	p, err := c.Exec(t.Context(), sandbox.Command{Path: "/bin/look", Args: []string{"look"}, Dir: sandbox.TaskDir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(sandbox.TaskDir, code); err != nil {
		t.Fatal(err)
	}
	close(look)
	const none = "no such file or directory"
	want := []string{"code", "code", "boot", none, none, none, "error", none, none, "resolved", "written",
		"read-only file system", "no space left on device"}
	if diff := cmp.Diff(want, <-looked); diff != "" {
		t.Error(diff)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit != (sandbox.Exit{}) {
		t.Errorf("exit: %+v, %v", exit, err)
	}
	if alive := d.Alive(); alive.Attachments != 2 {
		t.Errorf("alive: %+v", alive)
	}
	wantNothingLeft(t, d, i)
}

func TestWrongUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/sleep": sleep}})
	i := start(t, d, "i-1")
	c := contain(t, i, "c-1")
	if err := c.Attach(sandbox.TaskDir, dir); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	mount := func(target, source string) error {
		_, err := i.NewContainer(ctx, sandbox.ContainerSpec{ID: "c-9", Mounts: []sandbox.Mount{{Source: source, Target: target}}})
		return err
	}
	run := func(cmd sandbox.Command) error {
		_, err := c.Exec(ctx, cmd)
		return err
	}
	startAgain := func(id lambent.InstanceID) error {
		_, err := d.Start(ctx, sandbox.InstanceSpec{ID: id})
		return err
	}
	containAgain := func(id lambent.ContainerID) error {
		_, err := i.NewContainer(ctx, sandbox.ContainerSpec{ID: id})
		return err
	}
	_, sweep := d.Sweep(ctx)
	for name, got := range map[string]struct {
		err  error
		kind lambent.Kind
	}{
		"instance id twice":       {startAgain("i-1"), lambent.KindExists},
		"instance without id":     {startAgain(""), lambent.KindInvalid},
		"container id twice":      {containAgain("c-1"), lambent.KindExists},
		"container without id":    {containAgain(""), lambent.KindInvalid},
		"attach twice":            {c.Attach(sandbox.TaskDir, dir), lambent.KindExists},
		"attach elsewhere":        {c.Attach("/etc", dir), lambent.KindInvalid},
		"attach nothing":          {c.Attach(sandbox.LayerDir, filepath.Join(dir, "none")), lambent.KindInvalid},
		"attach relative":         {c.Attach(sandbox.LayerDir, "x"), lambent.KindInvalid},
		"mount over the root":     {mount("/", dir), lambent.KindInvalid},
		"mount beside /opt":       {mount("/optional", dir), lambent.KindInvalid},
		"mount by a way around":   {mount("/var/../etc", dir), lambent.KindInvalid},
		"program that is not":     {run(sandbox.Command{Path: "/bin/none", Args: []string{"x"}}), lambent.KindNotFound},
		"program by relative way": {run(sandbox.Command{Path: "sleep", Args: []string{"x"}}), lambent.KindInvalid},
		"program without name":    {run(sandbox.Command{Path: "/bin/sleep"}), lambent.KindInvalid},
		"sweep after a start":     {sweep, lambent.KindInternal},
		"kill of none":            {d.Kill("i-9", nil), lambent.KindNotFound},
		"close before destroy":    {d.Close(), lambent.KindInternal},
		"start after close":       {startAgain("i-2"), lambent.KindUnavailable},
	} {
		if got.err == nil || lambent.KindOf(got.err) != got.kind {
			t.Errorf("%s: got %v, want kind %s", name, got.err, got.kind)
		}
	}
	wantNothingLeft(t, d, i)
	for name, err := range map[string]error{
		"exec": run(sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep"}}), "attach": c.Attach(sandbox.LayerDir, dir),
		"contain": containAgain("c-2"), "limit": i.SetLimits(sandbox.Limits{}),
	} {
		if lambent.KindOf(err) != lambent.KindUnavailable {
			t.Errorf("%s after destroy: %v", name, err)
		}
	}
}

func TestCallsAreRecordedInOrder(t *testing.T) {
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/sleep": sleep}})
	i := start(t, d, "i-1")
	c := contain(t, i, "c-1")
	if err := c.Attach(sandbox.TaskDir, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	exec(t, c, "/bin/sleep")
	if err := i.SetLimits(sandbox.Limits{MemoryMB: 256}); err != nil {
		t.Fatal(err)
	}
	limits, err := d.Limits("i-1")
	if diff := cmp.Diff([]sandbox.Limits{{MemoryMB: 128}, {MemoryMB: 256}}, limits); diff != "" || err != nil {
		t.Errorf("limits: %s, %v", diff, err)
	}
	if err := c.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, d, i)
	var got []string
	for _, call := range d.Calls() {
		got = append(got, call.String())
	}
	want := []string{"start instance i-1", "new container i-1 c-1", "attach i-1 c-1 /var/task", "exec i-1 c-1 /bin/sleep",
		"set limits i-1", "destroy container i-1 c-1", "destroy instance i-1", "close driver"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := d.Count(fake.OpExec); n != 1 {
		t.Errorf("%d execs", n)
	}
}

func TestDestroyThatReportsAnErrorReleasesNevertheless(t *testing.T) {
	busy := errors.New("device busy")
	d := fake.New(fake.Options{Faults: []fake.Fault{{Op: fake.OpDestroy, Nth: 1, Err: busy}}})
	i := start(t, d, "i-1")
	contain(t, i, "c-1")
	if err := i.Destroy(t.Context()); !errors.Is(err, busy) {
		t.Errorf("destroy: %v", err)
	}
	wantNothingLeft(t, d, i)
}

// Everything at once, for the race detector; nothing may be left.
func TestKillsAndDestroysFromAllSides(t *testing.T) {
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/sleep": sleep}})
	dir := t.TempDir()
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			id := lambent.InstanceID(fmt.Sprint("i-", n))
			i := start(t, d, id)
			c := contain(t, i, "c-1")
			var sides sync.WaitGroup
			sides.Go(func() { _ = d.Kill(id, nil) })
			sides.Go(func() {
				_, _ = c.Exec(t.Context(), sandbox.Command{Path: "/bin/sleep", Args: []string{"sleep"}})
				_ = c.Attach(sandbox.TaskDir, dir)
			})
			sides.Go(func() { _, _ = i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-2"}) })
			for range 2 {
				sides.Go(func() {
					if err := errors.Join(c.Destroy(t.Context()), i.Destroy(t.Context())); err != nil {
						t.Error(err)
					}
				})
			}
			sides.Wait()
			<-i.Done()
		})
	}
	all.Wait()
	wantNothingLeft(t, d)
	if n := d.Count(fake.OpStart); n != 50 { // what else was in time is another each time
		t.Errorf("%d starts", n)
	}
}
