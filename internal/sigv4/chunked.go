package sigv4

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what stands between the chunks.
const (
	maxChunkLine = 256     // of a chunk's head: its size and its signature have 90
	maxTrailers  = 4 << 10 // bytes of all trailers together
)

// chunks is a body in AWS's own chunks ("aws-chunked"; S3 API reference,
// "Transferring payload in multiple chunks" and "Including trailing headers"):
//
//	SIZE;chunk-signature=SIGNATURE\r\n DATA \r\n … 0;chunk-signature=SIGNATURE\r\n
//	[NAME:VALUE\r\n … x-amz-trailer-signature:SIGNATURE\r\n] \r\n
//
// each signature made over the one before. It hands on what is in the chunks as
// it comes, and gives the error of a chunk that was not signed so at that
// chunk's end; of the last one, and of the trailers, together with the last
// byte.
type chunks struct {
	body    io.ReadCloser
	in      *bufio.Reader
	c       *claim
	key     []byte
	signed  bool     // chunks and trailers are
	trailer []string // names of the trailers that were announced, lower case
	before  []byte   // the signature before this chunk's, hexadecimal

	left  int64     // of all data
	chunk int64     // of this chunk
	mark  []byte    // this chunk's signature, as it came
	data  hash.Hash // of this chunk; nil: between chunks
	sums  map[string]hash.Hash
	err   error
}

// openChunks replaces a request's body by what is in its chunks.
func openChunks(r *http.Request, c *claim, key []byte) error {
	length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 || length > maxDecoded {
		return incomplete("X-Amz-Decoded-Content-Length must be the number of bytes in the chunks.")
	}
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	s := &chunks{body: body, in: bufio.NewReaderSize(body, 4<<10), c: c, key: key, signed: c.payload != unsignedPayloadTrailer,
		before: []byte(c.signature), left: length, sums: map[string]hash.Hash{}}
	if c.payload != streamedPayload {
		for name := range strings.SplitSeq(r.Header.Get("X-Amz-Trailer"), ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" {
				continue
			}
			s.trailer = append(s.trailer, name)
			if sum := newChecksum(name); sum != nil {
				s.sums[name] = sum
			}
		}
	}
	r.Body, r.ContentLength = s, length
	if length == 0 { // nobody would read it to its end
		if _, err := s.Read(nil); !errors.Is(err, io.EOF) {
			return err
		}
		r.Body = http.NoBody
	}
	r.Header.Set("Content-Length", strconv.FormatInt(length, 10))
	r.TransferEncoding = nil
	withoutChunked(r.Header)
	return nil
}

// withoutChunked takes aws-chunked off a body's encodings.
func withoutChunked(h http.Header) {
	var kept []string
	for coding := range strings.SplitSeq(strings.Join(h["Content-Encoding"], ","), ",") {
		if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "aws-chunked") {
			kept = append(kept, coding)
		}
	}
	if len(kept) == 0 {
		h.Del("Content-Encoding")
		return
	}
	h.Set("Content-Encoding", strings.Join(kept, ","))
}

// newChecksum is what a trailer of this name holds; nil for none we know.
func newChecksum(name string) hash.Hash {
	switch name {
	case "x-amz-checksum-crc32":
		return crc32.NewIEEE()
	case "x-amz-checksum-crc32c":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "x-amz-checksum-crc64nvme":
		return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) // the reflected polynomial of NVMe's CRC-64
	case "x-amz-checksum-sha1":
		return sha1.New()
	case "x-amz-checksum-sha256":
		return sha256.New()
	case "x-amz-checksum-md5":
		return md5.New()
	}
	return nil
}

func (s *chunks) Close() error { return s.body.Close() }

func (s *chunks) Read(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	n, s.err = s.read(p)
	return n, s.err
}

