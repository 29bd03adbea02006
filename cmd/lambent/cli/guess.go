package cli

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// The runtimes a guess ends in. A server that has another version installed uses
// the nearest, unless it is told to be strict.
const (
	guessNode     lambent.Runtime = "nodejs22.x"
	guessPython   lambent.Runtime = "python3.13"
	guessProvided lambent.Runtime = "provided.al2023"
)

// guess is what a deployment package looks like.
type guess struct {
	runtime lambent.Runtime
	handler string
	from    string // the file it was read from
}

// entryFiles are the files a package is known by, most telling first. Among
// several the first one counts.
var entryFiles = [...]string{
	"bootstrap",
	"index.mjs", "index.js", "index.cjs", "lambda_function.py",
	"app.mjs", "app.js", "app.py", "main.mjs", "main.js", "main.py", "handler.mjs", "handler.js", "handler.py",
}

// maxRead bounds how much of an entry file is looked at.
const maxRead = 1 << 20

// guessFunction finds out what a zipped deployment package is, from its files'
// names and from what its entry file exports. A package with a single .mjs, .js,
// .cjs or .py file at its top is known by that file, whatever its name.
func guessFunction(pkg []byte) (guess, error) {
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return guess{}, fmt.Errorf("read the package: %w", err)
	}
	top := map[string]*zip.File{}
	var code []string
	for _, f := range r.File {
		if strings.Contains(f.Name, "/") {
			continue
		}
		top[f.Name] = f
		if slices.Contains([]string{".mjs", ".js", ".cjs", ".py"}, path.Ext(f.Name)) {
			code = append(code, f.Name)
		}
	}
	for _, name := range entryFiles {
		f := top[name]
		switch {
		case f == nil:
		case name == "bootstrap":
			if f.Mode()&0o111 == 0 {
				return guess{}, fmt.Errorf("bootstrap cannot be executed: chmod +x bootstrap")
			}
			return guess{guessProvided, "bootstrap", name}, nil
		default:
			return guessFrom(f)
		}
	}
	if len(code) == 1 {
		return guessFrom(top[code[0]])
	}
	return guess{}, fmt.Errorf("it has no bootstrap, index.mjs, index.js, lambda_function.py, app.py or the like at its top; say what it is with --runtime and --handler")
}

var (
	pythonDef  = regexp.MustCompile(`(?m)^(?:async )?def ([A-Za-z_]\w*)\(|^([A-Za-z_]\w*) *=`)
	nodeExport = regexp.MustCompile(`(?m)^\s*export\s+(?:async\s+)?(?:const|let|var|function)\s+(\w+)|\bexports\.(\w+)\s*=`)
)

// guessFrom reads the entry file of a Node or Python function: its handler is
// the one with a usual name, else the only one there is.
func guessFrom(f *zip.File) (guess, error) {
	text, err := readStart(f)
	if err != nil {
		return guess{}, fmt.Errorf("read %s: %w", f.Name, err)
	}
	ext := path.Ext(f.Name)
	g := guess{runtime: guessNode, from: f.Name}
	pattern, usual := nodeExport, []string{"handler"}
	if ext == ".py" {
		g.runtime, pattern, usual = guessPython, pythonDef, []string{"lambda_handler", "handler"}
	}
	var names []string
	for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
		names = append(names, firstOf(m[1:]...))
	}
	module := strings.TrimSuffix(f.Name, ext)
	for _, u := range usual {
		if slices.Contains(names, u) {
			g.handler = module + "." + u
			return g, nil
		}
	}
	if ext != ".py" && len(names) == 1 {
		g.handler = module + "." + names[0]
		return g, nil
	}
	g.handler = module + "." + usual[0]
	return g, nil
}

func readStart(f *zip.File) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(io.LimitReader(rc, maxRead))
}
