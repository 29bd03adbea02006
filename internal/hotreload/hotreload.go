// Package hotreload serves folders of this machine as the code of functions, for
// those who write them: a change on disk becomes the function's code by itself.
//
// A folder is not mounted as it is. It is packed and goes the way of every
// upload, with the same checks and limits; what is written to it then makes the
// next package. So code never changes under a container, the hash of what runs
// is always known, and a function whose folder was packed once runs on when the
// folder is gone.
package hotreload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lambent"
	"lambent/internal/bundle"
)

// Bucket is the name that stands for a folder of this machine where a bucket is
// asked for; the key is the folder's path then. It is the convention of local
// tooling.
const Bucket = "hot-reload"

// Options are what a Reloader needs.
type Options struct {
	// Roots are the folders that functions may have code in or below.
	Roots []string
	// Update gives a function the package its folder has become. It does nothing
	// where that is the function's code already, or the folder is not the
	// function's any more. An error of KindNotFound ends the watch, one of
	// KindInvalid waits for the next change; others are tried again.
	Update func(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, folder string, pkg []byte) error
	Log    *slog.Logger
}

// Reloader watches folders. Make it with New; Close waits for everything.
type Reloader struct {
	opts  Options
	roots []string // without symbolic links

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	packing sync.Mutex // one folder at a time: a package may take 250 MB

	mu sync.Mutex
	// +checklocks:mu
	watched map[functionKey]*watched
}

type functionKey struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// watched is one function's folder, until end is called.
type watched struct {
	folder string
	end    context.CancelFunc
}

