package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
	"io"
)

// hashedBody is a body whose hash was signed. It gives the error of a mismatch
// with its last byte, not after it: readers that know the length read no
// further.
type hashedBody struct {
	body io.ReadCloser
	want [sha256.Size]byte
	hash hash.Hash
	left int64 // bytes to come; negative: unknown
	err  error // what Read gives from now on
}

// newHashedBody makes the body of a request of which length bytes come, a
// negative number of them being unknown.
func newHashedBody(body io.ReadCloser, length int64, want [sha256.Size]byte) io.ReadCloser {
	return &hashedBody{body: body, want: want, hash: sha256.New(), left: length}
}

func (b *hashedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.body.Read(p)
	b.hash.Write(p[:n])
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		b.err = err
	case err != nil, b.left == 0:
		b.err = io.EOF
		if subtle.ConstantTimeCompare(b.hash.Sum(nil), b.want[:]) != 1 {
			b.err = mismatch()
		}
	}
	return n, b.err
}

func (b *hashedBody) Close() error { return b.body.Close() }
