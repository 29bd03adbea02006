package conformance

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lambent/conformance/lab"
)

// goBootstrap is the Go kit's program.
func goBootstrap(t *testing.T) []byte {
	t.Helper()
	pkg := golang(t).zip
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Open("bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// imageInput is the request that creates a function of an image.
func imageInput(c *lab.Caller, name, uri string, config *types.ImageConfig) *lambda.CreateFunctionInput {
	return &lambda.CreateFunctionInput{FunctionName: &name, PackageType: types.PackageTypeImage, Role: c.Role(), Code: &types.FunctionCode{ImageUri: &uri}, Timeout: aws.Int32(10), ImageConfig: config}
}

func createImage(t *testing.T, c *lab.Caller, name, uri string, config *types.ImageConfig) *lambda.CreateFunctionOutput {
	t.Helper()
	out, err := c.CreateFunction(t.Context(), imageInput(c, name, uri, config))
	if err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, name)
	return out
}

func TestImageOfARegistryRuns(t *testing.T) {
	t.Parallel()
	registry := lab.NewRegistry(t)
	s := newServer(t, "--images-registries", registry.Host)
	c := s.Caller(t, fix.accounts.Next())
	// As scratch images of Go functions are: one program and nothing else.
	img := lab.Image(t, v1.Config{Entrypoint: []string{"/main"}, Cmd: []string{"from the image"}, Env: []string{"OF_IMAGE=1", "BOTH=image", "AWS_REGION=wrong"}, WorkingDir: "/work"},
		lab.Layer(t, lab.Entry{Name: "main", Mode: 0o755, Data: goBootstrap(t)}, lab.Entry{Name: "work/"}))
	uri := registry.Push(t, img, "team/app:v1")
	in := imageInput(c, "go", uri, nil)
	in.Environment = &types.Environment{Variables: map[string]string{"OF_FUNCTION": "2", "BOTH": "function"}}
	created, err := c.CreateFunction(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if created.PackageType != types.PackageTypeImage || aws.ToString(created.CodeSha256) != digest.Hex || created.Runtime != "" || created.Handler != nil || created.State != types.StatePending {
		t.Errorf("created %+v", created)
	}
	c.AwaitActive(t, "go")
	got, err := c.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("go")})
	if err != nil {
		t.Fatal(err)
	}
	if code := got.Code; aws.ToString(code.RepositoryType) != "ECR" || aws.ToString(code.ImageUri) != uri || aws.ToString(code.ResolvedImageUri) != registry.Host+"/team/app@"+digest.String() || code.Location != nil {
		t.Errorf("code %+v", code)
	}
	env, a := lab.Do[map[string]string](t, c, "go", op{"op": "env"})
	if kind, reason := a.Header.Get("X-Lambent-Start-Kind"), a.Header.Get("X-Lambent-Start-Reason"); kind != "on_demand" {
		t.Errorf("started as %s: %s", kind, reason)
	}
	for name, want := range map[string]string{"OF_IMAGE": "1", "OF_FUNCTION": "2", "BOTH": "function", "AWS_REGION": lab.Region, "AWS_EXECUTION_ENV": "AWS_Lambda_Image", "AWS_LAMBDA_FUNCTION_NAME": "go", "HOME": "/tmp"} {
		if env[name] != want {
			t.Errorf("%s=%q, want %q", name, env[name], want)
		}
	}
	if env["_HANDLER"] != "" {
		t.Errorf("_HANDLER=%q", env["_HANDLER"])
	}
	if _, again := lab.Do[any](t, c, "go", op{"op": "echo", "value": 1}); again.Header.Get("X-Lambent-Start-Kind") != "container_reuse" {
		t.Errorf("the second call started as %s", again.Header.Get("X-Lambent-Start-Kind"))
	}

	// Another image is another function; the tag moves, the function does not.
	second := lab.Image(t, v1.Config{Entrypoint: []string{"/main"}, Env: []string{"OF_IMAGE=second"}}, lab.Layer(t, lab.Entry{Name: "main", Mode: 0o755, Data: goBootstrap(t)}))
	registry.Push(t, second, "team/app:v1")
	if env, _ := lab.Do[map[string]string](t, c, "go", op{"op": "env"}); env["OF_IMAGE"] != "1" {
		t.Errorf("after the tag moved: OF_IMAGE=%q", env["OF_IMAGE"])
	}
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("go"), ImageUri: &uri}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "go")
	if env, _ := lab.Do[map[string]string](t, c, "go", op{"op": "env"}); env["OF_IMAGE"] != "second" {
		t.Errorf("after the update: OF_IMAGE=%q", env["OF_IMAGE"])
	}

	// What cannot be.
	_, err = c.CreateFunction(t.Context(), imageInput(c, "none", registry.Host+"/team/app:none", nil))
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "Source image "+registry.Host+"/team/app:none does not exist. Provide a valid source image.")
	_, err = c.CreateFunction(t.Context(), imageInput(c, "none", "registry.example/x:v1", nil))
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "This server's setting images.registries does not name registry.example, so registry.example/x:v1 cannot be taken from there.")
	_, err = c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("go"), ZipFile: golang(t).zip})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "Please provide ImageUri when updating a function with packageType Image.")
	c.Create(t, golang(t).function("zip"))
	_, err = c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("zip"), ImageUri: &uri})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "Please don't provide ImageUri when updating a function with packageType Zip.")
}

