package image

import (
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layoutContent is an image of a layout by its manifest. (The library's own reads
// blobs of any size whole, and finds only images that the layout's own index
// lists.)
type layoutContent struct {
	layout *layoutImage
	raw    []byte
}

var _ partial.CompressedImageCore = (*layoutContent)(nil)

// RawManifest implements partial.CompressedImageCore.
func (c *layoutContent) RawManifest() ([]byte, error) { return c.raw, nil }

// MediaType implements partial.CompressedImageCore.
func (c *layoutContent) MediaType() (types.MediaType, error) {
	manifest, err := partial.Manifest(c)
	if err != nil {
		return "", err
	}
	if manifest.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return manifest.MediaType, nil
}

// RawConfigFile implements partial.CompressedImageCore.
func (c *layoutContent) RawConfigFile() ([]byte, error) {
	manifest, err := partial.Manifest(c)
	if err != nil {
		return nil, err
	}
	return c.layout.blob(manifest.Config.Digest)
}

// LayerByDigest implements partial.CompressedImageCore.
func (c *layoutContent) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	manifest, err := partial.Manifest(c)
	if err != nil {
		return nil, err
	}
	for _, d := range append(manifest.Layers, manifest.Config) {
		if d.Digest == digest {
			return &layoutLayer{layout: c.layout, desc: d}, nil
		}
	}
	return nil, fmt.Errorf("layer %s: %w", digest, os.ErrNotExist)
}

// layoutLayer is one blob of it.
type layoutLayer struct {
	layout *layoutImage
	desc   v1.Descriptor
}

// Digest implements partial.CompressedLayer.
func (l *layoutLayer) Digest() (v1.Hash, error) { return l.desc.Digest, nil }

// Size implements partial.CompressedLayer.
func (l *layoutLayer) Size() (int64, error) { return l.desc.Size, nil }

// MediaType implements partial.CompressedLayer.
func (l *layoutLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Compressed implements partial.CompressedLayer.
func (l *layoutLayer) Compressed() (io.ReadCloser, error) {
	return l.layout.open("blobs", l.desc.Digest.Algorithm, l.desc.Digest.Hex)
}
