package fake_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
	"lambent/internal/sandbox/sandboxtest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	programs := map[string]fake.Program{
		behaviourPath(sandboxtest.Cat):    cat,
		behaviourPath(sandboxtest.Exit):   exit,
		behaviourPath(sandboxtest.Signal): signal,
		behaviourPath(sandboxtest.Sleep):  sleep,
		behaviourPath(sandboxtest.Report): report,
		behaviourPath(sandboxtest.Serve):  serve,
	}
	newDriver := func(*testing.T) sandbox.Driver { return fake.New(fake.Options{Programs: programs}) }
	sandboxtest.Run(t, newDriver, sandboxtest.Options{
		Command: func(b sandboxtest.Behaviour, args ...string) sandbox.Command {
			return sandbox.Command{Path: behaviourPath(b), Args: append([]string{string(b)}, args...), Dir: "/",
				UID: sandbox.UserID, GID: sandbox.GroupID}
		},
		Kill: func(t *testing.T, d sandbox.Driver, i sandbox.Instance) {
			if err := d.(*fake.Driver).Kill(i.ID(), nil); err != nil {
				t.Fatal(err)
			}
		},
		Left: func(_ *testing.T, d sandbox.Driver) string {
			if left := d.(*fake.Driver).Alive(); left != (fake.Alive{}) {
				return fmt.Sprintf("%+v", left)
			}
			return ""
		},
	})
}

func behaviourPath(b sandboxtest.Behaviour) string { return "/suite/" + string(b) }

func cat(_ context.Context, g *fake.Guest) int {
	if _, err := io.Copy(g.Files[1], g.Files[0]); err != nil {
		return 1
	}
	fmt.Fprintln(g.Files[2], "done")
	return 0
}

func exit(_ context.Context, g *fake.Guest) int {
	code, _ := strconv.Atoi(g.Args[1])
	return code
}

func signal(_ context.Context, g *fake.Guest) int {
	n, _ := strconv.Atoi(g.Args[1])
	return g.Raise(n)
}

func report(_ context.Context, g *fake.Guest) int {
	out := bufio.NewWriter(g.Files[1])
	fmt.Fprintf(out, "uid=%d\ngid=%d\ngroups=%d\ncaps=%016x\ndir=%s\n", g.UID, g.GID, g.GID, 0, g.Dir)
	for _, a := range g.Args[1:] {
		fmt.Fprintf(out, "arg=%s\n", a)
	}
	for _, e := range g.Env {
		fmt.Fprintf(out, "env=%s\n", e)
	}
	if err := out.Flush(); err != nil {
		return 1
	}
	return 0
}

func serve(ctx context.Context, g *fake.Guest) int {
	in := bufio.NewScanner(g.Files[3])
	for in.Scan() {
		words := strings.Fields(in.Text())
		if words[0] == "exit" {
			code, _ := strconv.Atoi(words[1])
			return code
		}
		text, err := obey(g, words)
		if err != nil {
			fmt.Fprintf(g.Files[3], "err %v\n", err)
		} else {
			fmt.Fprintf(g.Files[3], "ok %s\n", text)
		}
	}
	return 0
}

func obey(g *fake.Guest, words []string) (string, error) {
	switch words[0] {
	case "echo":
		return words[1], nil
	case "read":
		data, err := g.ReadFile(words[1])
		return strings.TrimSpace(string(data)), err
	case "write":
		return "", g.WriteFile(words[1], []byte(words[2]+"\n"))
	case "fill":
		n, err := strconv.Atoi(words[2])
		if err != nil {
			return "", err
		}
		return "", g.WriteFile(words[1], make([]byte, n<<20))
	case "spin", "breed", "defy": // a fake has but one process, which answers
		return "", nil
	case "hold":
		n, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return "", err
		}
		g.UseMemory(n << 20)
		return "", nil
	case "eat":
		n, err := strconv.ParseInt(words[1], 10, 64)
		if err != nil {
			return "", err
		}
		g.UseMemory(n << 20)
		g.UseMemory(-n << 20)
		return "", nil
	}
	return "", errors.Join(errors.New("no such command"), syscall.ENOSYS)
}
