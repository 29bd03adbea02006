package registry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// stands is a Stand that is told of, and ends when it is let.
type stands struct {
	asked chan string
	let   chan error

	mu  sync.Mutex
	now time.Time // of the registry
}

func (s *stands) stand(ctx context.Context, fn *lambent.Function, old ...*lambent.Function) error {
	text := name(fn) + " beside"
	for _, o := range old {
		text += " " + name(o)
	}
	s.asked <- text
	select {
	case err := <-s.let:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func name(fn *lambent.Function) string { return string(fn.Version) + "/" + string(fn.Code[:4]) }

func (s *stands) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *stands) pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// rolling is a registry whose rollouts are told of, with a function of the code
// "one", in a mode.
func rolling(t *testing.T, update *UpdateSettings) (*fixture, *stands) {
	s := &stands{asked: make(chan string, 10), let: make(chan error), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f := openWith(t, openNode(t, t.TempDir()), nil, func(o *Options) { o.Stand, o.Now = s.stand, s.time })
	f.created("hello", "one")
	if update != nil {
		must(0, f.SetPlatformSettings(t.Context(), account, "hello", &PlatformSettings{Update: update}))(t)
	}
	return f, s
}

// meant tells what calls by a name get: who, and who may stand in.
func (f *fixture) meant(qualifier string) string {
	f.t.Helper()
	fn, standIns, _, err := f.Route(account, "hello", qualifier, 0.99)
	if err != nil {
		f.t.Fatal(err)
	}
	text := name(fn)
	for _, s := range standIns {
		text += " or " + name(s)
	}
	return text
}

func (f *fixture) wantMeant(qualifier, want string) {
	f.t.Helper()
	if got := f.meant(qualifier); got != want {
		f.t.Errorf("calls by %q get %s, want %s", qualifier, got, want)
	}
}

func (s *stands) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.asked:
		if got != want {
			t.Errorf("stood %s, want %s", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("waited in vain for %s to stand", want)
	}
}

func (f *fixture) update(pkg string) *lambent.Function {
	f.t.Helper()
	return must(f.UpdateFunctionCode(f.t.Context(), account, "hello", "", nil, []byte(pkg), lambent.Unpublished))(f.t)
}

// wantDropped waits until nothing has a package any more, and it is dropped; others
// are not. The change that gives it up is told before it does.
func (f *fixture) wantDropped(pkg string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		dropped := must(f.Registry.code.dropUnused(f.t.Context(), time.Now().Add(24*365*time.Hour)))(f.t)
		switch {
		case len(dropped) == 1 && dropped[0] == hashOf([]byte(pkg)):
			return
		case len(dropped) > 0 || time.Now().After(end):
			f.t.Fatalf("dropped %v", dropped)
		}
	}
}

func versionOf(pkg string) string { return "$LATEST/" + string(hashOf([]byte(pkg))[:4]) }

func TestAnUpdateSettlesWhenANewContainerStands(t *testing.T) {
	f, s := rolling(t, nil)
	one, two := versionOf("one"), versionOf("two")
	f.wantMeant("", one)
	if fn := f.update("two"); fn.UpdateStatus != "InProgress" || fn.Previous == nil {
		t.Errorf("updated to %+v", fn)
	}
	s.want(t, two+" beside "+one)
	f.wantMeant("", two+" or "+one)
	f.wantMeant("$LATEST", two+" or "+one)
	f.Rollout(account, "hello", "") // which is under way
	s.let <- nil
	if fn := f.wait(); fn.UpdateStatus != "Successful" || fn.Previous != nil {
		t.Errorf("settled as %+v", fn)
	}
	f.wantMeant("", two)
	if code, err := f.code(hashOf([]byte("one"))); code != "one" || err != nil { // for those who still run it
		t.Errorf("%q, %v", code, err)
	}
	f.wantDropped("one")
	f.update("three")
	s.want(t, versionOf("three")+" beside "+two)
	s.let <- errors.New("no room") // is no failure of the update
	if fn := f.wait(); fn.UpdateStatus != "Successful" {
		t.Errorf("settled as %+v", fn)
	}
}

func TestAnUpdateThatCannotBeFetchedLeavesWhatWasThere(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error))
	f.create("hello", "one")
	f.prepare <- nil
	before := f.wait()
	f.update("two")
	f.prepare <- &lambent.Error{Op: "fetch", Kind: lambent.KindUnavailable, Message: "The store is down."}
	fn := f.wait()
	if fn.Code != before.Code || fn.State != "Active" || fn.UpdateStatus != "Failed" || fn.UpdateReasonCode != "InternalError" || !strings.Contains(fn.UpdateReason, "The store is down.") ||
		!strings.Contains(fn.UpdateReason, "keeps the code") || fn.Previous != nil || fn.Key() != before.Key() {
		t.Errorf("it is %+v", fn)
	}
	f.wantMeant("", versionOf("one"))
	f.wantDropped("two")
	f.update("two")
	f.prepare <- nil
	if fn := f.wait(); fn.Code != hashOf([]byte("two")) || fn.UpdateStatus != "Successful" || fn.UpdateReason != "" {
		t.Errorf("mended it is %+v", fn)
	}
	_ = must(f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error { fn.Handler = "other"; return nil }))(t)
	f.prepare <- errors.New("no")
	if fn := f.wait(); fn.Handler == "other" || fn.UpdateStatus != "Failed" {
		t.Errorf("a failed change of the configuration left %+v", fn)
	}
}

