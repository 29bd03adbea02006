package api

import (
	"net/url"
	"strings"
)

// maxSegments is how many segments the longest path of the model has, and one
// more so that longer ones are seen to be.
const maxSegments = 8

// segments is a request's path, split at its slashes and each part unescaped:
// an ARN keeps its colons and a "%2F" is not a slash. A slash at the end is
// dropped, as older SDKs send one.
type segments struct {
	part [maxSegments]string
	n    int
}

// splitPath returns false for a path no operation can have.
func splitPath(u *url.URL) (s segments, ok bool) {
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		return s, false
	}
	path = path[1:]
	for more := true; more; {
		var part string
		part, path, more = strings.Cut(path, "/")
		if s.n == maxSegments {
			return s, false
		}
		if strings.IndexByte(part, '%') >= 0 {
			var err error
			if part, err = url.PathUnescape(part); err != nil {
				return s, false
			}
		}
		s.part[s.n] = part
		s.n++
	}
	if s.n > 1 && s.part[s.n-1] == "" {
		s.n--
	}
	return s, true
}

// A route is an operation with its path taken apart.
type route struct {
	operation
	part    []string
	params  []int // where "{}" stands in part
	handler handler

	permission permission
	qualified  bool // the query may name a version or alias
}

func (rt *route) matches(s *segments) bool {
	if len(rt.part) != s.n {
		return false
	}
	for i, part := range rt.part {
		if part != "{}" && part != s.part[i] {
			return false
		}
	}
	return true
}

// routes are the operations by the date their paths start with. Within a date
// those with a query come first, since they are the special case of the one
// without.
type routes map[string][]route

func newRoutes(handlers map[string]handler, m *model) routes {
	byDate := routes{}
	add := func(withQuery bool) {
		for _, op := range operations {
			if (op.query != "") != withQuery {
				continue
			}
			rt := route{operation: op, part: strings.Split(op.path[1:], "/"), handler: handlers[op.name], permission: permissionOf(op), qualified: m.qualified(op.name)}
			for i, part := range rt.part {
				if part == "{}" {
					rt.params = append(rt.params, i)
				}
			}
			byDate[rt.part[0]] = append(byDate[rt.part[0]], rt)
		}
	}
	add(true)
	add(false)
	return byDate
}

// find is the operation a request means, nil for none.
func (rs routes) find(method string, s *segments, query url.Values) *route {
	candidates := rs[s.part[0]]
	for i := range candidates {
		rt := &candidates[i]
		if rt.method == method && rt.matches(s) && (rt.query == "" || hasQuery(query, rt.query)) {
			return rt
		}
	}
	return nil
}

func hasQuery(query url.Values, want string) bool {
	key, value, _ := strings.Cut(want, "=")
	return query.Get(key) == value
}
