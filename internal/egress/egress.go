// Package egress decides which addresses the server connects to for its users:
// what the URLs they name lead to is theirs to choose, and must not be the
// machine, its network or the server itself.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
)

// Options say who may be connected to beside the Internet.
type Options struct {
	// Allow are hosts and addresses, each with a port or without, and networks:
	// "db.lan", "db.lan:80", "127.0.0.1:8080", "[::1]:80", "10.0.0.0/8"; "*" is any
	// host. What a host's name means may be any address but a link-local one, one
	// of many machines, none, or the server's own. The first three only an address
	// or a network within theirs allows, the last only an address with its port.
	Allow []string
	// Near allows this machine's addresses and those of private networks.
	Near bool
	// Setting is named in what is refused.
	Setting string
	// Timeout bounds a connection's making; 0: 5 seconds.
	Timeout time.Duration
}

// Guard connects. Safe for concurrent use.
type Guard struct {
	opts     Options
	hosts    []string
	networks []netip.Prefix
	places   []netip.AddrPort

	mu sync.Mutex
	// +checklocks:mu
	own []uint16 // ports the server listens on
}

// New makes a guard; an error is of the first entry of Allow that is none.
func New(o Options) (*Guard, error) {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	g := &Guard{opts: o}
	for _, entry := range o.Allow {
		if network, err := netip.ParsePrefix(entry); err == nil {
			g.networks = append(g.networks, network.Masked())
		} else if address, err := netip.ParseAddr(entry); err == nil {
			g.networks = append(g.networks, netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()))
		} else if place, err := netip.ParseAddrPort(entry); err == nil {
			g.places = append(g.places, netip.AddrPortFrom(place.Addr().Unmap(), place.Port()))
		} else if isHost(entry) {
			g.hosts = append(g.hosts, strings.ToLower(entry))
		} else {
			return nil, fmt.Errorf("%q is no host, address or network; one is db.lan, 127.0.0.1:8080 or 10.0.0.0/8", entry)
		}
	}
	return g, nil
}

// isHost tells whether an entry names a host, with a port or without.
func isHost(entry string) bool {
	if entry == "*" {
		return true
	}
	host, port, err := net.SplitHostPort(entry)
	if err != nil {
		host, port = entry, "1"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && host != "" && strings.Trim(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// Own says that the server listens on an address, which is not connected to. Port 0
// says nothing.
func (g *Guard) Own(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("read the server's own address: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("read the server's own address %s: %w", address, err)
	}
	if n == 0 {
		return nil // it is not known yet
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = append(g.own, uint16(n))
	return nil
}

// Dial connects to a host and port. The address is looked at when the connection
// is made, whatever the name meant before. What is refused is KindDenied.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	named := g.isNamed(host, port)
	d := net.Dialer{Timeout: g.opts.Timeout, ControlContext: func(_ context.Context, _, actual string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(actual)
		if err == nil {
			err = g.check(netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), named)
		}
		if err == nil {
			return nil
		}
		return &lambent.Error{Op: "connect", Resource: address, Kind: lambent.KindDenied, Err: err,
			Message: address + " is not on the Internet, but on the server's machine or network, and the setting " + g.opts.Setting + " does not allow it"}
	}}
	return d.DialContext(ctx, network, address)
}

// Check tells early what Dial would refuse: a host that is an address. A name is
// looked up by Dial only.
func (g *Guard) Check(host, port string) error {
	at, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return nil
	}
	return g.check(netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), g.isNamed(host, port))
}

// isNamed tells whether a host is allowed by its name.
func (g *Guard) isNamed(host, port string) bool {
	host = strings.ToLower(host)
	return slices.Contains(g.hosts, "*") || slices.Contains(g.hosts, host) || slices.Contains(g.hosts, net.JoinHostPort(host, port))
}

// check decides on an address; named is that its host's name is allowed.
func (g *Guard) check(at netip.AddrPort, named bool) error {
	a := at.Addr()
	switch {
	case slices.Contains(g.places, at):
		return nil
	case g.isOwn(at):
		return errors.New("it is the server itself")
	case isNowhere(a):
		for _, n := range g.networks {
			if n.Contains(a) && liesNowhere(n) {
				return nil
			}
		}
		return fmt.Errorf("%s is link-local, of many machines, or of none", a)
	case named, IsPublic(a), g.opts.Near && isNear(a):
		return nil
	}
	for _, n := range g.networks {
		if n.Contains(a) {
			return nil
		}
	}
	return fmt.Errorf("%s is an address of this machine or network", a)
}

// isOwn tells whether the server itself listens there. Which of the machine's
// addresses it listens on is not asked: another program with the same port on
// another of them can be allowed.
func (g *Guard) isOwn(at netip.AddrPort) bool {
	g.mu.Lock()
	own := slices.Contains(g.own, at.Port())
	g.mu.Unlock()
	if !own {
		return false
	}
	if at.Addr().IsLoopback() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true // nobody knows
	}
	for _, address := range addresses {
		if n, ok := address.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == at.Addr() {
				return true
			}
		}
	}
	return false
}

// isNear tells whether an address is of this machine or of a private network.
func isNear(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() }

// isNowhere tells of addresses that no name must lead to: link-local ones, behind
// which clouds tell a machine its secrets, those of many machines, and none.
func isNowhere(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Is4() && a.As4()[0] == 0
}

// liesNowhere tells whether a network has no other addresses than such.
func liesNowhere(n netip.Prefix) bool {
	for _, least := range []string{"169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "0.0.0.0/8", "255.255.255.255/32", "::/128"} {
		if p := netip.MustParsePrefix(least); p.Contains(n.Addr()) && n.Bits() >= p.Bits() {
			return true
		}
	}
	return false
}

// IsPublic tells whether an address is one of the Internet's: no machine's own, no
// network's own, none that is not for one machine.
func IsPublic(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, special := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", // RFC 6890
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10", // those that lead to IPv4 included
	} {
		if netip.MustParsePrefix(special).Contains(a) {
			return false
		}
	}
	return true
}