func TestNothingStandsInForAnotherConfiguration(t *testing.T) {
	f, _ := rolling(t, nil)
	changes := map[string]func(*lambent.Function){
		"role": func(fn *lambent.Function) { fn.Role += "x" }, "environment": func(fn *lambent.Function) { fn.Environment = nil }, "runtime": func(fn *lambent.Function) { fn.Runtime = "nodejs24.x" },
		"handler": func(fn *lambent.Function) { fn.Handler = "x" }, "memory": func(fn *lambent.Function) { fn.MemoryMB++ }, "tmp": func(fn *lambent.Function) { fn.EphemeralMB++ },
		"key": func(fn *lambent.Function) { fn.KMSKeyArn = "x" }, "log format": func(fn *lambent.Function) { fn.LoggingFormat = "JSON" },
	}
	for what, change := range changes {
		// Code and configuration at once, as nobody can ask for it: the machinery is right anyhow.
		fn := must(f.UpdateFunctionCode(t.Context(), account, "hello", "", change, []byte(what), lambent.Unpublished))(t)
		if _, standIns, _, err := f.Route(account, "hello", "", 0); len(standIns) != 0 || err != nil {
			t.Errorf("%s: %v may stand in, %v", what, standIns[0], err)
		}
		if got := f.wait(); got.Code != fn.Code {
			t.Errorf("%s: settled as %+v", what, got)
		}
	}
	a, b := spec("a"), spec("a")
	a.Code, b.Code, b.Layers = "1", "2", []lambent.Layer{{ARN: "x", Code: "y"}}
	a.ConfigHash, b.ConfigHash = a.HashConfig(), b.HashConfig()
	if a.CanStandIn(b) || a.CanStandIn(a) {
		t.Error("a layer makes no difference, or code stands in for itself")
	}
}

func TestLazilyARolloutBeginsWithTheFirstCall(t *testing.T) {
	f, s := rolling(t, &UpdateSettings{Mode: UpdateLazily})
	one, three := versionOf("one"), versionOf("three")
	for _, pkg := range []string{"two", "three"} { // of which the first is never called
		if fn := f.update(pkg); fn.UpdateStatus != "Successful" || fn.Previous.Code != hashOf([]byte("one")) {
			t.Errorf("updated to %+v", fn)
		}
	}
	f.wantMeant("", three+" or "+one)
	again := open(t, f.node, nil)
	if got := again.meant(""); got != three+" or "+one {
		t.Errorf("after a restart calls get %s", got)
	}
	f.Rollout(account, "hello", "")
	f.Rollout(account, "hello", "")
	s.want(t, three+" beside "+one)
	if n := len(s.asked); n != 0 {
		t.Errorf("%d more stand", n)
	}
	s.pass(DefaultMaxStaleness - 1)
	f.wantMeant("", three+" or "+one)
	s.pass(1)
	f.wantMeant("", three) // no longer may old code serve
	switched := f.until(func(c Change) bool { return c.After != nil && c.After.Previous == nil })
	s.let <- nil
	<-switched
	f.wantMeant("", three)
	f.Rollout(account, "hello", "") // there is none
	f.update("four")
	f.wantMeant("", versionOf("four")+" or "+three) // whose time begins anew
}

// What changes while it is rolled out is rolled out with the next call, and the
// time for which calls get old code goes on.
func TestQuickChangesEndAtTheLast(t *testing.T) {
	f, s := rolling(t, &UpdateSettings{Mode: UpdateLazily})
	one, two, three := versionOf("one"), versionOf("two"), versionOf("three")
	f.update("two")
	f.Rollout(account, "hello", "")
	s.want(t, two+" beside "+one)
	s.pass(DefaultMaxStaleness / 2)
	f.update("three")
	s.let <- nil // it switches nothing
	f.rolled("hello", "")
	f.wantMeant("", three+" or "+one)
	f.Rollout(account, "hello", "")
	s.want(t, three+" beside "+one)
	s.pass(DefaultMaxStaleness / 2)
	f.wantMeant("", three)
	switched := f.until(func(c Change) bool { return c.After != nil && c.After.Previous == nil })
	s.let <- nil
	<-switched
	f.update("one") // back to where it was: the same path
	f.wantMeant("", one+" or "+three)
	f.Rollout(account, "hello", "")
	s.want(t, one+" beside "+three)
	s.let <- nil
}

