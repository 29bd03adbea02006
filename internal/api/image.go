package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"lambent"
)

// Images is what the API needs of whoever finds images. Errors are
// *lambent.Error, with AWS's text in Message. Safe for concurrent use.
type Images interface {
	// Resolve finds the image that a caller names, for one of AWS's architectures:
	// ref names it by its digest, which is also told as code hashes are written.
	Resolve(ctx context.Context, uri, architecture string) (ref string, digest lambent.CodeHash, err error)
}

// imageCode is the image that a function is to be.
type imageCode struct {
	uri, ref string
	digest   lambent.CodeHash
}

// apply makes f the image's function.
func (i imageCode) apply(f *lambent.Function) {
	f.ImageURI, f.ImageRef, f.Code, f.CodeSize = i.uri, i.ref, i.digest, 0
}

// image finds the image that a request names.
func (a *API) image(c *call, operation string, s *codeSource, architecture string) (imageCode, error) {
	if a.images == nil {
		return imageCode{}, invalid(operation, "This server runs no images: its settings images.registries and images.layouts say from where they may come. Without them, provide the code as ZipFile.")
	}
	ref, digest, err := a.images.Resolve(c.r.Context(), *s.ImageURI, architecture)
	return imageCode{*s.ImageURI, ref, digest}, err
}

// functionCode is what a function is to run: a package, or an image.
type functionCode struct {
	zipPackage
	image *imageCode
}

// code finds what a request wants a function of a package type to run.
func (a *API) code(c *call, operation string, s *codeSource, packageType, architecture string) (functionCode, error) {
	if packageType != lambent.PackageImage {
		pkg, err := a.zip(c, operation, s)
		return functionCode{zipPackage: pkg}, err
	}
	img, err := a.image(c, operation, s, architecture)
	return functionCode{image: &img}, err
}

// apply sets in f what goes with the code.
func (k *functionCode) apply(f *lambent.Function) {
	f.Unpacked, f.HotFolder = k.unpacked, k.folder
	if k.image != nil {
		k.image.apply(f)
	}
}

// onlyImage refuses what does not go with an image.
func (q *createFunctionRequest) onlyImage(operation string) error {
	switch s := q.Code; {
	case !nonEmpty(s.ImageURI) || s.ZipFile != nil || s.S3Bucket != nil || s.S3Key != nil || s.S3ObjectVersion != nil:
		return invalid(operation, "Please provide ImageUri, and no other code, for a function with packageType Image.")
	case nonEmpty(s.SourceKMSKeyArn):
		return unsupportedField(operation, "SourceKMSKeyArn")
	}
	return q.settings.notOfImages(operation)
}

// notOfImages refuses the settings that only functions of packages have.
func (s *settings) notOfImages(operation string) error {
	if nonEmpty(s.Runtime) || nonEmpty(s.Handler) || len(s.Layers) > 0 {
		return invalid(operation, "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image.")
	}
	return nil
}

// signable refuses code signing for images, which AWS does not know either.
func signable(operation string, f *lambent.Function) error {
	if f.PackageType == lambent.PackageImage {
		return invalid(operation, "Functions of the package type Image do not support code signing.")
	}
	return nil
}

// onlyOfImages refuses the settings that only functions of images have.
func (s *settings) onlyOfImages(operation string) error {
	if c := s.ImageConfig; c != nil && (len(c.EntryPoint)+len(c.Command) > 0 || nonEmpty(c.WorkingDirectory)) {
		return invalid(operation, "Please don't provide ImageConfig for a function with packageType Zip.")
	}
	return nil
}

// set sets in f what the caller gave.
func (c *imageSettings) set(f *lambent.Function) {
	if c == nil {
		return
	}
	if c.EntryPoint != nil {
		f.ImageConfig.EntryPoint = plainList(c.EntryPoint)
	}
	if c.Command != nil {
		f.ImageConfig.Command = plainList(c.Command)
	}
	set(&f.ImageConfig.WorkingDirectory, c.WorkingDirectory)
}

// plainList is l without the indirection: checked lists hold no nil.
func plainList(l []*string) (out []string) {
	for _, s := range l {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// shownHash is CodeSha256: base64 of a package's hash, hexadecimal of an image's
// digest.
func shownHash(f *lambent.Function) string {
	if f.PackageType != lambent.PackageImage {
		return string(f.Code)
	}
	raw, err := base64.StdEncoding.DecodeString(string(f.Code))
	if err != nil {
		return string(f.Code)
	}
	return hex.EncodeToString(raw)
}

// imageConfigResponse is the model's shape of that name.
type imageConfigResponse struct{ ImageConfig imageConfig }

type imageConfig struct {
	EntryPoint       []string `json:",omitempty"`
	Command          []string `json:",omitempty"`
	WorkingDirectory string   `json:",omitempty"`
}

func imageConfigOf(f *lambent.Function) *imageConfigResponse {
	c := f.ImageConfig
	if len(c.EntryPoint)+len(c.Command) == 0 && c.WorkingDirectory == "" {
		return nil
	}
	return &imageConfigResponse{imageConfig(c)}
}

// storedHash undoes shownHash: 64 hexadecimal digits are an image's digest, and
// no base64 of a hash, which has 44 characters.
func storedHash(shown string) lambent.CodeHash {
	if raw, err := hex.DecodeString(shown); err == nil && len(raw) == sha256.Size {
		return lambent.CodeHash(base64.StdEncoding.EncodeToString(raw))
	}
	return lambent.CodeHash(shown)
}
