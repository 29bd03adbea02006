package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"lambent"
)

// source is where one name leads.
type source interface {
	// find gives the image that is there now for an architecture.
	find(ctx context.Context, arch string) (v1.Image, error)
	// get gives the image of a digest.
	get(ctx context.Context, digest v1.Hash) (v1.Image, error)
	// pinned is the name with a digest.
	pinned(digest v1.Hash) string
	// place names the repository or the layout.
	place() string
}

// sources are the places the operator allows.
type sources struct {
	registries []string
	layouts    []string // clean
	keys       keychain
	transport  *http.Transport
}

func newSources(o Options) (sources, error) {
	s := sources{registries: o.Registries, keys: keychain{file: o.Credentials}, transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConns:          16,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
	}}
	for _, dir := range o.Layouts {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder", dir)
		}
		if err != nil {
			return sources{}, fmt.Errorf("images.layouts: %w", err)
		}
		s.layouts = append(s.layouts, filepath.Clean(dir))
	}
	return s, nil
}

func (s *sources) close() { s.transport.CloseIdleConnections() }

// layoutScheme begins the name of an image in a layout on the disk:
// oci:/folder[:TAG] or oci:/folder@sha256:….
const layoutScheme = "oci:"

// of reads the name of an image and refuses the places nobody allowed.
func (s *sources) of(uri string) (source, error) {
	refuse := func(text string, err error) error {
		return &lambent.Error{Op: "find image", Resource: uri, Kind: lambent.KindInvalid, Message: text, Err: err}
	}
	if len(uri) > maxURI || strings.ContainsRune(uri, 0) {
		return nil, refuse("Source image "+uri[:min(len(uri), maxURI)]+" is not valid. Provide a valid source image.", nil)
	}
	if rest, ok := strings.CutPrefix(uri, layoutScheme); ok {
		src := s.layoutOf(rest)
		if src == nil {
			return nil, refuse("This server's setting images.layouts names no folder that "+uri+" is in.", nil)
		}
		return src, nil
	}
	ref, err := name.ParseReference(uri)
	if err != nil {
		return nil, refuse("Source image "+uri+" is not valid. Provide a valid source image.", err)
	}
	host := ref.Context().RegistryStr()
	if !slices.Contains(s.registries, "*") && !slices.Contains(s.registries, host) && (host != name.DefaultRegistry || !slices.Contains(s.registries, "docker.io")) {
		return nil, refuse("This server's setting images.registries does not name "+host+", so "+uri+" cannot be taken from there.", nil)
	}
	return &registryImage{ref: ref, sources: s}, nil
}

// maxURI bounds the name of an image.
const maxURI = 1024

// registryImage is an image in a registry.
type registryImage struct {
	ref     name.Reference
	sources *sources
}

// slowManifest bounds a request for one manifest; layers have as long as they come.
const slowManifest = time.Minute

func (r *registryImage) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(bounded{r.sources.transport}), remote.WithAuthFromKeychain(r.sources.keys), remote.WithUserAgent("lambent")}
}

func (r *registryImage) find(ctx context.Context, arch string) (v1.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, slowManifest)
	defer cancel()
	desc, err := remote.Get(r.ref, append(r.options(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))...)
	if err != nil {
		return nil, err
	}
	img, err := desc.Image()
	if err != nil {
		return nil, err
	}
	if err := small(img); err != nil {
		return nil, err
	}
	_, err = img.RawConfigFile() // while ctx lasts
	return img, err
}

// small refuses an image whose configuration is too large to be read. To those
// who read it, a size below nothing is none that holds.
func small(img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if manifest.Config.Size < 0 || manifest.Config.Size > maxConfig {
		return fmt.Errorf("%w: a configuration of %d bytes", errUnsupported, manifest.Config.Size)
	}
	return nil
}

// bounded is a transport on which no manifest is larger than is allowed, and that
// follows no more redirections than Go's own client would. (The library's follows
// those of a registry that redirects in a circle until there is no memory left.)
type bounded struct{ http.RoundTripper }

// maxRedirects bounds the redirections that one request is led through.
const maxRedirects = 10

