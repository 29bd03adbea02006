package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecurityAServerKeepsNoVariablesOfOthers(t *testing.T) {
	got := startingEnvironment([]string{"PATH=/bin", "AWS_SECRET_ACCESS_KEY=s", "LC_ALL=C", "LAMBENT_DATA=/d", "GITHUB_TOKEN=t", "PATHS=x", "=odd", "HOME=/h"})
	if diff := cmp.Diff([]string{"PATH=/bin", "LC_ALL=C", "LAMBENT_DATA=/d", "HOME=/h"}, got); diff != "" {
		t.Errorf("startingEnvironment (-want +got):\n%s", diff)
	}
	for _, pair := range os.Environ() { // put back when the test has ended
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			t.Setenv(name, value)
		}
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("LAMBENT_DATA", "/d")
	t.Setenv("LC_ALL", "C")
	if err := clearEnvironment(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "LAMBENT_DATA"} {
		if v, is := os.LookupEnv(name); is {
			t.Errorf("%s=%s is still there", name, v)
		}
	}
	if os.Getenv("LC_ALL") != "C" || os.Getenv("PATH") == "" {
		t.Error("a variable the server needs is gone")
	}
}
