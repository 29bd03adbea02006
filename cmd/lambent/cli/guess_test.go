package cli

import (
	"archive/zip"
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/examples"
	"lambent/internal/hostinfo"
)

// pack makes a zip of NAME and text pairs; a name that ends with * is
// executable.
func pack(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i < len(pairs); i += 2 {
		name, executable := strings.CutSuffix(pairs[i], "*")
		h := &zip.FileHeader{Name: name}
		h.SetMode(0o644)
		if executable {
			h.SetMode(0o755)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		write(f, "%s", pairs[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestGuessFunctionKnowsTheUsualFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		files   []string
		runtime lambent.Runtime
		handler string // empty: an error with the text in runtime
	}{
		"an ES module":                   {[]string{"index.mjs", "export const handler = 1", "lib/x.mjs", ""}, guessNode, "index.handler"},
		"a CommonJS module":              {[]string{"index.js", "exports.main = async () => 1"}, guessNode, "index.main"},
		"handler among several":          {[]string{"app.mjs", "export function a() {}\nexport async function handler() {}"}, guessNode, "app.handler"},
		"several without a usual name":   {[]string{"app.mjs", "export function a() {}\nexport function b() {}"}, guessNode, "app.handler"},
		"a Python function":              {[]string{"lambda_function.py", "def lambda_handler(event, context):\n  pass"}, guessPython, "lambda_function.lambda_handler"},
		"a Python app with a handler":    {[]string{"app.py", "x = 1\ndef handler(e, c): pass"}, guessPython, "app.handler"},
		"an assigned handler":            {[]string{"main.py", "handler = Adapter(app)"}, guessPython, "main.handler"},
		"the only module, oddly named":   {[]string{"resize.py", "def lambda_handler(e, c): pass", "README.md", ""}, guessPython, "resize.lambda_handler"},
		"index before app":               {[]string{"app.py", "", "index.mjs", ""}, guessNode, "index.handler"},
		"a bootstrap before all":         {[]string{"index.mjs", "", "bootstrap*", "\x7fELF"}, guessProvided, "bootstrap"},
		"a bootstrap without its bit":    {[]string{"bootstrap", "\x7fELF"}, "chmod +x bootstrap", ""},
		"two modules of unknown meaning": {[]string{"a.py", "", "b.py", ""}, "--runtime and --handler", ""},
		"nothing at the top":             {[]string{"src/index.mjs", ""}, "--runtime and --handler", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := guessFunction(pack(t, tc.files...))
			if tc.handler == "" {
				if err == nil || !strings.Contains(err.Error(), string(tc.runtime)) {
					t.Errorf("guessFunction = %+v, %v, want an error with %q", g, err, tc.runtime)
				}
				return
			}
			if err != nil || g.runtime != tc.runtime || g.handler != tc.handler {
				t.Errorf("guessFunction = %+v, %v, want %s %s", g, err, tc.runtime, tc.handler)
			}
		})
	}
}

func TestSamplesAreDeployedAsWhatIsInstalled(t *testing.T) {
	installed := []hostinfo.Installed{
		{Family: lambent.FamilyNode, Version: "20.20.2"},
		{Family: lambent.FamilyPython, Version: "3.19.0"},
	}
	for _, tc := range []struct {
		family  lambent.Family
		from    []hostinfo.Installed
		runtime lambent.Runtime
		ok      bool
	}{
		{lambent.FamilyNode, installed, "nodejs20.x", true},
		{lambent.FamilyPython, installed, guessPython, true}, // AWS has no python3.19: the nearest serves
		{lambent.FamilyProvided, nil, guessProvided, true},
		{lambent.FamilyPython, installed[:1], guessPython, false},
	} {
		if rt, ok := runtimeFor(tc.family, tc.from); rt != tc.runtime || ok != tc.ok {
			t.Errorf("runtimeFor(%s) = %s, %v, want %s, %v", tc.family, rt, ok, tc.runtime, tc.ok)
		}
	}
}

func TestTheGoSampleBuildsWithTheStandardLibraryAlone(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	for _, e := range examples.All() {
		if e.Family != lambent.FamilyProvided {
			continue
		}
		_, pkg, lacking, err := prepare(t.Context(), e, nil)
		if err != nil || lacking != "" {
			t.Fatalf("prepare: %q, %v", lacking, err)
		}
		g, err := guessFunction(pkg)
		if err != nil || g.runtime != guessProvided {
			t.Errorf("the package looks like %+v, %v, want provided", g, err)
		}
	}
	if err := buildGo(t.Context(), "go", t.TempDir(), filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("building nothing succeeded")
	}
}
