package proxy

import "bytes"

// subject is what routes are matched against.
type subject struct {
	listener string
	method   []byte
	host     []byte // lower case, without port, see appendHost
	path     []byte // as a reading
	query    []byte // without "?"
	head     fields
}

// lookup finds the route of a request, or nil. Its time depends on the labels of the host and the
// segments of the path, and on the number of regular expressions and conditions of that one host, but
// not on the number of routes.
//
// The host that is matched more closely goes first: exact, then wildcards from the longest, then routes
// for any host. Within a host: path_exact, then prefixes from the longest, then expressions in file
// order, then routes for any path. A host whose routes all refuse leaves the request to the next.
func (t *Table) lookup(s *subject) *Route {
	ix := t.shared
	if len(t.listeners) > 0 {
		if own := t.listeners[s.listener]; own != nil {
			ix = own
		}
	}
	if p := ix.hosts[string(s.host)]; p != nil {
		if r := p.find(s); r != nil {
			return r
		}
	}
	if len(ix.wildcards) > 0 {
		for at := 0; at < len(s.host); at++ {
			if s.host[at] != '.' || len(s.host)-at-1 > ix.longestWild {
				continue
			}
			if p := ix.wildcards[string(s.host[at+1:])]; p != nil && at > 0 {
				if r := p.find(s); r != nil {
					return r
				}
			}
		}
	}
	return ix.any.find(s)
}

func (p *paths) find(s *subject) *Route {
	if len(p.exact) > 0 {
		if r := first(p.exact[string(s.path)], s); r != nil {
			return r
		}
	}
	if r := p.prefix.find(s); r != nil {
		return r
	}
	for _, r := range p.regex {
		if r.meets(s) && r.regex.Match(s.path) {
			return r
		}
	}
	return first(p.rest, s)
}

// find goes down as far as the path's segments are known and looks for a route on the way back.
func (n *node) find(s *subject) *Route {
	rest := s.path
	for len(rest) > 0 && n.children != nil {
		rest = rest[1:]
		segment := rest
		if end := bytes.IndexByte(rest, '/'); end >= 0 {
			segment = rest[:end]
		}
		next := n.children[string(segment)]
		if next == nil {
			break
		}
		n, rest = next, rest[len(segment):]
	}
	for ; n != nil; n = n.parent {
		if r := first(n.routes, s); r != nil {
			return r
		}
	}
	return nil
}

func first(routes []*Route, s *subject) *Route {
	for _, r := range routes {
		if r.meets(s) {
			return r
		}
	}
	return nil
}

// meets compares method, header fields and query.
func (r *Route) meets(s *subject) bool {
	if len(r.methods) > 0 && !r.hasMethod(s.method) {
		return false
	}
	for i := range r.headers {
		if !r.headers[i].inHead(s.head) {
			return false
		}
	}
	for i := range r.queries {
		if !r.queries[i].inQuery(s.query) {
			return false
		}
	}
	return true
}

func (r *Route) hasMethod(method []byte) bool {
	for _, m := range r.methods {
		if m == string(method) {
			return true
		}
	}
	return false
}

func (c *condition) inHead(head fields) bool {
	for i := head.Index(c.name, 0); i >= 0; i = head.Index(c.name, i+1) {
		if c.value == "*" || string(head.Value(i)) == c.value {
			return true
		}
	}
	return false
}

func (c *condition) inQuery(query []byte) bool {
	for len(query) > 0 {
		pair := query
		if end := bytes.IndexByte(query, '&'); end >= 0 {
			pair, query = query[:end], query[end+1:]
		} else {
			query = nil
		}
		name, value, _ := bytes.Cut(pair, []byte("="))
		if queryEqual(name, c.name, false) && (c.value == "*" || queryEqual(value, c.value, false)) {
			return true
		}
	}
	return false
}

// queryEqual compares a part of a query with a text: "+" is a space, escapes are decoded, and with fold
// the case of ASCII letters does not matter.
func queryEqual(part []byte, text string, fold bool) bool {
	j := 0
	for i := 0; i < len(part); i++ {
		c := part[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(part) && unhex(part[i+1]) < 16 && unhex(part[i+2]) < 16:
			c = unhex(part[i+1])<<4 | unhex(part[i+2])
			i += 2
		}
		if j == len(text) {
			return false
		}
		d := text[j]
		j++
		if fold {
			c, d = lower(c), lower(d)
		}
		if c != d {
			return false
		}
	}
	return j == len(text)
}

// appendHost appends the name that an authority is routed by: lower case, without port or last dot.
func appendHost(dst, authority []byte) []byte {
	if end := bytes.LastIndexByte(authority, ':'); end >= 0 && bytes.IndexByte(authority[end:], ']') < 0 {
		authority = authority[:end]
	}
	for _, c := range bytes.TrimSuffix(authority, []byte(".")) {
		dst = append(dst, lower(c))
	}
	return dst
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
