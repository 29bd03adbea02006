package placement

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// A script in testdata is one situation: stanzas separated by empty lines, each
// some commands, then "----", then what they answer. What a stanza sets up stays
// for the next. Lines that begin with # are for readers. A command is words, the
// later ones NAME=VALUE:
//
//	machine instances=N max=N destroying=N queued=N maxqueue=N
//	container ID INSTANCE KEY… [idle=AGE]   a container; busy without idle=; its
//	                                        instance is full of it if not assigned before
//	busy ID, idle ID at=AGE, gone ID        what happens to it; answers true or false
//	warm INSTANCE CONFIG…                   a warm instance
//	decide KEY… CONFIG… [starting=N waiting=N function=USED/MAX accounts=USED/MAX]
//	stand KEY… CONFIG… [beside=CODE]        beside the code old, if not told
//	assign INSTANCE KEY… CONFIG… capacity=MB  an instance of the key's account
//	reserve INSTANCE KEY…, vacate INSTANCE KEY…, close INSTANCE
//	spare INSTANCE ID CONFIG…               a runtime waits on it; take INSTANCE ID
//	tenancy INSTANCE
//	times spare=AGE warm=AGE container=AGE instance=AGE
//	used ID times=N at=AGE                  so many executions ended then
//	expire timeout=AGE [most=AGE]
//	pool CONFIG… target=N ready=N starting=N claimed=N rest=AGE
//	refill instances=N boots=N
//
// KEY is fn= account= version= memory= tmp= code=; CONFIG is family= lang= tmp=.
// An AGE counts back from now, rest= forward.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld()
			for _, stanza := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				commands, want, _ := strings.Cut(stanza, "\n----\n")
				var got []string
				for _, line := range strings.Split(commands, "\n") {
					if strings.HasPrefix(line, "#") {
						continue
					}
					answer, err := w.obey(line)
					if err != nil {
						t.Fatalf("%s: %v", line, err)
					}
					if answer != "" {
						got = append(got, strings.TrimSuffix(answer, "\n"))
					}
				}
				if diff := cmp.Diff(strings.Split(strings.TrimSpace(want), "\n"), strings.Split(strings.Join(got, "\n"), "\n")); diff != "" {
					t.Errorf("%s\n(-want +got)\n%s", commands, diff)
				}
			}
		})
	}
}

// world is the situation a script has set up.
type world struct {
	now   time.Time
	cs    Containers
	snap  Snapshot
	pools []Supply
}

func newWorld() *world {
	w := &world{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.snap = Snapshot{Containers: &w.cs, Warm: map[Configuration][]Warm{}, MaxInstances: 4, MaxQueue: 2}
	return w
}

// options are the NAME=VALUE words of a command; the first that is wrong is
// kept.
type options struct {
	values map[string]string
	err    error
}

func parse(words []string) *options {
	o := &options{values: map[string]string{}}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok && o.err == nil {
			o.err = fmt.Errorf("%q is not NAME=VALUE", word)
		}
		o.values[name] = value
	}
	return o
}

func (o *options) text(name, standard string) string {
	if v, ok := o.values[name]; ok {
		return v
	}
	return standard
}

func (o *options) number(name string, standard int) int {
	n, err := strconv.Atoi(o.text(name, strconv.Itoa(standard)))
	if err != nil && o.err == nil {
		o.err = err
	}
	return n
}

func (o *options) age(name string) time.Duration {
	d, err := time.ParseDuration(o.text(name, "0s"))
	if err != nil && o.err == nil {
		o.err = err
	}
	return d
}

func (o *options) quota(name string) (q Quota) {
	text, ok := o.values[name]
	if !ok {
		return Quota{}
	}
	q.Bounded = true
	if _, err := fmt.Sscanf(text, "%d/%d", &q.InUse, &q.Max); err != nil && o.err == nil {
		o.err = err
	}
	return q
}

func (o *options) key() lambent.MatchKey {
	return lambent.MatchKey{Account: lambent.AccountID(o.text("account", "111111111111")), Function: lambent.FunctionName(o.text("fn", "hello")),
		Version: lambent.Version(o.text("version", "$LATEST")), Code: lambent.CodeHash(o.text("code", "code1")),
		Size: lambent.Size{MemoryMB: o.number("memory", 128), EphemeralMB: o.number("tmp", 512)}}
}

func (o *options) configuration() Configuration {
	return Configuration{Family: lambent.Family(o.text("family", "nodejs")), Version: o.text("lang", "22"), EphemeralMB: o.number("tmp", 512)}
}

