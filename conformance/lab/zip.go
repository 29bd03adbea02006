package lab

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Entry is one entry of a deployment package, written as it is: the name may be
// hostile, the mode anything.
type Entry struct {
	Name string
	Mode fs.FileMode // 0 stands for 0644
	Data []byte      // for a symlink, its target
	// Stored leaves the data as it is: deflating much of it takes long.
	Stored bool
}

// Zip makes a deployment package of entries.
func Zip(entries ...Entry) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: time.Unix(1_700_000_000, 0).UTC()}
		if e.Stored {
			h.Method = zip.Store
		}
		if e.Mode == 0 {
			e.Mode = 0o644
		}
		h.SetMode(e.Mode)
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = f.Write(e.Data)
		}
		if err != nil {
			panic(fmt.Sprintf("zip %q into memory: %v", e.Name, err)) // memory does not fail
		}
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("zip into memory: %v", err))
	}
	return out.Bytes()
}

// File is a package of one file.
func File(name, content string) []byte { return Zip(Entry{Name: name, Data: []byte(content)}) }

// Files is a package of several files.
func Files(files map[string]string) []byte {
	var entries []Entry
	for name, content := range files {
		entries = append(entries, Entry{Name: name, Data: []byte(content)})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return Zip(entries...)
}

// GoPackage compiles the main package in dir, statically, into a package with
// the one file "bootstrap".
func GoPackage(ctx context.Context, dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "lambent-conformance")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "bootstrap")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-trimpath", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the Go function in %s: %w\n%s", dir, err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return Zip(Entry{Name: "bootstrap", Mode: 0o755, Data: data}), nil
}
