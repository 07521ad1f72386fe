package proxy

import (
	"bytes"
	"errors"
)

var (
	errPathEscape = errors.New("the path has a broken percent escape")
	errPathNUL    = errors.New("the path has an encoded NUL")
	errPathClimbs = errors.New("the path climbs above its root")
	errPathDiffer = errors.New("the path leads to different routes depending on how dots, slashes and semicolons are read")
)

// reading says how a server could read a path: routes are chosen on one reading and the raw bytes are
// forwarded, so where another reading of the same bytes leads to another route the request is refused.
type reading struct {
	dots    bool // "." and ".." segments are resolved (RFC 3986 §5.2.4)
	slashes bool // "%2F", "%5C" and "\" separate segments
	empties bool // repeated slashes are merged after dot segments were resolved (RFC 3986), not before (nginx)
	params  bool // ";" ends the name of a segment (Servlet)
}

// routed is the reading that routes are chosen on.
var routed = reading{dots: true}

// others are the readings that must agree with it when a path is odd: all there are.
var others = func() (all []reading) {
	for n := range 16 {
		if how := (reading{n&1 != 0, n&2 != 0, n&4 != 0, n&8 != 0}); how != routed {
			all = append(all, how)
		}
	}
	return all
}()

// plainPath tells that every reading of path is path itself.
func plainPath(path []byte) bool {
	var before byte
	for _, c := range path {
		if c == '%' || c == '\\' || c == ';' || before == '/' && (c == '/' || c == '.') {
			return false
		}
		before = c
	}
	return len(path) > 0 && path[0] == '/'
}

// tangled tells of semicolons that servers read in more ways than there are readings: beside dot segments, or some of
// them escaped and some not.
func tangled(path []byte) bool {
	var literal, escaped, dots bool
	length, onlyDots, named := 0, true, true // of the segment that is being read; named until a semicolon
	for i := 0; i <= len(path); i++ {
		c, escape := byte('/'), false // the end is one too
		if i < len(path) {
			c = path[i]
		}
		if c == '%' && i+2 < len(path) {
			c, escape = unhex(path[i+1])<<4|unhex(path[i+2]), true
			i += 2
		}
		switch {
		case c == '/' || c == '\\':
			dots = dots || onlyDots && length > 0 && length <= 2
			length, onlyDots, named = 0, true, true
		case c == ';':
			literal, escaped, named = literal || !escape, escaped || escape, false
		case named:
			length++
			onlyDots = onlyDots && c == '.'
		}
	}
	return literal && escaped || (literal || escaped) && dots
}

// beforeSession is what stands before ";jsessionid=…" at the end of a path that is plain but for it (Servlet 6.0 §7.1.3);
// nil where the path is another. There are two readings of such a path, itself and what is returned.
func beforeSession(path []byte) []byte {
	name, id, found := bytes.Cut(path, []byte(";jsessionid="))
	if !found || !plainPath(name) || name[len(name)-1] == '/' {
		return nil
	}
	for _, c := range id {
		if !pathByte[c] || c == '/' || c == ';' {
			return nil
		}
	}
	return name
}

// appendReading appends path, which begins with a slash, as it is read in one way: escapes decoded except
// those of "/", "\" and "%", repeated slashes merged. odd tells that some other reading may differ.
// The result has no "%" but in "%2F", "%5C" and "%25".
func appendReading(dst, path []byte, how reading) (out []byte, odd bool, err error) {
	root := len(dst)
	dst = append(dst, '/')
	segment := len(dst) // where the segment that is being read begins
	for i := 0; i < len(path); {
		c := path[i]
		i++
		escaped := false
		if c == '%' {
			if i+2 > len(path) {
				return dst, false, errPathEscape
			}
			high, low := unhex(path[i]), unhex(path[i+1])
			if high > 15 || low > 15 {
				return dst, false, errPathEscape
			}
			i += 2
			c, escaped = high<<4|low, true
		}
		switch {
		case c == 0:
			return dst, false, errPathNUL
		case c == '%':
			dst = append(dst, "%25"...)
			continue
		case c == '\\', c == '/' && escaped:
			odd = true
			if !how.slashes {
				dst = appendEscape(dst, c)
				continue
			}
		case c != '/':
			odd = odd || c == ';'
			dst = append(dst, c)
			continue
		}
		var dotted bool
		if dst, dotted, err = endSegment(dst, root, segment, how, false); err != nil {
			return dst, false, err
		}
		odd = odd || dotted
		segment = len(dst)
	}
	dst, dotted, err := endSegment(dst, root, segment, how, true)
	if how.empties {
		dst = append(dst[:root], mergeSlashes(dst[root:])...)
	}
	return dst, odd || dotted, err
}

// mergeSlashes leaves one of several slashes in a row. It works in place.
func mergeSlashes(path []byte) []byte {
	merged := path[:1]
	for _, c := range path[1:] {
		if c != '/' || merged[len(merged)-1] != '/' {
			merged = append(merged, c)
		}
	}
	return merged
}

// endSegment closes the segment dst[segment:]: an empty one is merged with the slash before it, now or at
// the end, a dot segment is resolved, any other gets its slash unless it is the last.
func endSegment(dst []byte, root, segment int, how reading, last bool) (out []byte, dotted bool, err error) {
	name := dst[segment:]
	if end := bytes.IndexByte(name, ';'); how.params && end >= 0 {
		name = name[:end]
		dst = dst[:segment+end]
	}
	up := isUp(name)
	dotted = up || len(name) == 1 && name[0] == '.'
	switch {
	case len(name) == 0:
		if how.empties && !last {
			dst = append(dst, '/')
		}
		return dst, false, nil
	case !dotted || !how.dots:
		if !last {
			dst = append(dst, '/')
		}
		return dst, dotted, nil
	case !up:
		return dst[:segment], true, nil
	}
	if segment == root+1 {
		return dst, true, errPathClimbs
	}
	end := segment - 1 // the slash before the segment; go back to just after the one before that
	for dst[end-1] != '/' {
		end--
	}
	return dst[:end], true, nil
}

// isUp tells a segment that some server takes for "..": Servlet containers cut it at the semicolon.
func isUp(name []byte) bool {
	return len(name) >= 2 && name[0] == '.' && name[1] == '.' && (len(name) == 2 || name[2] == ';')
}

// appendEscapedPath appends a reading as bytes that may stand in a request target (RFC 3986 §3.3).
func appendEscapedPath(dst, read []byte) []byte {
	for _, c := range read {
		if c == '%' || pathByte[c] {
			dst = append(dst, c)
		} else {
			dst = appendEscape(dst, c)
		}
	}
	return dst
}

func appendEscape(dst []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(dst, '%', digits[c>>4], digits[c&15])
}

// unhex gives the value of a hexadecimal digit, or more than 15.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// pathByte are the bytes that stand for themselves in a path: pchar and "/" (RFC 3986 §3.3).
var pathByte = func() (is [256]bool) {
	for c := range 256 {
		is[c] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	for _, c := range []byte("-._~!$&'()*+,;=:@/") {
		is[c] = true
	}
	return is
}()