// nodeImage is an image in the manner of AWS's base images: a shell script for
// an entry point, which starts the bootstrap in /var/runtime with the handler for
// an argument; that is a client of the Runtime API over HTTP.
func nodeImage(t *testing.T) v1.Image {
	t.Helper()
	node, err := exec.LookPath("/usr/bin/node")
	if err != nil {
		t.Skip("there is no /usr/bin/node to make an image of")
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	programs := append(lab.Program(t, node), lab.Program(t, shell)...)
	programs = append(programs, lab.Program(t, "/usr/bin/id")...)
	base := lab.Layer(t, append(programs, lab.Entry{Name: "bin/sh", Mode: fs.ModeSymlink, Data: []byte(shell)})...)
	runtime := lab.Layer(t,
		lab.Entry{Name: "lambda-entrypoint.sh", Mode: 0o755, Data: []byte(`#!/bin/sh
if [ $# -ne 1 ]; then
  echo "entrypoint requires the handler name to be the first argument" 1>&2
  exit 142
fi
export _HANDLER="$1"
if [ -z "${AWS_LAMBDA_RUNTIME_API}" ]; then
  echo "there is no emulator here" 1>&2
  exit 1
fi
exec /var/runtime/bootstrap
`)},
		lab.Entry{Name: "var/runtime/bootstrap", Mode: 0o755, Data: []byte("#!/bin/sh\nexec /usr/bin/node /var/runtime/client.js\n")},
		lab.Entry{Name: "var/runtime/client.js", Data: []byte(`
			const http = require('http');
			const [module_, name] = process.env._HANDLER.split('.');
			const handler = require(process.env.LAMBDA_TASK_ROOT + '/' + module_ + '.js')[name];
			const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
			const ask = (method, path, body) => new Promise((resolve, reject) => {
				const r = http.request({ host, port, method, path: '/2018-06-01/runtime' + path }, (res) => {
					const parts = []; res.on('data', (p) => parts.push(p)); res.on('end', () => resolve({ headers: res.headers, body: Buffer.concat(parts).toString() }));
				});
				r.on('error', reject); r.end(body);
			});
			(async () => {
				for (;;) {
					const next = await ask('GET', '/invocation/next');
					const id = next.headers['lambda-runtime-aws-request-id'];
					try {
						await ask('POST', '/invocation/' + id + '/response', JSON.stringify(await handler(JSON.parse(next.body || 'null'))));
					} catch (e) {
						await ask('POST', '/invocation/' + id + '/error', JSON.stringify({ errorType: e.name, errorMessage: e.message }));
					}
				}
			})();`)})
	task := lab.Layer(t, lab.Entry{Name: "var/task/app.js", Data: []byte(`
		const fs = require('fs'), { execFileSync } = require('child_process');
		const attempt = (f) => { try { return String(f()); } catch (e) { return e.code || e.message; } };
		exports.handler = async (event) => ({
			event, who: execFileSync('/usr/bin/id', ['-u']).toString().trim(), cwd: process.cwd(), handler: process.env._HANDLER,
			writeRoot: attempt(() => fs.writeFileSync('/var/task/x', 'x')), writeTmp: attempt(() => { fs.writeFileSync('/tmp/x', 'x'); return fs.readFileSync('/tmp/x'); }),
			etc: attempt(() => fs.readFileSync('/etc/hosts')).includes('localhost'), host: attempt(() => fs.existsSync('/usr/share')),
		});
		exports.fail = async () => { throw new RangeError('as asked'); };`)},
		lab.Entry{Name: "etc/passwd", Data: []byte("root:x:0:0::/:/bin/sh\napp:x:1500:1500::/:/bin/sh\n")})
	return lab.Image(t, v1.Config{Entrypoint: []string{"/lambda-entrypoint.sh"}, Cmd: []string{"app.handler"}, WorkingDir: "/var/task",
		Env: []string{"PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime", "TZ=:UTC"}}, base, runtime, task)
}

func TestImageInTheMannerOfAWSBaseImagesRuns(t *testing.T) {
	t.Parallel()
	layouts := t.TempDir()
	img := nodeImage(t)
	uri := lab.SaveLayout(t, img, filepath.Join(layouts, "node"), "v1")
	s := newServer(t, "--images-layouts", layouts)
	c := s.Caller(t, fix.accounts.Next())
	createImage(t, c, "node", uri, nil)
	type seen struct {
		Event, Who, Cwd, Handler, WriteRoot, WriteTmp string
		Etc                                           bool
		Host                                          string
	}
	want := seen{"hello", "993", "/var/task", "app.handler", "EACCES", "x", true, "false"}
	got, _ := lab.Do[seen](t, c, "node", "hello")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// ImageConfig: another command, another folder, another entry point.
	out, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("node"), ImageConfig: &types.ImageConfig{Command: []string{"app.fail"}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := out.ImageConfigResponse; r == nil || r.ImageConfig == nil || len(r.ImageConfig.Command) != 1 {
		t.Errorf("ImageConfigResponse %+v", r)
	}
	c.AwaitActive(t, "node")
	if e, _ := c.Fail(t, "node", "x"); e.Type != "RangeError" || e.Message != "as asked" {
		t.Errorf("the other handler: %+v", e)
	}
	for _, test := range []struct {
		config *types.ImageConfig
		kind   string
		part   string
	}{
		{&types.ImageConfig{EntryPoint: []string{"/none"}}, "Runtime.InvalidEntrypoint", "fork/exec /none: no such file or directory"},
		{&types.ImageConfig{EntryPoint: []string{"none"}}, "Runtime.InvalidEntrypoint", `exec: "none": executable file not found in $PATH`},
		{&types.ImageConfig{WorkingDirectory: aws.String("/none")}, "Runtime.InvalidWorkingDir", "chdir /none: no such file or directory"},
		{&types.ImageConfig{Command: []string{"a", "b"}}, "Runtime.ExitError", "exit status 142"},
	} {
		name := strings.ReplaceAll(test.kind, ".", "-") + fmt.Sprint(len(test.part))
		createImage(t, c, name, uri, test.config)
		if e, _ := c.Fail(t, name, "x"); e.Type != test.kind || !strings.Contains(e.Message, test.part) {
			t.Errorf("%+v: %+v", test.config, e)
		}
	}
	// A user that the image names is whom it runs as.
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := cf.DeepCopy().Config
	config.User = "app"
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	own := lab.Image(t, config, layers...)
	createImage(t, c, "user", lab.SaveLayout(t, own, filepath.Join(layouts, "node"), "user"), nil)
	if got, _ := lab.Do[seen](t, c, "user", "hello"); got.Who != "1500" {
		t.Errorf("USER app runs as %s", got.Who)
	}
	// The server has the images: they run without their layout, also after a
	// restart.
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(layouts, "node")); err != nil {
		t.Fatal(err)
	}
	c = lab.Run(t, lab.Config{Bin: fix.bin, Data: s.Data, Flags: s.Flags}).Caller(t, c.Account)
	if got, _ := lab.Do[seen](t, c, "user", "again"); got.Event != "again" || got.Who != "1500" {
		t.Errorf("after a restart without the layout: %+v", got)
	}
}

// P09 of images: the old one serves until the new one stands ready.
func TestNoCallWaitsForAnotherImage(t *testing.T) {
	t.Parallel()
	registry := lab.NewRegistry(t)
	c := newServer(t, "--images-registries", registry.Host).Caller(t, fix.accounts.Next())
	base := lab.Layer(t, lab.Entry{Name: "main", Mode: 0o755, Data: goBootstrap(t)})
	with := func(env string, layers ...v1.Layer) string {
		return registry.Push(t, lab.Image(t, v1.Config{Entrypoint: []string{"/main"}, Env: []string{"OF_IMAGE=" + env}}, append([]v1.Layer{base}, layers...)...), "app:"+env)
	}
	createImage(t, c, "app", with("one"), nil)
	type vars = map[string]string
	lab.Do[vars](t, c, "app", op{"op": "env"})
	slow := lab.Layer(t, lab.Entry{Name: "slow", Data: []byte("x")})
	letGo := registry.HoldLayer(t, slow)
	two := with("two", slow)
	updated, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("app"), ImageUri: &two})
	if err != nil || updated.LastUpdateStatus != types.LastUpdateStatusInProgress {
		t.Fatalf("%+v, %v", updated, err)
	}
	for range 3 {
		got, a := lab.Do[vars](t, c, "app", op{"op": "env"})
		if got["OF_IMAGE"] != "one" || a.Header.Get("X-Lambent-Start-Kind") != "container_reuse" || !strings.Contains(a.Header.Get("X-Lambent-Reason"), "stood in") {
			t.Errorf("while the image is pulled: %s, %s", got["OF_IMAGE"], a.Header.Get("X-Lambent-Reason"))
		}
	}
	letGo()
	c.AwaitActive(t, "app")
	if got, a := lab.Do[vars](t, c, "app", op{"op": "env"}); got["OF_IMAGE"] != "two" || a.Header.Get("X-Lambent-Start-Kind") != "container_reuse" {
		t.Errorf("after the update: %s, %s: %s", got["OF_IMAGE"], a.Header.Get("X-Lambent-Start-Kind"), a.Header.Get("X-Lambent-Reason"))
	}
}

