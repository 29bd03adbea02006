package failures

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"

	"lambent/internal/egress"
)

const (
	// healthFirst and healthMost are the least and the most time from one question
	// to the next; it doubles while the answer is not 200.
	healthFirst  = time.Second
	healthMost   = time.Minute
	healthLimit  = 5 * time.Second // of an answer
	healthAtOnce = 8
)

// health asks the dependencies that failures wait for whether they are well, as
// long as any do. It is its engine's goroutine's, but for the questions.
type health struct {
	hosts   []string
	client  *http.Client
	urls    map[string]*dependency
	asking  int
	answers chan answer // has room for all that are asked at once
	asked   sync.WaitGroup
}

// dependency is one URL.
type dependency struct {
	wanted  bool // in this pass
	asking  bool
	next    time.Time // when it is asked again
	backOff time.Duration
	well    int64 // milliseconds since 1970: when the last question was asked that it answered with 200; 0: none was
}

type answer struct {
	url   string
	asked time.Time
	well  bool
}

func newHealth(hosts []string) *health {
	h := &health{hosts: hosts, urls: map[string]*dependency{}, answers: make(chan answer, healthAtOnce)}
	h.client = &http.Client{
		Timeout:       healthLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy: it would look names up by itself, and the rule of addresses be void.
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, DialContext: h.dial},
	}
	return h
}

// dial connects to whoever may be asked. The address is looked at when the
// connection is made, whatever the name meant before.
func (h *health) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: healthLimit}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(h.hosts, "*") && !slices.Contains(h.hosts, host) && !slices.Contains(h.hosts, address) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err == nil && egress.IsPublic(at.Addr().Unmap()) {
				return nil
			}
			return errors.Join(fmt.Errorf("%s is an address of this machine or network; failures.health_hosts has to name %s", address, host), err)
		}
	}
	return d.DialContext(ctx, network, address)
}

// CheckHealthURL says what is wrong with the URL of a rule.
func CheckHealthURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("it is no URL of http or https")
	case u.User != nil:
		return errors.New("it has a user or password, and would be asked without")
	case len(text) > 1000:
		return errors.New("it is longer than 1000 bytes")
	}
	return nil
}

// begin begins a pass: nothing is waited for as far as is known.
func (h *health) begin() {
	for _, d := range h.urls {
		d.wanted = false
	}
}

// keep says that something waits for URLs.
func (h *health) keep(urls []string) {
	for _, u := range urls {
		d := h.urls[u]
		if d == nil {
			d = &dependency{backOff: healthFirst}
			h.urls[u] = d
		}
		d.wanted = true
	}
}

// since tells the last time that one of the URLs was well.
func (h *health) since(urls []string) (well int64) {
	for _, u := range urls {
		if d := h.urls[u]; d != nil {
			well = max(well, d.well)
		}
	}
	return well
}

// end asks what is due, and forgets what nothing waits for.
func (h *health) end(ctx context.Context, now time.Time, sooner func(time.Time)) {
	for u, d := range h.urls {
		switch {
		case d.asking:
		case !d.wanted && d.next.Before(now): // it may be wanted again as soon as its failures failed again
			delete(h.urls, u)
		case !d.wanted || d.next.After(now) || h.asking == healthAtOnce:
			if d.wanted && d.next.After(now) {
				sooner(d.next)
			}
		default:
			d.asking = true
			h.asking++
			h.asked.Go(func() { h.answers <- answer{u, now, h.ask(ctx, u)} })
		}
	}
}

// ask asks one URL.
func (h *health) ask(ctx context.Context, u string) (well bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", "lambent")
	resp, err := h.client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // nothing of it is wanted
	return resp.StatusCode == http.StatusOK
}

// note takes an answer.
func (h *health) note(a answer, now time.Time) {
	d := h.urls[a.url]
	d.asking = false
	h.asking--
	d.next = now.Add(d.backOff)
	if a.well {
		d.well, d.backOff = a.asked.UnixMilli(), healthFirst
		return
	}
	d.backOff = min(2*d.backOff, healthMost)
}

// close waits for the questions; their context has ended.
func (h *health) close() { h.asked.Wait() }