func (s *chunks) read(p []byte) (n int, err error) {
	if s.data == nil && s.left > 0 {
		if err := s.head(); err != nil {
			return 0, err
		}
		if s.chunk == 0 || s.chunk > s.left {
			return 0, mismatch()
		}
	}
	if s.chunk > 0 {
		n, err = s.in.Read(p[:min(int64(len(p)), s.chunk)])
		s.data.Write(p[:n])
		for _, sum := range s.sums {
			sum.Write(p[:n])
		}
		s.chunk -= int64(n)
		s.left -= int64(n)
		if err != nil && s.chunk > 0 {
			return n, broken(err)
		}
		if s.chunk > 0 {
			return n, nil
		}
		if err := s.end(); err != nil {
			return n, err
		}
	}
	if s.left > 0 {
		return n, nil
	}
	return n, s.finish()
}

// broken is the error of a body that ends where it must not.
func broken(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// head reads a chunk's size and signature.
func (s *chunks) head() error {
	line, err := s.line(maxChunkLine)
	if err != nil {
		return err
	}
	size, rest, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(size), 16, 32)
	if err != nil {
		return mismatch()
	}
	s.chunk, s.data, s.mark = int64(n), sha256.New(), nil
	if s.signed {
		mark, ok := bytes.CutPrefix(rest, []byte("chunk-signature="))
		if !ok {
			return mismatch()
		}
		s.mark = bytes.Clone(mark)
	}
	return nil
}

// line reads a line without its end, of at most so many bytes. It is valid
// until the next one is read.
func (s *chunks) line(most int) ([]byte, error) {
	line, err := s.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull), len(line) > most:
		return nil, mismatch()
	case err != nil:
		return nil, broken(err)
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, mismatch()
	}
	return line, nil
}

// end checks a chunk with data that was read whole.
func (s *chunks) end() error {
	if err := s.verify(); err != nil {
		return err
	}
	if line, err := s.line(2); err != nil || len(line) > 0 {
		return errors.Join(mismatch(), err)
	}
	s.data = nil
	return nil
}

// verify checks the signature of a chunk.
func (s *chunks) verify() error {
	if !s.signed {
		return nil
	}
	return s.advance("AWS4-HMAC-SHA256-PAYLOAD", emptyHash+"\n"+hex.EncodeToString(s.data.Sum(nil)), s.mark)
}

// advance checks a signature over the one before.
func (s *chunks) advance(kind, content string, given []byte) error {
	text := kind + "\n" + s.c.stamp + "\n" + s.c.scope() + "\n" + string(s.before) + "\n" + content
	want := signature(s.key, []byte(text))
	if !hmac.Equal(want, given) {
		return mismatch()
	}
	s.before = want
	return nil
}

// finish reads what comes after the data: the empty chunk, and the trailers.
func (s *chunks) finish() error {
	if err := s.head(); err != nil {
		return err
	}
	if s.chunk != 0 {
		return mismatch()
	}
	if err := s.verify(); err != nil {
		return err
	}
	if err := s.trailers(); err != nil {
		return err
	}
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(mismatch(), err)
	}
	return io.EOF
}

// trailers reads to the empty line at the end. The trailers' signature comes
// last.
func (s *chunks) trailers() error {
	var text strings.Builder
	var mark []byte
	got := map[string]string{}
	for size := 0; ; {
		line, err := s.line(maxTrailers)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		if size += len(line); size > maxTrailers || mark != nil {
			return mismatch()
		}
		name, value, ok := strings.Cut(string(line), ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		_, twice := got[name]
		switch {
		case ok && name == "x-amz-trailer-signature" && s.signed:
			mark = []byte(value)
		case !ok, twice, !slices.Contains(s.trailer, name):
			return mismatch()
		default:
			got[name] = value
			text.WriteString(name + ":" + value + "\n")
		}
	}
	if len(got) != len(s.trailer) {
		return mismatch()
	}
	if s.signed && len(s.trailer) > 0 {
		sum := sha256.Sum256([]byte(text.String()))
		if err := s.advance("AWS4-HMAC-SHA256-TRAILER", hex.EncodeToString(sum[:]), mark); err != nil {
			return err
		}
	}
	for name, sum := range s.sums {
		if got[name] != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return invalid("Value for %s header is invalid: it is not the checksum of the body.", name)
		}
	}
	return nil
}
