package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"lambent"
)

func newGuard(t *testing.T, o Options) *Guard {
	t.Helper()
	o.Setting = "destinations.allow"
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAddressesAreAllowedByWhatNamesThem(t *testing.T) {
	for _, tc := range []struct {
		allow   string
		near    bool
		address string // as it is dialled
		named   string // what was named; "": the address
		want    bool
	}{
		{"", false, "1.1.1.1:80", "", true},
		{"", false, "[2606:4700:4700::1111]:443", "example.com", true},
		{"", false, "127.0.0.1:80", "", false},
		{"", false, "10.0.0.1:80", "", false},
		{"", true, "127.0.0.1:80", "", true},
		{"", true, "[::1]:80", "", true},
		{"", true, "192.168.1.1:80", "", true},
		{"", true, "[fd00::1]:80", "", true},
		{"", true, "100.64.0.1:80", "", false},
		{"", true, "169.254.169.254:80", "", false},
		{"", true, "[fe80::1]:80", "", false},
		{"", true, "0.0.0.0:80", "", false},
		{"", true, "[::]:80", "", false},
		{"", true, "224.0.0.1:80", "", false},
		{"127.0.0.1", false, "127.0.0.1:80", "", true},
		{"127.0.0.1", false, "127.0.0.2:80", "", false},
		{"127.0.0.1:80", false, "127.0.0.1:80", "", true},
		{"127.0.0.1:80", false, "127.0.0.1:81", "", false},
		{"10.0.0.0/8", false, "10.9.9.9:80", "db.lan", true},
		{"10.0.0.0/8", false, "11.9.9.9:80", "db.lan", true}, // the Internet's
		{"10.0.0.0/8", false, "192.168.0.1:80", "db.lan", false},
		{"db.lan", false, "10.9.9.9:80", "db.lan", true},
		{"DB.lan:80", false, "10.9.9.9:80", "Db.LAN", true},
		{"db.lan:81", false, "10.9.9.9:80", "db.lan", false},
		{"db.lan", false, "169.254.169.254:80", "db.lan", false},
		{"*", false, "127.0.0.1:80", "any", true},
		{"*", false, "169.254.169.254:80", "any", false},
		{"0.0.0.0/0", false, "10.0.0.1:80", "", true},
		{"0.0.0.0/0", false, "169.254.169.254:80", "", false},
		{"169.254.0.0/16", false, "169.254.169.254:80", "", true},
		{"169.254.169.254", false, "169.254.169.254:80", "x", true},
		{"169.254.169.254:80", false, "169.254.169.254:80", "x", true},
		{"::/0", false, "[fe80::1]:80", "", false},
		{"fe80::/10", false, "[fe80::1]:80", "", true},
		{"*", true, "127.0.0.1:4566", "", false},
		{"127.0.0.1", true, "127.0.0.1:4566", "", false},
		{"127.0.0.1:4566", false, "127.0.0.1:4566", "", true},
	} {
		var allow []string
		if tc.allow != "" {
			allow = []string{tc.allow}
		}
		g := newGuard(t, Options{Allow: allow, Near: tc.near})
		if err := g.Own("127.0.0.1:4566"); err != nil {
			t.Fatal(err)
		}
		at := netip.MustParseAddrPort(tc.address)
		host := tc.named
		if host == "" {
			host = at.Addr().String()
		}
		_, port, _ := net.SplitHostPort(tc.address)
		if err := g.check(at, g.isNamed(host, port)); (err == nil) != tc.want {
			t.Errorf("%q, near %v: %s (%s): %v", tc.allow, tc.near, tc.address, tc.named, err)
		}
	}
}

func TestEntriesThatAllowNothingAreErrors(t *testing.T) {
	for _, entry := range []string{"http://db/", "a b", "", "db:0", "db:99999", "10.0.0.0/33", "db/x", "user@db"} {
		if _, err := New(Options{Allow: []string{entry}}); err == nil {
			t.Errorf("%q is taken", entry)
		}
	}
}

func listen(t *testing.T) (reached <-chan struct{}, address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
			c <- struct{}{}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return c, l.Addr().String()
}

// However it is written, the machine is not reached.
func TestSecurityTheMachineIsNotConnectedToByAnyName(t *testing.T) {
	reached, address := listen(t)
	_, port, _ := net.SplitHostPort(address)
	g := newGuard(t, Options{Allow: []string{"db.lan", "10.0.0.0/8"}})
	for _, host := range []string{"127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "::", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "169.254.169.254", "fe80::1%lo"} {
		conn, err := g.Dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s was connected to", host)
		}
	}
	select {
	case <-reached:
		t.Error("the machine was reached")
	default:
	}
	_, err := g.Dial(t.Context(), "tcp", address)
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != lambent.KindDenied || !strings.Contains(e.Message, "destinations.allow") {
		t.Errorf("refused with %v", err)
	}
}

func TestSecurityTheServerItselfIsNotConnectedToUnlessItsAddressAndPortAreNamed(t *testing.T) {
	reached, address := listen(t)
	for _, tc := range []struct {
		allow []string
		want  bool
	}{{nil, false}, {[]string{"*", "127.0.0.1", "localhost", "127.0.0.0/8"}, false}, {[]string{address}, true}} {
		g := newGuard(t, Options{Allow: tc.allow, Near: true})
		if err := g.Own(address); err != nil {
			t.Fatal(err)
		}
		conn, err := g.Dial(context.Background(), "tcp", address)
		if (err == nil) != tc.want {
			t.Errorf("%q: %v", tc.allow, err)
		}
		if err == nil {
			<-reached
			_ = conn.Close()
		}
	}
	select {
	case <-reached:
		t.Error("the server was reached once more")
	default:
	}
}

func TestWrittenAddressesAreToldOfEarly(t *testing.T) {
	g := newGuard(t, Options{Allow: []string{"127.0.0.1:8080", "db.lan"}})
	if err := errors.Join(g.Own("127.0.0.1:0"), g.Own("127.0.0.1:81")); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"example.com:80": true, "localhost:81": true, "1.1.1.1:80": true, "127.0.0.1:8080": true, "127.0.0.1:80": false, "127.0.0.1:81": false, "[::ffff:10.0.0.1]:80": false, "169.254.169.254:80": false} {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Check(host, port); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestPublicAddressesAreTheInternets(t *testing.T) {
	for a, want := range map[string]bool{"127.0.0.1": false, "10.1.2.3": false, "192.168.0.1": false, "172.16.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false,
		"255.255.255.255": false, "224.0.0.1": false, "::1": false, "fe80::1": false, "fd00::1": false, "::": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false,
		"1.1.1.1": true, "2606:4700:4700::1111": true} {
		if IsPublic(netip.MustParseAddr(a)) != want {
			t.Errorf("%s counts as public: %v", a, !want)
		}
	}
}
