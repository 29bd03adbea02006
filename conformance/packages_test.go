package conformance

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

const (
	badZip   = "Could not unzip uploaded file. Please check your file, then try to upload again."
	emptyZip = "Uploaded file must be a non-empty zip"
	bigUnzip = "Unzipped size must be smaller than 262144000 bytes"
)

// Packages that must never reach a sandbox are refused when they are uploaded,
// for new functions and for old ones, and nothing comes of them.
func TestSecurityHostilePackagesAreRefused(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	good := lab.Entry{Name: "index.js", Data: []byte("exports.handler = async () => 'good'")}
	c.Create(t, lab.Function{Name: "victim", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.Zip(good)})
	symlink := func(name, target string) lab.Entry {
		return lab.Entry{Name: name, Mode: 0o777 | fs.ModeSymlink, Data: []byte(target)}
	}
	whole := lab.Zip(good)
	tests := []struct {
		name string
		zip  []byte
		want string // empty: whatever it says
	}{
		{"no zip", []byte("this is no zip file"), badZip},
		{"no bytes", []byte{}, ""},
		{"cut short", whole[:len(whole)-10], badZip},
		{"damaged", flip(whole, len(whole)/3), badZip},
		{"no entries", lab.Zip(), emptyZip},
		{"climbs out", lab.Zip(good, lab.Entry{Name: "../../../../tmp/lambent-escaped"}), badZip},
		{"climbs out in the middle", lab.Zip(good, lab.Entry{Name: "a/../../b"}), badZip},
		{"absolute", lab.Zip(good, lab.Entry{Name: "/etc/lambent-escaped"}), badZip},
		{"backslashes", lab.Zip(good, lab.Entry{Name: `..\..\b`}), badZip},
		{"NUL in a name", lab.Zip(good, lab.Entry{Name: "a\x00b"}), badZip},
		{"absolute symlink", lab.Zip(good, symlink("l", "/etc/shadow")), badZip},
		{"symlink that climbs out", lab.Zip(good, symlink("a/l", "../../etc/shadow")), badZip},
		{"file through a symlink", lab.Zip(good, symlink("d", "."), lab.Entry{Name: "d/../../x"}), badZip},
		{"device", lab.Zip(good, lab.Entry{Name: "sda", Mode: 0o666 | fs.ModeDevice}), badZip},
		{"character device", lab.Zip(good, lab.Entry{Name: "mem", Mode: 0o666 | fs.ModeDevice | fs.ModeCharDevice}), badZip},
		{"pipe", lab.Zip(good, lab.Entry{Name: "p", Mode: 0o666 | fs.ModeNamedPipe}), badZip},
		{"socket", lab.Zip(good, lab.Entry{Name: "s", Mode: 0o666 | fs.ModeSocket}), badZip},
		{"the same name twice", lab.Zip(good, good), badZip},
		{"a file and a folder of one name", lab.Zip(good, lab.Entry{Name: "a"}, lab.Entry{Name: "a/b"}), badZip},
		{"bomb", bomb(t, 251<<20), bigUnzip},
		{"bomb that lies", liar(t, 251<<20), ""},
		{"too many entries", crowd(t, 110_000), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := c.Input(lab.Function{Name: "hostile", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: test.zip})
			_, err := c.CreateFunction(t.Context(), in)
			wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", test.want)
			_, err = c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("victim"), ZipFile: test.zip})
			wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", test.want)
		})
	}
	_, err := c.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("hostile")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "")
	if got, _ := lab.Do[string](t, c, "victim", nil); got != "good" {
		t.Errorf("the function that was to get hostile code answers %q", got)
	}
}

