package api

import (
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/operations.md anew")

// tableOfOperations is the text of docs/operations.md.
func tableOfOperations() string {
	var b strings.Builder
	all, known, done := handlers(), remarks(), 0
	for _, op := range operations {
		if all[op.name] != nil {
			done++
		}
	}
	fmt.Fprintf(&b, `# The operations of the Lambda API

Written by a test from the tables the server itself goes by (internal/api/handlers.go): do not edit. Of the %d operations
of AWS's service model %d work. One that does not answers 501 NotImplementedException and names itself.

| operation | request | works | |
|---|---|---|---|
`, len(operations), done)
	for _, op := range operations {
		works := "no"
		if all[op.name] != nil {
			works = "yes"
		}
		path := op.path
		if op.query != "" {
			path += "?" + op.query
		}
		fmt.Fprintf(&b, "| %s | `%s %s` | %s | %s |\n", op.name, op.method, path, works, known[op.name])
	}
	return b.String()
}

func TestTableOfOperationsIsWhatTheServerGoesBy(t *testing.T) {
	const file = "../../docs/operations.md"
	want := tableOfOperations()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/operations.md is not up to date, %v: go test ./internal/api -run TestTableOfOperations -update", err)
	}
	named := map[string]bool{}
	for _, op := range operations {
		named[op.name] = true
	}
	for name, h := range handlers() {
		if h == nil || !named[name] {
			t.Errorf("%s: a handler of nothing", name)
		}
	}
	for name := range remarks() {
		if !named[name] {
			t.Errorf("%s: a remark on nothing", name)
		}
	}
}

// What the table says is held against what the server answers.
func TestOperationsThatWorkAnswerAndOthersSayThatTheyDoNot(t *testing.T) {
	d := newDoor(t)
	works := handlers()
	for _, op := range operations {
		path := strings.ReplaceAll(op.path, "{}", "x")
		if op.query != "" {
			path += "?" + op.query
		}
		rec := httptest.NewRecorder()
		d.ServeHTTP(rec, httptest.NewRequest(op.method, path, strings.NewReader("{}")))
		refused := rec.Code == 501 && strings.Contains(rec.Body.String(), "does not implement the operation "+op.name)
		if refused == (works[op.name] != nil) {
			t.Errorf("%s: has a handler: %t; answered %d %s", op.name, works[op.name] != nil, rec.Code, rec.Body)
		}
	}
}

func TestOperationsAreThoseOfTheModel(t *testing.T) {
	m, err := loadModel()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Operations) != 85 || len(operations) != 85 {
		t.Errorf("%d operations, the model has %d", len(operations), len(m.Operations))
	}
	label := regexp.MustCompile(`\{[^}]*\}`)
	for _, op := range operations {
		of, ok := m.Operations[op.name]
		path, query, _ := strings.Cut(of.Path, "?")
		if !ok || of.Method != op.method || label.ReplaceAllString(path, "{}") != op.path || query != op.query {
			t.Errorf("%+v is not the model's %+v", op, of)
		}
	}
}