// errLost is a registry that redirects without end.
var errLost = fmt.Errorf("stopped after %d redirects", maxRedirects)

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	hops := 0
	for from := r.Response; from != nil && from.Request != nil; from = from.Request.Response {
		if hops++; hops > maxRedirects {
			return nil, errLost
		}
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil && strings.Contains(r.URL.Path, "/manifests/") {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxManifest), resp.Body}
	}
	return resp, err
}

func (r *registryImage) get(ctx context.Context, digest v1.Hash) (v1.Image, error) {
	return remote.Image(r.ref.Context().Digest(digest.String()), r.options(ctx)...)
}

func (r *registryImage) pinned(digest v1.Hash) string {
	return r.ref.Context().Digest(digest.String()).Name()
}

func (r *registryImage) place() string { return r.ref.Context().Name() }

// layoutImage is an image in a layout on the disk. All of it is read below root:
// a symbolic link out of there leads nowhere.
type layoutImage struct {
	root string // a folder that the operator allows
	dir  string // of the layout, in root
	tag  string // empty: the only image there is
	hash string
}

// layoutOf reads what stands behind oci:, the folder and perhaps a tag or digest;
// nil: in no folder that is allowed.
func (s *sources) layoutOf(rest string) *layoutImage {
	l := &layoutImage{}
	dir := rest
	if path, hash, ok := strings.Cut(rest, "@"); ok {
		dir, l.hash = path, hash
	} else if k := strings.LastIndexByte(rest, ':'); k > strings.LastIndexByte(rest, '/') {
		dir, l.tag = rest[:k], rest[k+1:]
	}
	if !filepath.IsAbs(dir) {
		return nil
	}
	for _, root := range s.layouts {
		if rel, err := filepath.Rel(root, dir); err == nil && filepath.IsLocal(rel) {
			l.root, l.dir = root, rel
			return l
		}
	}
	return nil
}