func (w *world) obey(line string) (answer string, err error) {
	words := strings.Fields(line)
	args := 1
	for args < len(words) && !strings.Contains(words[args], "=") {
		args++
	}
	o := parse(words[args:])
	defer func() {
		if err == nil {
			err = o.err
		}
	}()
	switch command := words[0]; {
	case command == "machine":
		s := &w.snap
		s.Instances, s.MaxInstances = o.number("instances", s.Instances), o.number("max", s.MaxInstances)
		s.Destroying = o.number("destroying", s.Destroying)
		s.Queued, s.MaxQueue = o.number("queued", s.Queued), o.number("maxqueue", s.MaxQueue)
	case command == "container" && args == 3:
		id, instance := lambent.ContainerID(words[1]), lambent.InstanceID(words[2])
		if placed, free, _ := w.cs.Tenancy(instance); placed == 0 && free == 0 { // one of its own
			w.cs.Assign(instance, o.key().Account, o.configuration(), o.key().Size.MemoryMB)
			w.cs.Reserve(instance, o.key())
		}
		w.cs.Add(o.key(), instance, id)
		if _, idle := o.values["idle"]; idle {
			w.cs.Idle(id, w.now.Add(-o.age("idle")))
		}
	case command == "busy" && args == 2:
		return fmt.Sprint(w.cs.Busy(lambent.ContainerID(words[1]))), nil
	case command == "idle" && args == 2:
		return fmt.Sprint(w.cs.Idle(lambent.ContainerID(words[1]), w.now.Add(-o.age("at")))), nil
	case command == "gone" && args == 2:
		return fmt.Sprint(w.cs.Remove(lambent.ContainerID(words[1]))), nil
	case command == "warm" && args == 2:
		c, id := o.configuration(), words[1]
		w.snap.Warm[c] = append(w.snap.Warm[c], Warm{Instance: lambent.InstanceID(id), Container: lambent.ContainerID("c-of-" + id)})
	case command == "decide" && args == 1:
		return w.decide(o), nil
	case command == "stand" && args == 1:
		return describe(Stand(w.snap, Request{Key: o.key(), Configuration: o.configuration(), Beside: lambent.CodeHash(o.text("beside", "old"))})), nil
	case command == "assign" && args == 2:
		w.cs.Assign(lambent.InstanceID(words[1]), o.key().Account, o.configuration(), o.number("capacity", 1024))
	case command == "close" && args == 2:
		w.cs.Close(lambent.InstanceID(words[1]))
	case command == "reserve" && args == 2:
		w.cs.Reserve(lambent.InstanceID(words[1]), o.key())
	case command == "vacate" && args == 2:
		w.cs.Vacate(lambent.InstanceID(words[1]), o.key())
	case command == "spare" && args == 3:
		w.cs.AddSpare(lambent.InstanceID(words[1]), o.configuration(), lambent.ContainerID(words[2]))
	case command == "take" && args == 3:
		return fmt.Sprint(w.cs.TakeSpare(lambent.InstanceID(words[1]), lambent.ContainerID(words[2]))), nil
	case command == "tenancy" && args == 2:
		placed, free, spares := w.cs.Tenancy(lambent.InstanceID(words[1]))
		return fmt.Sprintf("%d placed, %d MB free, %d waiting", placed, free, spares), nil
	case command == "times" && args == 1:
		w.snap.Times = Times{Spare: o.age("spare"), Warm: o.age("warm"), Container: o.age("container"), Instance: o.age("instance")}
	case command == "used" && args == 2:
		for range o.number("times", 1) {
			id := lambent.ContainerID(words[1])
			w.cs.Busy(id)
			w.cs.Idle(id, w.now.Add(-o.age("at")))
		}
	case command == "expire" && args == 1:
		return w.expire(Keep{Base: o.age("timeout"), Most: o.age("most")}), nil
	case command == "pool" && args == 1:
		s := Supply{Configuration: o.configuration(), Target: o.number("target", 0), Ready: o.number("ready", 0),
			Starting: o.number("starting", 0), Claimed: o.number("claimed", 0)}
		if rest := o.age("rest"); rest != 0 {
			s.RestUntil = w.now.Add(rest)
		}
		w.pools = append(w.pools, s)
	case command == "refill" && args == 1:
		return w.refill(Room{Instances: o.number("instances", 0), Boots: o.number("boots", 0)}), nil
	default:
		return "", fmt.Errorf("no such command with %d names", args-1)
	}
	return "", nil
}

func (w *world) decide(o *options) string {
	p := Decide(w.snap, Request{Key: o.key(), Configuration: o.configuration(), Starting: o.number("starting", 0),
		Waiting: o.number("waiting", 0), Function: o.quota("function"), Account: o.quota("accounts")}, w.now)
	return describe(p)
}

func describe(p Plan) string {
	line := p.Action.String()
	for _, word := range []string{string(p.Container), string(p.Instance), string(p.Kind()), string(p.Throttle)} {
		if word != "" {
			line += " " + word
		}
	}
	if p.Evict != "" {
		line += ", evict " + string(p.Evict)
	}
	return line + "\n  " + p.Reason()
}

func (w *world) expire(keep Keep) string {
	expired, next := Expire(&w.cs, w.now, keep)
	var out strings.Builder
	for _, e := range expired {
		fmt.Fprintf(&out, "stop %s %s, idle %s\n", e.Instance, e.Container, e.Idle)
	}
	if next.IsZero() {
		out.WriteString("next: never")
	} else {
		fmt.Fprintf(&out, "next: in %s", next.Sub(w.now))
	}
	return out.String()
}

func (w *world) refill(room Room) string {
	boots, again := Refill(w.pools, room, w.now)
	var out strings.Builder
	for k, n := range boots {
		fmt.Fprintf(&out, "%s: %d\n", w.pools[k].Configuration, n)
	}
	if !again.IsZero() {
		fmt.Fprintf(&out, "again: in %s", again.Sub(w.now))
	}
	return out.String()
}