// Killed while it unpacks an image, a server runs nothing of what is half there.
func TestKilledServerRunsNoHalfImage(t *testing.T) {
	t.Parallel()
	registry := lab.NewRegistry(t)
	s := newServer(t, "--images-registries", registry.Host)
	c := s.Caller(t, fix.accounts.Next())
	slow := lab.Layer(t, lab.Entry{Name: "main", Mode: 0o755, Data: goBootstrap(t)})
	letGo := registry.HoldLayer(t, slow)
	uri := registry.Push(t, lab.Image(t, v1.Config{Entrypoint: []string{"/main"}}, lab.Layer(t, lab.Entry{Name: "main", Mode: 0o755, Data: []byte("#!/none")}), slow), "app:v1")
	if _, err := c.CreateFunction(t.Context(), imageInput(c, "app", uri, nil)); err != nil {
		t.Fatal(err)
	}
	half := func() []string {
		found, err := filepath.Glob(filepath.Join(s.Data, "images", "*", ".part-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	lab.Eventually(t, "wait for a layer to be half there", func() error {
		whole, err := filepath.Glob(filepath.Join(s.Data, "images", "layers", "[0-9a-f]*"))
		if len(whole) != 1 || len(half()) == 0 {
			return fmt.Errorf("%q are whole, %q half: %v", whole, half(), err)
		}
		return nil
	})
	s.Kill()
	if len(half()) == 0 {
		t.Fatal("nothing was half there")
	}
	letGo()
	c = lab.Run(t, lab.Config{Bin: fix.bin, Data: s.Data, Flags: s.Flags}).Caller(t, c.Account)
	c.AwaitActive(t, "app")
	if got, _ := lab.Do[string](t, c, "app", op{"op": "echo", "value": "x"}); got != "x" {
		t.Errorf("%q", got)
	}
	if left := half(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