// open opens a file of the layout.
func (l *layoutImage) open(name ...string) (*os.File, error) {
	root, err := os.OpenRoot(l.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.Join(append([]string{l.dir}, name...)...), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() { // a pipe would never end
		err = fmt.Errorf("%w: %s is no file", errUnsupported, f.Name())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// maxManifest and maxConfig bound what is read whole: Docker's own bound for the
// first.
const (
	maxManifest = 4 << 20
	maxConfig   = 1 << 20
)

// blob reads one of the small ones: what a manifest or an index is.
func (l *layoutImage) blob(digest v1.Hash) ([]byte, error) {
	raw, err := l.small("blobs", digest.Algorithm, digest.Hex)
	if err != nil {
		return nil, err
	}
	return raw, matches(raw, digest)
}

// small reads a file whole.
func (l *layoutImage) small(name ...string) ([]byte, error) {
	f, err := l.open(name...)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("%w: a manifest of more than %d bytes", errUnsupported, maxManifest)
	}
	return raw, err
}

// refName is the annotation that holds an image's tag (OCI image specification,
// "Annotations").
const refName = "org.opencontainers.image.ref.name"

func (l *layoutImage) find(_ context.Context, arch string) (v1.Image, error) {
	if l.hash != "" {
		digest, err := v1.NewHash(l.hash)
		if err != nil {
			return nil, err
		}
		return l.image(v1.Descriptor{Digest: digest}, arch, maxNesting)
	}
	raw, err := l.small("index.json")
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	var named []v1.Descriptor
	for _, d := range index.Manifests {
		if l.tag == "" || d.Annotations[refName] == l.tag {
			named = append(named, d)
		}
	}
	return l.pick(named, arch, maxNesting)
}

// maxNesting is how deep indexes may be nested.
const maxNesting = 3

// pick finds the image of an architecture among some: the only one that is for
// it, or the only one there is, if that does not say for which it is.
func (l *layoutImage) pick(among []v1.Descriptor, arch string, depth int) (v1.Image, error) {
	for _, d := range among {
		if d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == arch {
			return l.image(d, arch, depth)
		}
	}
	if len(among) == 1 && (among[0].Platform == nil || among[0].Platform.OS == "") {
		return l.image(among[0], arch, depth)
	}
	return nil, fmt.Errorf("%w: %d images, none of them alone for linux/%s", fs.ErrNotExist, len(among), arch)
}

// image reads the image of a descriptor, or finds it in the index that it is.
func (l *layoutImage) image(d v1.Descriptor, arch string, depth int) (v1.Image, error) {
	raw, err := l.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	var kind struct {
		MediaType types.MediaType
		Manifests []json.RawMessage
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("%w: %s is no manifest", errUnsupported, d.Digest)
	}
	if !kind.MediaType.IsIndex() && !d.MediaType.IsIndex() && kind.Manifests == nil {
		return partial.CompressedToImage(&layoutContent{layout: l, raw: raw})
	}
	if depth == 0 {
		return nil, fmt.Errorf("%w: indexes within indexes", errUnsupported)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return l.pick(index.Manifests, arch, depth-1)
}

func (l *layoutImage) get(_ context.Context, digest v1.Hash) (v1.Image, error) {
	return l.image(v1.Descriptor{Digest: digest}, "", 0)
}

func (l *layoutImage) pinned(digest v1.Hash) string {
	return layoutScheme + filepath.Join(l.root, l.dir) + "@" + digest.String()
}

func (l *layoutImage) place() string { return layoutScheme + filepath.Join(l.root, l.dir) }

// errUnsupported is an image that is none lambent can run.
var errUnsupported = errors.New("not supported")

// matches holds content against its digest.
func matches(raw []byte, digest v1.Hash) error {
	if sum := sha256.Sum256(raw); digest.Algorithm != "sha256" || hex.EncodeToString(sum[:]) != digest.Hex {
		return fmt.Errorf("its content is not that of %s", digest)
	}
	return nil
}

// codeHash writes a digest as code hashes are written.
func codeHash(digest v1.Hash) lambent.CodeHash {
	raw, err := hex.DecodeString(digest.Hex)
	if err != nil {
		return lambent.CodeHash(digest.Hex) // of no image: it finds none
	}
	return lambent.CodeHash(base64.StdEncoding.EncodeToString(raw))
}

// refusal makes of why an image cannot be had what a caller of the API is told.
func refusal(op, uri string, err error) error {
	out := &lambent.Error{Op: op, Resource: uri, Kind: lambent.KindInvalid, Reason: "InvalidImage", Err: err}
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e
	}
	status := 0
	if e, ok := errors.AsType[*transport.Error](err); ok {
		status = e.StatusCode
	}
	_, network := errors.AsType[net.Error](err)
	_, kernel := errors.AsType[unix.Errno](err) // which calls itself a net.Error
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	switch {
	case errors.Is(err, errFull), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		out.Kind, out.Reason = lambent.KindUnavailable, ""
		out.Message = "The server has no room for the source image " + uri + "."
	case errors.Is(err, errCredentials):
		out.Kind, out.Reason = lambent.KindUnavailable, ""
		out.Message = "This server cannot read its setting images.credentials; its log says why."
	case errors.Is(err, errUnsupported):
		out.Message = "The image manifest, config or layer media type for the source image " + uri + " is not supported."
	case errors.Is(err, errTooLarge):
		out.Message = fmt.Sprintf("The source image %s is larger than the %d bytes, or the %d files, that are allowed.", uri, int64(maxBytes), maxEntries)
	case errors.Is(err, errHostile):
		out.Message = "The source image " + uri + " cannot be unpacked: " + err.Error()
	case errors.Is(err, unix.ENAMETOOLONG):
		out.Message = "The source image " + uri + " cannot be unpacked: it has a path that is too long."
	case status == http.StatusNotFound, errors.Is(err, fs.ErrNotExist):
		out.Reason, out.Message = "ImageDeleted", "Source image "+uri+" does not exist. Provide a valid source image."
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		out.Reason, out.Message = "ImageAccessDenied", "Lambda does not have permission to access the ECR image. Check the ECR permissions."
	case kernel && (path || link):
		out.Kind, out.Reason = lambent.KindUnavailable, ""
		out.Message = "The server cannot read, or store, the source image " + uri + "."
	case network, status != 0, errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		out.Kind, out.Reason = lambent.KindUnavailable, ""
		out.Message = "The registry of the source image " + uri + " cannot be asked. Try again."
	default:
		out.Message = "Source image " + uri + " is not valid. Provide a valid source image."
	}
	return out
}
