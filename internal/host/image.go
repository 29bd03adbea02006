package host

import (
	"context"
	"errors"
	"maps"
	"path"
	"strings"

	"lambent"
	"lambent/internal/runtimeapi"
)

func (h *Host) holdImage(ctx context.Context, account lambent.AccountID, ref string) (ImageRoot, bool, func(), error) {
	if h.opts.Images == nil {
		return ImageRoot{}, false, nil, &lambent.Error{Op: "hold image", Resource: ref, Kind: lambent.KindUnavailable, Err: errors.New("this host keeps no images")}
	}
	return h.opts.Images.Hold(ctx, account, ref)
}

// digestOf is the digest that an image is named by: images of one digest are the
// same, wherever they are.
func digestOf(ref string) string {
	_, digest, _ := strings.Cut(ref, "@")
	return digest
}

// startImage makes an assignment one for an image: what it says of how it is
// started holds where the function's ImageConfig says nothing. As at AWS, an
// entry point of the function's takes the place of the image's own, and so does a
// command.
func startImage(a *runtimeapi.Assignment, fn *lambent.Function, image *ImageRoot) {
	config := fn.ImageConfig
	entry, command, dir := image.EntryPoint, image.Command, image.WorkingDir
	if len(config.EntryPoint) > 0 {
		entry = config.EntryPoint
	}
	if len(config.Command) > 0 {
		command = config.Command
	}
	if config.WorkingDirectory != "" {
		dir = config.WorkingDirectory
	}
	a.Bootstraps, a.Command = nil, append(append([]string{}, entry...), command...)
	a.TaskRoot = path.Clean("/" + dir)
	if len(a.Command) == 0 {
		a.Bootstraps = []string{"/var/runtime/bootstrap"} // what is left to try, and is missing in all but AWS's own
	}
	if image.UID != 0 {
		a.User = &runtimeapi.User{UID: image.UID, GID: image.GID}
	}
}

// imageEnvironment is the environment of an image's program: what the image says,
// over that the function's own, over all what is Lambda's alone. PATH and HOME
// are ours where nobody says anything.
func (h *Host) imageEnvironment(fn *lambent.Function, image *ImageRoot, stream string) map[string]string {
	env := map[string]string{"HOME": "/tmp", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, pair := range image.Env {
		if k, v, ok := strings.Cut(pair, "="); ok && k != "" && !strings.ContainsRune(pair, 0) {
			env[k] = v
		}
	}
	maps.Copy(env, fn.Environment)
	maps.Copy(env, h.reserved(fn, stream))
	env["AWS_EXECUTION_ENV"] = "AWS_Lambda_Image"
	delete(env, "_HANDLER") // the image's command is
	return env
}