func TestPackagesUpTo50MBAreTaken(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	const limit = 52428800
	r := rand.NewChaCha8([32]byte{})
	padded := func(n int) []byte { // random bytes do not shrink
		data := make([]byte, n)
		_, _ = r.Read(data) // never fails
		return lab.Zip(lab.Entry{Name: "index.js", Data: []byte("exports.handler = async () => require('fs').statSync('/var/task/pad').size")},
			lab.Entry{Name: "pad", Data: data, Stored: true})
	}
	const size = limit - 100_000
	c.Create(t, lab.Function{Name: "heavy", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: padded(size)})
	if got, _ := lab.Do[int](t, c, "heavy", nil); got != size {
		t.Errorf("the padding arrives with %d of %d bytes", got, size)
	}
	_, err := c.CreateFunction(t.Context(), c.Input(lab.Function{Name: "heavier", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: padded(limit)}))
	wantCode(t, err, "RequestEntityTooLargeException", "Zipped size must be smaller than 52428800 bytes")
	_, err = c.CreateFunction(t.Context(), c.Input(lab.Function{Name: "heaviest", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: make([]byte, 53<<20)}))
	wantCode(t, err, "RequestEntityTooLargeException", "Request must be smaller than 70167211 bytes for the CreateFunction operation")
}

// What is odd and yet harmless is taken: modes, folders, links that stay inside.
func TestHarmlessPackagesAreTaken(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	code := `import os, stat
def handler(event, context):
    t = "/var/task/"
    return {
        "link": open(t + "data/link").read(), "umlaut": open(t + "grün.txt").read(),
        "tool": stat.S_IMODE(os.stat(t + "bin/tool").st_mode), "private": stat.S_IMODE(os.stat(t + "data/real").st_mode),
        "setuid": stat.S_IMODE(os.stat(t + "suid").st_mode), "uid": os.stat(t + "suid").st_uid,
    }
`
	c.Create(t, lab.Function{Name: "odd", Runtime: types.RuntimePython313, Handler: "src/app.handler", Zip: lab.Zip(
		lab.Entry{Name: "src/app.py", Data: []byte(code), Mode: 0o600},
		lab.Entry{Name: "data/", Mode: 0o700 | fs.ModeDir},
		lab.Entry{Name: "data/real", Data: []byte("real"), Mode: 0o400},
		lab.Entry{Name: "data/link", Data: []byte("real"), Mode: 0o777 | fs.ModeSymlink},
		lab.Entry{Name: "bin/tool", Mode: 0o700},
		lab.Entry{Name: "suid", Mode: 0o755 | fs.ModeSetuid},
		lab.Entry{Name: "grün.txt", Data: []byte("grün")},
	)})
	got, _ := lab.Do[map[string]any](t, c, "odd", nil)
	want := map[string]any{"link": "real", "umlaut": "grün", "tool": float64(0o755), "private": float64(0o644), "setuid": float64(0o755), "uid": float64(0)}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0xff
	return b
}

// bomb is a small package of n zero bytes, a multiple of 1 MB, in one entry. Its
// compressed data is one megabyte's, again and again.
func bomb(t *testing.T, n int64) []byte {
	t.Helper()
	const mb = 1 << 20
	var data bytes.Buffer
	w, err := flate.NewWriter(&data, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, mb)
	var sum uint32
	for at := int64(0); at < n; at += mb {
		if at == 0 {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil { // ends at a byte, so that it can be repeated
				t.Fatal(err)
			}
		}
		sum = crc32.Update(sum, crc32.IEEETable, block)
	}
	compressed := bytes.Repeat(data.Bytes(), int(n/mb))
	data.Reset()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	compressed = append(compressed, data.Bytes()...)

	var out bytes.Buffer
	z := zip.NewWriter(&out)
	f, err := z.CreateRaw(&zip.FileHeader{Name: "zeros", Method: zip.Deflate, CRC32: sum, CompressedSize64: uint64(len(compressed)), UncompressedSize64: uint64(n)})
	if err == nil {
		_, err = f.Write(compressed)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// liar is a bomb whose headers say that it is small.
func liar(t *testing.T, n int64) []byte {
	t.Helper()
	b := bomb(t, n)
	size := binary.LittleEndian.AppendUint32(nil, uint32(n))
	small := binary.LittleEndian.AppendUint32(nil, 10)
	if bytes.Count(b, size) == 0 {
		t.Fatal("the bomb does not hold its size")
	}
	return bytes.ReplaceAll(b, size, small)
}

// crowd is a package of n empty files.
func crowd(t *testing.T, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := range n {
		if _, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%s/%d", strings.Repeat("d", i%7+1), i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