// New makes a reloader. It fails where a root is no folder.
func New(o Options) (*Reloader, error) {
	r := &Reloader{opts: o, watched: map[functionKey]*watched{}}
	for _, root := range o.Roots {
		resolved, err := folderAt(root)
		if err != nil {
			return nil, fmt.Errorf("hot_reload: %w", err)
		}
		r.roots = append(r.roots, resolved)
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

// Close ends all watches and waits for them.
func (r *Reloader) Close() error {
	r.stop()
	r.running.Wait()
	return nil
}

// folderAt follows the symbolic links of an absolute path to a folder.
func folderAt(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder", path)
	}
	return resolved, nil
}

// Pack makes the package of a folder that a caller named, and tells where it
// really is. Errors are *lambent.Error of KindInvalid, with a text for the caller.
func (r *Reloader) Pack(path string) (folder string, pkg []byte, err error) {
	refuse := func(text string, err error) (string, []byte, error) {
		return "", nil, &lambent.Error{Op: "hot reload", Resource: path, Kind: lambent.KindInvalid, Message: text, Err: err}
	}
	folder, err = folderAt(path)
	// That a folder outside is not there is nobody's business.
	if err != nil && !r.allowed(filepath.Clean(path)) || err == nil && !r.allowed(folder) {
		return refuse("This server's setting hot_reload names no folder that "+path+" is in: add it there, or use a folder that is.", nil)
	}
	if err != nil {
		return refuse("The folder "+path+" cannot be used: "+reason(err), err)
	}
	pkg, err = r.pack(folder)
	if err != nil {
		return refuse("The folder "+path+" cannot be packed: "+reason(err), err)
	}
	return folder, pkg, nil
}

// reason is why, without what was tried on what: that the caller knows.
func reason(err error) string {
	if e, ok := errors.AsType[*lambent.Error](err); ok && e.Err != nil {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	return err.Error()
}

func (r *Reloader) allowed(folder string) bool {
	_, _, ok := r.rootOf(folder)
	return ok
}

// rootOf finds the root that a folder is in, and its path from there.
func (r *Reloader) rootOf(folder string) (root, below string, ok bool) {
	for _, root := range r.roots {
		if below, err := filepath.Rel(root, folder); err == nil && filepath.IsLocal(below) {
			return root, below, true
		}
	}
	return "", "", false
}

// pack makes the package of a folder that is allowed.
func (r *Reloader) pack(folder string) ([]byte, error) {
	r.packing.Lock()
	defer r.packing.Unlock()
	return r.read(folder)
}

// read is pack without its turn. The folder's path was without links once; one
// that was put into it since leads nowhere out of the root.
func (r *Reloader) read(folder string) (pkg []byte, err error) {
	rootPath, below, ok := r.rootOf(folder)
	if !ok {
		return nil, fmt.Errorf("%s is in no folder of hot_reload", folder)
	}
	root, err := os.OpenRoot(rootPath)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	in, err := root.OpenRoot(below)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return bundle.PackRoot(in)
}

// Follow watches a folder for a function, in place of the one that was watched
// for it; "" ends the watch. It does not block. A folder outside of the roots,
// which the setting may have had when the function was made, is not watched.
func (r *Reloader) Follow(account lambent.AccountID, name lambent.FunctionName, folder string) {
	key := functionKey{account, name}
	if folder != "" && !r.allowed(folder) {
		r.opts.Log.Warn("a function's folder is not watched: hot_reload names none that it is in", "function", name, "account", account, "folder", folder)
		folder = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.watched[key]; w != nil {
		if w.folder == folder {
			return
		}
		w.end()
		delete(r.watched, key)
	}
	if folder == "" || r.ctx.Err() != nil {
		return
	}
	ctx, end := context.WithCancel(r.ctx)
	r.watched[key] = &watched{folder, end}
	r.running.Go(func() {
		defer end()
		r.watch(ctx, key, folder)
	})
}

const (
	// settle is for how long nothing must have changed before a folder is packed:
	// editors and compilers write several files, and each in steps.
	settle = 50 * time.Millisecond
	// settleMost bounds the wait for that.
	settleMost = 2 * time.Second
	// lookEvery is how often a folder is looked at where the system does not tell of
	// changes, as network file systems do not.
	lookEvery = 2 * time.Second
	// again and againMost are the waits before an update that could not be made is
	// tried again.
	again     = 100 * time.Millisecond
	againMost = 30 * time.Second
)

// watch brings a function's code up to its folder, until ctx ends or the function
// is gone.
func (r *Reloader) watch(ctx context.Context, key functionKey, folder string) {
	log := r.opts.Log.With("function", key.name, "account", key.account, "folder", folder)
	news, err := openNews(folder)
	if err != nil {
		log.Info("the system does not tell of changes in a function's folder; it is looked at every two seconds", "error", err)
	}
	if news != nil {
		defer news.close()
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	seen := fingerprint(folder)
	for {
		done := r.update(ctx, key, folder, log)
		if done {
			return
		}
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return
			case <-news.told():
				r.quiet(ctx, news)
				changed = true
			case <-look.C:
				now := fingerprint(folder)
				changed = now != seen
			}
		}
		seen = fingerprint(folder)
	}
}

// quiet waits until nothing has been told for a while.
func (r *Reloader) quiet(ctx context.Context, news *news) {
	most := time.After(settleMost)
	for {
		select {
		case <-news.told():
		case <-time.After(settle):
			return
		case <-most:
			return
		case <-ctx.Done():
			return
		}
	}
}

// update packs the folder and gives it to the function; done is whether there is
// nothing more to watch for. A folder that cannot be packed leaves the function
// as it is.
func (r *Reloader) update(ctx context.Context, key functionKey, folder string, log *slog.Logger) (done bool) {
	pkg, err := r.pack(folder)
	if err != nil {
		log.Warn("a function's folder cannot be packed; it keeps the code it has", "error", err)
		return false
	}
	for wait := again; ; wait = min(2*wait, againMost) {
		err := r.opts.Update(ctx, key.account, key.name, folder, pkg)
		switch {
		case err == nil:
			return false
		case ctx.Err() != nil, lambent.KindOf(err) == lambent.KindNotFound:
			return true
		case lambent.KindOf(err) == lambent.KindExists, lambent.KindOf(err) == lambent.KindPrecondition: // another update is under way, or was just made
			wait = again / 2
		case lambent.KindOf(err) == lambent.KindInvalid:
			log.Warn("a function cannot be given the code in its folder; it keeps the code it has", "error", err)
			return false
		default:
			log.Warn("a function could not be given the code in its folder; it is tried again", "wait", wait, "error", err)
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(wait):
		}
	}
}