func TestAnAliasThatIsMovedIsRolledOutByItsFirstCall(t *testing.T) {
	f, s := rolling(t, nil)
	for _, pkg := range []string{"two", "three"} {
		f.freeze("hello")
		f.update(pkg)
		<-s.asked
		s.let <- nil
		f.wait()
	}
	f.freeze("hello")
	v := func(k int) string {
		return name(must(f.Function(account, "hello", string(rune('0'+k))))(t))
	}
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1"}))(t)
	f.wantMeant("live", v(1))
	move := func(a Alias) {
		must(f.UpdateAlias(t.Context(), account, "hello", "live", "", func(old *Alias) { old.Version, old.Additional, old.Weight = a.Version, a.Additional, a.Weight }))(t)
	}
	move(Alias{Version: "2"})
	f.wantMeant("live", v(2)+" or "+v(1))
	f.wantMeant("2", v(2)) // asked for as such
	f.Rollout(account, "hello", "live")
	s.want(t, v(2)+" beside "+v(1))
	move(Alias{Version: "3"})
	s.let <- nil
	f.rolled("hello", "live")
	f.wantMeant("live", v(3)+" or "+v(2)+" or "+v(1))
	f.Rollout(account, "hello", "live")
	s.want(t, v(3)+" beside "+v(2)+" "+v(1))
	cleared := make(chan struct{})
	once := sync.OnceFunc(func() { close(cleared) })
	f.Aliases.Subscribe(func(c ObjectChange[Alias]) {
		if len(c.Before.Before) > 0 && len(c.After.Before) == 0 {
			once()
		}
	})
	before := must(f.RevisionOf(account, "hello", "live"))(t)
	s.let <- nil
	<-cleared
	f.wantMeant("live", v(3))
	if got := must(f.RevisionOf(account, "hello", "live"))(t); got != before {
		t.Error("that the rollout has ended changed the alias's revision")
	}
	move(Alias{Version: "1", Additional: "2", Weight: 1}) // whom the weights mean is exact
	f.wantMeant("live", v(2))
	fn, standIns, _, err := f.Route(account, "hello", "live", 1)
	if err != nil || name(fn) != v(1) || len(standIns) != 1 || name(standIns[0]) != v(3) {
		t.Errorf("the main version: %v, %v, %v", fn, standIns, err)
	}
	move(Alias{Version: "$LATEST"})
	f.wantMeant("live", versionOf("three"))
}

