package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/sentry/kernel/auth"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"

	"lambent"
	"lambent/internal/sandbox"
)

// guest is one container.
type guest struct {
	instance *instance
	id       lambent.ContainerID
	dir      string

	// Set by start, constant afterwards.
	conf *config.Config
	box  *container.Container // gVisor's; not for several goroutines: only start and release use it

	gone chan struct{}

	work sync.WaitGroup // attachments, process starts

	mu sync.Mutex
	// +checklocks:mu
	started bool // its first process runs
	// +checklocks:mu
	doomed bool
	// +checklocks:mu
	releaseErr error
	// +checklocks:mu
	attached map[string]bool // targets
}

var _ sandbox.Container = (*guest)(nil)

// NewContainer implements sandbox.Instance.
func (i *instance) NewContainer(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	fail := func(kind lambent.Kind, err error) error {
		return &lambent.Error{Op: "make container", Resource: string(spec.ID), Kind: kind, Err: err}
	}
	if !validID(string(spec.ID)) || string(spec.ID) == string(i.id) {
		return nil, fail(lambent.KindInvalid, fmt.Errorf("id is not 1 to %d letters, digits, '_' or '-', or is the instance's", longestID))
	}
	if spec.EphemeralMB < 1 {
		return nil, fail(lambent.KindInvalid, fmt.Errorf("a /tmp of %d MiB is none: 1 is the least", spec.EphemeralMB))
	}
	if spec.Root != "" {
		if err := checkRoot(spec.Root, len(spec.Mounts)); err != nil {
			return nil, fail(lambent.KindInvalid, err)
		}
	}
	for _, m := range spec.Mounts {
		if err := checkMount(m); err != nil {
			return nil, fail(lambent.KindInvalid, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(lambent.KindUnavailable, context.Cause(ctx))
	}
	if err := i.enter(); err != nil {
		return nil, fail(lambent.KindUnavailable, err)
	}
	defer i.work.Done()
	g := &guest{
		instance: i, id: spec.ID, dir: filepath.Join(i.dir, string("c-"+spec.ID)),
		gone: make(chan struct{}), attached: map[string]bool{},
	}
	i.mu.Lock()
	taken := i.containers[g.id] != nil
	if !taken {
		i.containers[g.id] = g
	}
	i.mu.Unlock()
	if taken {
		return nil, fail(lambent.KindExists, errors.New("a container of this id is there already"))
	}
	i.work.Add(1)
	i.driver.work.Add(1)
	err := i.driver.await(ctx, func() error {
		defer i.work.Done()
		return g.start(spec)
	}, g.Destroy)
	if err != nil {
		return nil, fail(lambent.KindUnavailable, err)
	}
	return g, nil
}

// checkMount checks what a caller wants to see in a container.
func checkMount(m sandbox.Mount) error {
	if !validTarget(m.Target) {
		return fmt.Errorf("mount target %q is not a clean path below /var, /opt or /mnt", m.Target)
	}
	return checkSource(m.Source)
}

// checkSource: an absolute path of a folder, reached without a symbolic link at
// its end.
func checkSource(source string) error {
	if !filepath.IsAbs(source) || filepath.Clean(source) != source {
		return fmt.Errorf("folder %q is not a clean absolute path", source)
	}
	info, err := os.Lstat(source)
	if err != nil {
		return fmt.Errorf("folder to show: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", source)
	}
	return nil
}

// start makes the container; what it has made when it fails, release removes.
func (g *guest) start(spec sandbox.ContainerSpec) error {
	opts := &g.instance.driver.opts
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := g.makeRoot(spec.Root); err != nil {
		return err
	}
	for _, m := range spec.Mounts {
		// The mount point is made in the common root: an empty folder, which
		// all containers may see.
		if err := os.MkdirAll(filepath.Join(baseDir(opts.Dir), m.Target), 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
		if err := g.show(m.Target, m.Source); err != nil {
			return err
		}
	}
	var err error
	if g.conf, err = newConfig(opts, g.dir, spec.EphemeralMB); err != nil {
		return err
	}
	description := containerSpec(g.root(), emptyDir(opts.Dir), string(g.instance.id))
	bundle := filepath.Join(g.dir, "bundle")
	if err := writeBundle(bundle, description, g.instance.group.ProcsFiles(), 0); err != nil {
		return err
	}
	if err := closeOnExec(); err != nil {
		return err
	}
	if g.box, err = container.New(g.conf, container.Args{ID: string(g.id), Spec: description, BundleDir: bundle}); err != nil {
		return failedStart("make container in sandbox", err, g.dir)
	}
	if err := g.box.Start(g.conf); err != nil {
		return failedStart("start container in sandbox", err, g.dir)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.started = true
	return nil
}

func (g *guest) root() string { return filepath.Join(g.dir, "root") }

// ID implements sandbox.Container.
func (g *guest) ID() lambent.ContainerID { return g.id }

// enter counts a piece of work that Destroy has to wait for.
func (g *guest) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.doomed {
		return errors.New("the container is being destroyed")
	}
	select {
	case <-g.instance.dead:
		return errors.New("the instance is dead")
	default:
	}
	g.work.Add(1)
	return nil
}

// Attach implements sandbox.Container.
func (g *guest) Attach(target, source string) error {
	fail := func(kind lambent.Kind, err error) error {
		return &lambent.Error{Op: "attach to container", Resource: string(g.id), Kind: kind, Err: err}
	}
	if target != sandbox.TaskDir && target != sandbox.LayerDir {
		return fail(lambent.KindInvalid, fmt.Errorf("target %q is neither %s nor %s", target, sandbox.TaskDir, sandbox.LayerDir))
	}
	if err := checkSource(source); err != nil {
		return fail(lambent.KindInvalid, err)
	}
	if err := g.enter(); err != nil {
		return fail(lambent.KindUnavailable, err)
	}
	defer g.work.Done()
	if err := g.show(target, source); err != nil {
		if errors.Is(err, errAttached) {
			return fail(lambent.KindExists, err)
		}
		return fail(lambent.KindInternal, err)
	}
	return nil
}

var errAttached = errors.New("something is attached there already")

// show mounts a folder of the host in the container, once a target.
func (g *guest) show(target, source string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.attached[target] {
		return fmt.Errorf("%s: %w", target, errAttached)
	}
	if err := mountClone(source, filepath.Join(g.root(), target), unix.MS_PRIVATE); err != nil {
		return err
	}
	g.attached[target] = true
	return nil
}

// privileges are the capabilities lambent-init needs to start a function as
// another user, without capabilities, and to signal it.
const privileges = auth.CapabilitySet(1)<<linux.CAP_SETUID | 1<<linux.CAP_SETGID | 1<<linux.CAP_SETPCAP | 1<<linux.CAP_KILL

// Exec implements sandbox.Container.
func (g *guest) Exec(ctx context.Context, p sandbox.Command) (sandbox.Process, error) {
	fail := func(kind lambent.Kind, err error) error {
		return &lambent.Error{Op: "start process in container", Resource: string(g.id), Kind: kind, Err: err}
	}
	if !filepath.IsAbs(p.Path) || len(p.Args) == 0 {
		return nil, fail(lambent.KindInvalid, fmt.Errorf("path %q is not absolute, or there is no Args[0]", p.Path))
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(lambent.KindUnavailable, context.Cause(ctx))
	}
	if err := g.enter(); err != nil {
		return nil, fail(lambent.KindUnavailable, err)
	}
	defer g.work.Done()
	var null *os.File
	files := make(map[int]*os.File, max(3, len(p.Files)))
	for n := range max(3, len(p.Files)) {
		if n < len(p.Files) && p.Files[n] != nil {
			files[n] = p.Files[n]
			continue
		}
		if null == nil {
			var err error
			if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return nil, fail(lambent.KindInternal, err)
			}
			defer null.Close()
		}
		files[n] = null
	}
	dir := p.Dir
	if dir == "" {
		dir = "/"
	}
	caps := &auth.TaskCapabilities{}
	if p.KeepPrivileges && p.UID == 0 {
		caps.PermittedCaps, caps.EffectiveCaps, caps.BoundingCaps = privileges, privileges, privileges
	}
	pid, err := g.box.Sandbox.Execute(g.conf, &control.ExecArgs{
		Filename: p.Path, Argv: p.Args, Envv: p.Env, WorkingDirectory: dir,
		KUID: auth.KUID(p.UID), KGID: auth.KGID(p.GID), Capabilities: caps, NoNewPrivileges: true,
		ContainerID: string(g.id), FilePayload: control.NewFilePayload(files, nil),
	})
	if err != nil {
		kind := lambent.KindUnavailable
		if strings.Contains(err.Error(), "no such file") || strings.Contains(err.Error(), "permission denied") {
			kind = lambent.KindInvalid
		}
		return nil, fail(kind, err)
	}
	return g.follow(int(pid)), nil
}

// Destroy implements sandbox.Container.
func (g *guest) Destroy(ctx context.Context) error {
	g.mu.Lock()
	first := !g.doomed
	g.doomed = true
	g.mu.Unlock()
	if first {
		d := g.instance.driver
		d.work.Add(1)
		go func() {
			defer d.work.Done()
			err := g.release()
			g.mu.Lock()
			g.releaseErr = err
			g.mu.Unlock()
			close(g.gone)
		}()
	}
	select {
	case <-g.gone:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.releaseErr
	case <-ctx.Done():
		return &lambent.Error{Op: "destroy container", Resource: string(g.id), Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
	}
}

// deathNotice is how long the news of a sandbox's death may be under way: from
// the kernel through watch, on a machine that is busy.
const deathNotice = 2 * time.Second

// diesWithin reports whether the instance is dead by then. A sandbox that ends
// while a container in it is destroyed cannot answer; and has done what it was
// asked for.
func (i *instance) diesWithin(limit time.Duration) bool {
	select {
	case <-i.dead:
		return true
	case <-time.After(limit):
		return false
	}
}

// removeStrayLocks removes lock files of containers that are gone. gVisor looks
// at all containers of a sandbox when it starts or destroys one, and locks each
// meanwhile: where two do so at once, one makes a file anew that the other has
// just removed for good.
func (i *instance) removeStrayLocks() error {
	suffix := "_sandbox:" + string(i.id) + ".lock"
	locks, err := filepath.Glob(filepath.Join(stateDir(i.driver.opts.Dir), "*"+suffix)) // no id has a special character
	if err != nil {
		return fmt.Errorf("look for lock files: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, path := range locks {
		id := strings.TrimSuffix(filepath.Base(path), suffix)
		if i.containers[lambent.ContainerID(id)] != nil || id == string(i.id) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove lock file: %w", err)
		}
	}
	return nil
}

// release ends all processes and removes all that start and Attach made.
func (g *guest) release() error {
	g.work.Wait()
	i := g.instance
	var errs []error
	if g.box != nil {
		if err := destroyContainer(g.box); err != nil && !i.diesWithin(deathNotice) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, detach(g.root()), removeTree(g.dir))
	i.mu.Lock()
	delete(i.containers, g.id)
	i.mu.Unlock()
	errs = append(errs, i.removeStrayLocks())
	if err := errors.Join(errs...); err != nil {
		return &lambent.Error{Op: "release container", Resource: string(g.id), Kind: lambent.KindInternal, Err: err}
	}
	return nil
}
