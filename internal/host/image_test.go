package host

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/runtimeapi"
)

func TestImageIsStartedAsItAndTheFunctionSay(t *testing.T) {
	image := ImageRoot{EntryPoint: []string{"/entry", "a"}, Command: []string{"app.handler"}, WorkingDir: "/var/task"}
	for _, test := range []struct {
		name    string
		image   ImageRoot
		config  lambent.ImageConfig
		command []string
		dir     string
		user    runtimeapi.User
	}{
		{"as the image says", image, lambent.ImageConfig{}, []string{"/entry", "a", "app.handler"}, "/var/task", runtimeapi.User{UID: 993, GID: 990}},
		{"another command", image, lambent.ImageConfig{Command: []string{"x", "y"}}, []string{"/entry", "a", "x", "y"}, "/var/task", runtimeapi.User{UID: 993, GID: 990}},
		{"another entry point", image, lambent.ImageConfig{EntryPoint: []string{"/other"}}, []string{"/other", "app.handler"}, "/var/task", runtimeapi.User{UID: 993, GID: 990}},
		{"another folder", image, lambent.ImageConfig{WorkingDirectory: "/w/../v"}, []string{"/entry", "a", "app.handler"}, "/v", runtimeapi.User{UID: 993, GID: 990}},
		{"a user", ImageRoot{Command: []string{"c"}, UID: 5, GID: 6}, lambent.ImageConfig{}, []string{"c"}, "/", runtimeapi.User{UID: 5, GID: 6}},
		{"nothing to start", ImageRoot{}, lambent.ImageConfig{}, nil, "/", runtimeapi.User{UID: 993, GID: 990}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := runtimeapi.Assignment{User: &runtimeapi.User{UID: 993, GID: 990}, Bootstraps: []string{"/var/task/bootstrap"}}
			startImage(&a, &lambent.Function{ImageConfig: test.config}, &test.image)
			if diff := cmp.Diff(test.command, append([]string(nil), a.Command...)); diff != "" || a.TaskRoot != test.dir || *a.User != test.user {
				t.Errorf("in %s as %v:\n%s", a.TaskRoot, *a.User, diff)
			}
		})
	}
}

func TestImagesEnvironmentGivesWayToTheFunctionsAndLambdas(t *testing.T) {
	h := New(Options{Region: "eu-test-1"})
	fn := &lambent.Function{Account: "1", Name: "f", Version: lambent.Latest, MemoryMB: 128, Environment: map[string]string{"A": "function", "PATH": "/mine"}}
	env := h.imageEnvironment(fn, &ImageRoot{Env: []string{"A=image", "B=image", "AWS_REGION=image", "_HANDLER=image", "PATH=/image", "broken", "=x", "N=\x00"}}, "stream")
	for name, want := range map[string]string{"A": "function", "B": "image", "AWS_REGION": "eu-test-1", "PATH": "/mine", "HOME": "/tmp", "AWS_EXECUTION_ENV": "AWS_Lambda_Image", "AWS_LAMBDA_LOG_STREAM_NAME": "stream"} {
		if env[name] != want {
			t.Errorf("%s=%q, want %q", name, env[name], want)
		}
	}
	for _, name := range []string{"_HANDLER", "broken", "", "N"} {
		if _, there := env[name]; there {
			t.Errorf("%q is there", name)
		}
	}
}