func TestAnAliasWhoseVersionCannotBeFetchedIsTriedAgainAndBounded(t *testing.T) {
	s := &stands{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f := openWith(t, openNode(t, t.TempDir()), make(chan error), func(o *Options) { o.Now = s.time })
	f.create("hello", "one")
	f.prepare <- nil
	f.wait()
	f.freeze("hello")
	f.update("two")
	f.prepare <- nil
	f.wait()
	f.freeze("hello")
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1"}))(t)
	must(f.UpdateAlias(t.Context(), account, "hello", "live", "", func(a *Alias) { a.Version = "2" }))(t)
	attempt := func() {
		f.Rollout(account, "hello", "live")
		f.prepare <- errors.New("the store is down")
		f.rolled("hello", "live")
	}
	attempt()
	f.Rollout(account, "hello", "live") // too early: nobody asks for the result
	s.pass(rolloutRetryMin)
	attempt()
	if _, standIns, _, _ := f.Route(account, "hello", "live", 1); len(standIns) != 1 {
		t.Errorf("%d stand in after a failure", len(standIns))
	}
	s.pass(DefaultMaxStaleness)
	if fn, standIns, inPlace, _ := f.Route(account, "hello", "live", 1); len(standIns) != 0 || fn.Version != "2" || inPlace {
		t.Errorf("after its time %v stand in for %s, which is in place: %t", standIns, fn.Version, inPlace)
	}
	f.Rollout(account, "hello", "live") // goes on: it is not for ever
	f.prepare <- nil
	f.rolled("hello", "live")
	if _, _, inPlace, _ := f.Route(account, "hello", "live", 1); !inPlace {
		t.Error("it was brought up, and is not in place")
	}
	must(f.UpdateAlias(t.Context(), account, "hello", "live", "", func(a *Alias) { a.Version = "1" }))(t)
	if _, standIns, _, _ := f.Route(account, "hello", "live", 1); len(standIns) != 1 {
		t.Errorf("%d stand in after the next move, whose time begins anew", len(standIns))
	}
	must(0, f.DeleteFunction(t.Context(), account, "hello"))(t)
	f.rolloutMu.Lock()
	defer f.rolloutMu.Unlock()
	if len(f.rollouts) != 0 {
		t.Errorf("a function that is gone has rollouts %v", f.rollouts)
	}
}

func TestExactlyAndWithoutStalenessNothingStandsIn(t *testing.T) {
	none := time.Duration(0)
	for _, u := range []UpdateSettings{{Mode: UpdateExactly}, {MaxStaleness: &none}, {Mode: UpdateLazily, MaxStaleness: &none}} {
		f, _ := rolling(t, &u)
		f.update("two")
		f.wantMeant("", versionOf("two"))
	}
}

// What was put off and then may not be any more is rolled out by calls that get
// the new code, so that what was before does not stay for ever.
func TestCallsThatWaitRollOutToo(t *testing.T) {
	f, _ := rolling(t, &UpdateSettings{Mode: UpdateLazily})
	f.update("two")
	must(0, f.SetPlatformSettings(t.Context(), account, "hello", &PlatformSettings{Update: &UpdateSettings{Mode: UpdateExactly}}))(t)
	if fn, standIns, inPlace, err := f.Route(account, "hello", "", 1); fn.Code != hashOf([]byte("two")) || len(standIns) != 0 || inPlace || err != nil {
		t.Errorf("%+v, %v, in place: %t, %v", fn, standIns, inPlace, err)
	}
	switched := f.until(func(c Change) bool { return c.After != nil && c.After.Previous == nil })
	f.Rollout(account, "hello", "") // nothing is to stand: nobody asks
	<-switched
}

// A rollout that ends late does not meddle with the one that has begun since.
func TestARolloutThatWasForgottenEndsForItself(t *testing.T) {
	f, s := rolling(t, &UpdateSettings{Mode: UpdateLazily})
	f.update("two")
	f.Rollout(account, "hello", "")
	s.want(t, versionOf("two")+" beside "+versionOf("one"))
	key := rolloutKey{functionKey{account, "hello"}, ""}
	f.forgetRollout(key) // as when it was put in place by another way
	f.update("three")
	f.Rollout(account, "hello", "")
	s.want(t, versionOf("three")+" beside "+versionOf("one"))
	f.rolloutMu.Lock()
	second := f.rollouts[key]
	f.rolloutMu.Unlock()
	for range 2 { // in either order
		s.let <- nil
	}
	f.rolled("hello", "")
	f.rolloutMu.Lock()
	defer f.rolloutMu.Unlock()
	if ro := f.rollouts[key]; ro != nil && ro != second {
		t.Error("there is a third rollout")
	}
}

func TestSettingsAreReadStrictlyAndKept(t *testing.T) {
	for text, want := range map[string]string{
		`"lazy"`:                              `"lazy"`,
		`{"mode":"exact"}`:                    `"exact"`,
		`{}`:                                  `"eager"`,
		`{"max_staleness":"90s"}`:             `{"max_staleness":"1m30s"}`,
		`{"mode":"lazy","max_staleness":"0"}`: `{"mode":"lazy","max_staleness":"0s"}`,
		`"never"`:                             "!", `{"mode":1}`: "!", `{"max_staleness":"-1s"}`: "!", `{"max_staleness":"25h"}`: "!", `{"max_staleness":5}`: "!", `{"modus":"lazy"}`: "!", `[]`: "!", `7`: "!",
	} {
		var u UpdateSettings
		err := json.Unmarshal([]byte(text), &u)
		if (err != nil) != (want == "!") {
			t.Errorf("%s: %v", text, err)
		}
		if err != nil {
			continue
		}
		if got := string(must(json.Marshal(u))(t)); got != want {
			t.Errorf("%s is written as %s, want %s", text, got, want)
		}
	}
	f, _ := rolling(t, &UpdateSettings{Mode: UpdateLazily})
	again := open(t, f.node, nil)
	if got := must(again.PlatformSettings(account, "hello"))(t); got == nil || got.Update.Mode != UpdateLazily {
		t.Errorf("after a restart the settings are %+v", got)
	}
	must(0, again.SetPlatformSettings(t.Context(), account, "hello", nil))(t)
	if got := must(again.PlatformSettings(account, "hello"))(t); got != nil {
		t.Errorf("deleted they are %+v", got)
	}
	_, err := again.PlatformSettings(account, "nope")
	wantError(t, err, lambent.KindNotFound, "Function not found: "+again.arn(account, "nope", ""))
	if diff := cmp.Diff(true, lambent.KindOf(again.SetPlatformSettings(t.Context(), account, "nope", &PlatformSettings{})) == lambent.KindNotFound); diff != "" {
		t.Error("settings were given to nobody")
	}
}
