package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"lambent"
)

// guard keeps web pages away from a server that asks nobody who they are. A
// browser on this machine can reach a loopback address like any program, and
// sends a page's POST of plain text there without asking; it tells of it in
// Origin and Sec-Fetch-Site. A page of a name whose DNS answer became 127.0.0.1
// (rebinding) is of the server's own origin to the browser, but its name stands
// in Host. So requests pass by an address, localhost or a name the operator
// gave, and those of pages only from such a name or from the server itself.
// The AWS CLI and SDKs send no Origin.
type guard struct {
	hosts []string // names beside localhost, in lower case
}

func newGuard(hosts []string) *guard {
	g := &guard{}
	for _, h := range hosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	return g
}

// check refuses what a web page elsewhere has sent, or may have.
func (g *guard) check(r *http.Request) error {
	if name := hostName(r.Host); !g.expects(name) {
		return foreign(fmt.Sprintf("With auth: open, lambent answers to IP addresses, localhost and the names in its setting hosts, so that no web page "+
			"reaches it by a name of its own (DNS rebinding). The name %s is none of them: use an address, or start the server with --hosts %s.", quote(name), shellWord(name)))
	}
	origin := r.Header.Get("Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	if len(r.Header.Values("Origin")) > 1 || origin != "" && !g.own(origin, r.Host) {
		return foreign(fmt.Sprintf("With auth: open, lambent takes no requests of web pages of other origins, here %s: such a page could run code on this machine. "+
			"If the page is yours, start the server with its host name in --hosts.", quote(origin)))
	}
	if origin == "" && site != "" && site != "same-origin" && site != "none" {
		return foreign("With auth: open, lambent takes no requests that a browser sends for a page of another site (Sec-Fetch-Site: " + headerText(site) +
			"): such a page could run code on this machine.")
	}
	return nil
}

// expects reports whether a request may come by this name. An empty one is of a
// client older than HTTP/1.1, which no browser is.
func (g *guard) expects(name string) bool {
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(g.hosts, name) {
		return true // browsers resolve .localhost to this machine, whatever DNS says (RFC 6761, 6.3)
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}

// own reports whether an origin is the server itself, as the request names it,
// or on a host the operator named.
func (g *guard) own(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false // "null" is any sandboxed page
	}
	return strings.EqualFold(u.Host, host) || slices.Contains(g.hosts, hostName(u.Host))
}

// hostName is a Host header's name or address in lower case, without port,
// brackets, and the dot at the end of an absolute name.
func hostName(hostPort string) string {
	name := hostPort
	if h, _, err := net.SplitHostPort(hostPort); err == nil {
		name = h
	} else {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// shellWord is a name as an example on a command line, or what stands for one
// where it is none.
func shellWord(name string) string {
	odd := func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r > 'z' || !isAlphanumeric(byte(r)))
	}
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, odd) {
		return "NAME"
	}
	return name
}

func foreign(message string) error {
	return &lambent.Error{Op: "accept request", Kind: lambent.KindDenied, Message: message}
}
