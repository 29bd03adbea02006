package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"lambent/conformance/lab"
)

// awsCommand is the aws command of the system, which is what users have, and not
// what another language's package manager put in front of it.
const awsCommand = "/usr/bin/aws"

// TestClients runs testdata/script: real clients, as people use them. Beside
// testscript's own commands there are
//
//	aws ARGS…           aws lambda ARGS… against the server
//	lambent ARGS…       the command under test; it must end with status 0
//	status N CMD ARGS…  as CMD, but it must end with status N
//	zip FILE NAME…      packs files of the working directory
//	gokit|nodekit|pykit FILE
//	decode stdout       decodes the last command's output from base64
func TestClients(t *testing.T) {
	t.Parallel()
	s, err := fix.server()
	if err != nil {
		t.Fatal(err)
	}
	js, err := installJS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kits, err := filepath.Abs(filepath.Join("testdata", "kit"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(kit func() ([]byte, error)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			pkg, err := kit()
			ts.Check(err)
			ts.Check(os.WriteFile(ts.MkAbs(args[0]), pkg, 0o644))
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("AWS_ENDPOINT_URL", s.URL)
			env.Setenv("AWS_ACCESS_KEY_ID", fix.accounts.Next())
			env.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
			env.Setenv("AWS_REGION", lab.Region)
			env.Setenv("AWS_DEFAULT_REGION", lab.Region)
			env.Setenv("AWS_PAGER", "")
			env.Setenv("JS", js)
			env.Setenv("KIT", kits)
			env.Setenv("GOCACHE", os.Getenv("GOCACHE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"aws":     awsLambda,
			"lambent": func(ts *testscript.TestScript, neg bool, args []string) { endsWith(ts, boolStatus(neg), fix.bin, args) },
			"status":  withStatus,
			"zip":     zipFiles,
			"decode":  decodeOutput,
			"gokit":   pack(fix.goKit),
			"nodekit": pack(fix.nodeKit),
			"pykit":   pack(fix.pyKit),
		},
	})
}

// anyFailure is the status of a command that must only not end with 0.
const anyFailure = -1

func boolStatus(neg bool) int {
	if neg {
		return anyFailure
	}
	return 0
}

// awsLambda runs the aws command. The endpoint is a flag as well as a variable,
// because versions before 2.13 do not read the variable.
func awsLambda(ts *testscript.TestScript, neg bool, args []string) {
	endsWith(ts, boolStatus(neg), awsCommand, append([]string{"--endpoint-url", ts.Getenv("AWS_ENDPOINT_URL"), "lambda"}, args...))
}

func withStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "lambent" {
		ts.Fatalf("usage: status N lambent ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	endsWith(ts, want, fix.bin, args[2:])
}

func endsWith(ts *testscript.TestScript, want int, command string, args []string) {
	err := ts.Exec(command, args...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", command, err)
	}
	if got != want && (want != anyFailure || got == 0) {
		ts.Fatalf("%s %q ended with status %d, want %d", filepath.Base(command), args, got, want)
	}
}

func zipFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: zip FILE NAME…")
	}
	files := map[string]string{}
	for _, name := range args[1:] {
		files[name] = ts.ReadFile(name)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), lab.Files(files), 0o644))
}

func decodeOutput(ts *testscript.TestScript, neg bool, args []string) {
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(ts.ReadFile("stdout")))
	ts.Check(err)
	_, err = ts.Stdout().Write(text)
	ts.Check(err)
}

// installJS puts the AWS SDK for JavaScript, in the versions of the lock file,
// into a folder of the user's cache and returns a folder with the programs of
// testdata/js beside it.
func installJS(ctx context.Context) (string, error) {
	source := filepath.Join("testdata", "js")
	h := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", "cycle.mjs", "stream.mjs"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for npm's packages: %w", err)
	}
	dir := filepath.Join(cache, "lambent-conformance", hex.EncodeToString(h.Sum(nil)[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := os.CopyFS(tmp, os.DirFS(source)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		if _, there := os.Stat(dir); there != nil { // another run was faster
			return "", err
		}
	}
	return dir, nil
}
