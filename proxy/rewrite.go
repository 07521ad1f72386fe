package proxy

import (
	"bytes"
	"strconv"
	"strings"
)

// target appends the request target to forward: the raw one, unless the route changes the path.
func (r *Route) target(dst, raw, path, read []byte) []byte {
	if !r.cfg.StripPath && r.rewrite == "" {
		return append(dst, raw...)
	}
	query := raw[len(path):]
	begin := len(dst)
	switch {
	case r.regex != nil:
		dst = appendEscapedPath(dst, r.expand(read))
	case r.cfg.PathExact != "":
		dst = append(dst, r.rewrite...)
	default:
		dst = append(dst, strings.TrimSuffix(r.rewrite, "/")...)
		if bytes.HasPrefix(path, []byte(r.prefix)) && plainPath(path) {
			dst = append(dst, path[len(r.prefix):]...)
		} else {
			dst = appendEscapedPath(dst, read[len(r.prefix):])
		}
	}
	if len(dst) == begin {
		if r.rewrite != "" && r.cfg.PathExact == "" {
			dst = append(dst, r.rewrite...)
		} else {
			dst = append(dst, '/')
		}
	}
	return append(dst, query...)
}

// expand replaces $1… of the rewrite by what the expression found.
func (r *Route) expand(read []byte) []byte {
	return r.regex.Expand(nil, []byte(r.rewrite), read, r.regex.FindSubmatchIndex(read))
}

// redirect is a compiled location: literal texts with variables between them.
type redirect struct {
	status int
	parts  []string // at odd positions the names of variables
}

func compileRedirect(cfg RedirectConfig) (*redirect, error) {
	switch cfg.Status {
	case 301, 302, 303, 307, 308:
	default:
		return nil, invalid("redirect.status", "the status must be 301, 302, 303, 307 or 308, not %s", strconv.Itoa(cfg.Status))
	}
	if cfg.To == "" || !isFieldValue(cfg.To) || strings.Contains(cfg.To, " ") {
		return nil, invalid("redirect.to", "the location is empty or has spaces or control characters")
	}
	r := &redirect{status: cfg.Status}
	rest := cfg.To
	for {
		at := strings.IndexByte(rest, '$')
		if at < 0 {
			break
		}
		found := ""
		for _, name := range []string{"host", "http_host", "path", "query", "request_uri"} {
			if strings.HasPrefix(rest[at+1:], name) {
				found = name
			}
		}
		if found == "" {
			return nil, invalid("redirect.to", "only $host, $http_host, $path, $query and $request_uri are known")
		}
		r.parts = append(r.parts, rest[:at], found)
		rest = rest[at+1+len(found):]
	}
	r.parts = append(r.parts, rest)
	return r, nil
}

// append writes the location for a request. raw is its target and path the target's path, both as
// received, so that nothing can stand in them that may not stand in a field.
func (r *redirect) append(dst, host, raw, path []byte) []byte {
	begin := len(dst)
	for i, part := range r.parts {
		switch {
		case i%2 == 0:
			dst = append(dst, part...)
		case part == "host":
			dst = appendHost(dst, host)
		case part == "http_host":
			dst = append(dst, host...)
		case part == "query":
			dst = append(dst, bytes.TrimPrefix(raw[len(path):], []byte("?"))...)
		default:
			value := raw
			if part == "path" {
				value = path
			}
			if len(dst) == begin { // "//other.example" would be another host
				value = bytes.TrimLeft(value, `/\`)
				dst = append(dst, '/')
			}
			dst = append(dst, value...)
		}
	}
	return dst
}
