package api

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSecurityWebPagesElsewhereReachNothing(t *testing.T) {
	for _, c := range []struct {
		why, host, origin, site string
		ok                      bool
	}{
		{why: "the CLI and the SDKs", host: "127.0.0.1:4566", ok: true},
		{why: "by name", host: "localhost:4566", ok: true},
		{why: "in any case, absolute", host: "LocalHost.:4566", ok: true},
		{why: "below localhost", host: "abc.lambda-url.localhost:4566", ok: true},
		{why: "IPv6", host: "[::1]:4566", ok: true},
		{why: "IPv6 without a port", host: "[::1]", ok: true},
		{why: "another address of the machine", host: "192.168.1.5:4566", ok: true},
		{why: "a name the operator gave", host: "Lambent.lan:4566", ok: true},
		{why: "HTTP/1.0", host: "", ok: true},
		{why: "the server's own page", host: "localhost:4566", origin: "http://localhost:4566", site: "same-origin", ok: true},
		{why: "behind a proxy the operator named", host: "127.0.0.1:4566", origin: "https://lambent.lan", ok: true},
		{why: "typed into the address bar", host: "localhost:4566", site: "none", ok: true},

		{why: "DNS rebinding", host: "evil.example:4566"},
		{why: "DNS rebinding, own origin", host: "evil.example:4566", origin: "http://evil.example:4566", site: "same-origin"},
		{why: "a name that starts like an address", host: "127.0.0.1.evil.example:4566"},
		{why: "a name that ends like localhost", host: "evillocalhost:4566"},
		{why: "a name below an operator's", host: "evil.lambent.lan:4566"},
		{why: "a page on another site", host: "127.0.0.1:4566", origin: "https://evil.example"},
		{why: "a page on another port of this machine", host: "localhost:4566", origin: "http://localhost:3000"},
		{why: "a sandboxed page", host: "127.0.0.1:4566", origin: "null"},
		{why: "a file", host: "127.0.0.1:4566", origin: "file://"},
		{why: "a page whose name is in its user name", host: "127.0.0.1:4566", origin: "http://127.0.0.1:4566@evil.example"},
		{why: "an image on another site", host: "127.0.0.1:4566", site: "cross-site"},
		{why: "an image on a sibling", host: "127.0.0.1:4566", site: "same-site"},
	} {
		for _, path := range []string{"/2015-03-31/functions/", "/2015-03-31/functions/f/invocations", "/_lambent/health"} {
			d := newDoor(t, func(o *Options) { o.Hosts = []string{"lambent.lan"} })
			method := "GET"
			if strings.HasSuffix(path, "invocations") {
				method = "POST"
			}
			r := httptest.NewRequest(method, path, strings.NewReader("{}"))
			r.Host = c.host
			r.Header.Set("Content-Type", "text/plain")
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			if c.site != "" {
				r.Header.Set("Sec-Fetch-Site", c.site)
			}
			rec := httptest.NewRecorder()
			d.ServeHTTP(rec, r)
			if refused := rec.Code == 403; refused == c.ok {
				t.Errorf("%s: %s %s for %q from %q %q: %d %s", c.why, method, path, c.host, c.origin, c.site, rec.Code, rec.Body)
			}
			if !c.ok && (d.invoker.last != nil || !strings.Contains(rec.Body.String(), "auth: open")) {
				t.Errorf("%s: went through, or the answer does not say why: %s", c.why, rec.Body)
			}
		}
	}
}

func TestARefusedNameIsToldHowToAllowIt(t *testing.T) {
	d := newDoor(t)
	r := httptest.NewRequest("GET", "/_lambent/health", nil)
	r.Host = "build-box.lan:4566"
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if !strings.Contains(rec.Body.String(), "--hosts build-box.lan") {
		t.Errorf("answer %s names no setting", rec.Body)
	}
}
