package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// The test binary stands in for two programs: with actAsInit it is lambent-init
// itself, with actAsBootstrap it is the user's bootstrap. So the tests drive real
// processes and need no compiler.
const (
	actAsInit      = "LAMBENT_TEST_INIT"
	actAsBootstrap = "LAMBENT_TEST_BOOTSTRAP"

	// quickRace keeps the race detector from sleeping when a process ends.
	quickRace = "GORACE=atexit_sleep_ms=0"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(actAsBootstrap); what != "" {
		if err := bootstrap(what); err != nil {
			fmt.Fprintln(os.Stderr, "bootstrap:", err)
			os.Exit(99)
		}
		os.Exit(0)
	}
	if os.Getenv(actAsInit) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// bootstrap is a runtime written by hand: it does what each event tells it to.
func bootstrap(what string) error {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	switch what {
	case "init error":
		return post(base+"init/error", `{"errorMessage":"no"}`, "Runtime.Broken")
	case "exit":
		os.Exit(3)
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	for count := 1; ; count++ {
		resp, err := http.Get(base + "invocation/next")
		if err != nil {
			return err
		}
		event, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		answer, failure := do(string(event), count)
		verb := "response"
		if failure != "" {
			verb = "error"
		}
		if err := post(base+"invocation/"+id+"/"+verb, answer, failure); err != nil {
			return err
		}
	}
}

func do(event string, count int) (answer, failure string) {
	switch event {
	case "fail":
		return `{"errorMessage":"failed"}`, "Function.Failed"
	case "exit":
		os.Exit(4)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "log":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "self":
		return describe(), ""
	case "credentials":
		return askCredentials()
	case "child":
		// A child in a session of its own, which nobody waits for.
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: false}
		if err := cmd.Start(); err != nil {
			return err.Error(), "Function.Failed"
		}
		return fmt.Sprint(cmd.Process.Pid), ""
	}
	return fmt.Sprintf("%d: %s", count, event), ""
}

// askCredentials asks for the function's credentials as AWS's SDKs do.
func askCredentials() (answer, failure string) {
	req, err := http.NewRequest("GET", os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), nil)
	if err != nil {
		return err.Error(), "Function.Failed"
	}
	req.Header.Set("Authorization", os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), "Function.Failed"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), "Function.Failed"
	}
	return string(body), ""
}

// describe tells what a process can see of itself.
func describe() string {
	var b bytes.Buffer
	dir, _ := os.Getwd()
	fmt.Fprintln(&b, "cwd", dir)
	env := os.Environ()
	sort.Strings(env)
	for _, e := range env {
		fmt.Fprintln(&b, "env", e)
	}
	for fd := range 4 {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			kind, _, _ := strings.Cut(target, ":")
			fmt.Fprintln(&b, "fd", fd, kind)
		}
	}
	fmt.Fprintln(&b, "leads its group", syscall.Getpgrp() == os.Getpid())
	return b.String()
}

func post(url, body, errorType string) error {
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if errorType != "" {
		req.Header.Set("Lambda-Runtime-Function-Error-Type", errorType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("post %s: %s", url, resp.Status)
	}
	return nil
}
