package lambent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// The tests in this file and in floors_test.go are about the repository itself:
// they read its source.

// source is the parsed source of one package.
type source struct {
	path  string // import path: "lambent/internal/host"
	name  string
	files []sourceFile
}

type sourceFile struct {
	name  string // below the repository's root
	test  bool
	lines int
	ast   *ast.File
}

// imports lists what the files import; sorted, once each.
func (s *source) imports(tests bool) []string {
	var all []string
	for _, f := range s.files {
		if f.test != tests {
			continue
		}
		for _, i := range f.ast.Imports {
			all = append(all, strings.Trim(i.Path.Value, `"`))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// packages parses all Go source of this module, for whatever system it is.
func packages(t *testing.T) []*source {
	t.Helper()
	found := map[string]*source{}
	fset := token.NewFileSet()
	root := os.DirFS(".")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules" || name == "bin") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir // another module
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		p := path.Join("lambent", path.Dir(name))
		if found[p] == nil {
			found[p] = &source{path: p}
		}
		s := found[p]
		f := sourceFile{name: name, test: strings.HasSuffix(name, "_test.go"), lines: strings.Count(string(text), "\n"), ast: parsed}
		if !f.test {
			s.name = parsed.Name.Name
		}
		s.files = append(s.files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []*source
	for _, s := range found {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *source) int { return strings.Compare(a.path, b.path) })
	return all
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		docs := 0
		for _, f := range p.files {
			if f.ast.Doc == nil || f.test {
				continue
			}
			docs++
			want := "Package " + p.name + " "
			if p.name == "main" {
				want = "Command "
			}
			if text := f.ast.Doc.Text(); !strings.HasPrefix(text, want) {
				t.Errorf("%s: its package comment begins with %.30q, not with %q", f.name, text, want)
			}
		}
		if docs != 1 && p.name != "" {
			t.Errorf("%s has %d package comments; it needs exactly one", p.path, docs)
		}
	}
}

func TestNothingHappensOnImportAndOnlyMainExits(t *testing.T) {
	exits := map[string][]string{
		"os":  {"Exit"},
		"log": {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println", "SetOutput", "SetFlags"},
	}
	// The mains of what runs as gVisor, and as a judge, are there.
	mains := []string{"internal/sandbox/gvisor/runsc/main.go", "internal/judge/main.go"}
	for _, p := range packages(t) {
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil {
					t.Errorf("%s has an init function: what happens at start is wired in main", f.name)
				}
			}
			if p.name == "main" || slices.Contains(mains, f.name) {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && importsAs(f.ast, x.Name) && slices.Contains(exits[x.Name], sel.Sel.Name) {
					t.Errorf("%s uses %s.%s: only main ends the process, and there is no global logger", f.name, x.Name, sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// importsAs reports whether the file imports a package of the standard library
// by this name; a variable may be called log, too.
func importsAs(f *ast.File, name string) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Name == nil && i.Path.Value == `"`+name+`"` })
}

func TestFilesStayReadable(t *testing.T) {
	const most = 600
	for _, p := range packages(t) {
		for _, f := range p.files {
			if f.lines > most {
				t.Errorf("%s has %d lines, more than %d: one operation per file", f.name, f.lines, most)
			}
		}
	}
}

func TestEveryDependencyHasItsReasonInTheRationale(t *testing.T) {
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	rationale, err := os.ReadFile("RATIONALE.md")
	if err != nil {
		t.Fatal(err)
	}
	modules, tools := requirements(string(gomod))
	moduleOf := func(imported string) string {
		best := ""
		for _, m := range modules {
			if (imported == m || strings.HasPrefix(imported, m+"/")) && len(m) > len(best) {
				best = m
			}
		}
		return best
	}
	users := map[string]string{} // module → one of those that import it
	for _, p := range packages(t) {
		for _, i := range slices.Concat(p.imports(false), p.imports(true)) {
			if m := moduleOf(i); m != "" {
				users[m] = p.path
			}
		}
	}
	for _, tool := range tools {
		users[moduleOf(tool)] = "a tool of go.mod"
	}
	for m, user := range users {
		if !strings.Contains(string(rationale), "`"+m+"`") {
			t.Errorf("RATIONALE.md has no line for `%s`, which is used by %s", m, user)
		}
	}
}

// requirements reads the modules and tools of a go.mod file.
func requirements(gomod string) (modules, tools []string) {
	block := ""
	for line := range strings.Lines(gomod) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == ")":
			block = ""
		case len(fields) == 2 && fields[1] == "(":
			block = fields[0]
		case fields[0] == "require" && len(fields) > 2:
			modules = append(modules, fields[1])
		case fields[0] == "tool" && len(fields) > 1:
			tools = append(tools, fields[1])
		case block == "require":
			modules = append(modules, fields[0])
		case block == "tool":
			tools = append(tools, fields[0])
		}
	}
	return modules, tools
}
