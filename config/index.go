package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxNesting bounds brackets in brackets and the parts of a dotted key; the TOML parser's time grows
// with the square of both.
const maxNesting = 64

// index finds the places of all keys and values in a TOML text (v1.1, https://toml.io). It expects a
// text that the TOML parser accepts; whatever it does not understand only costs precision, see join.
// deep is the offset where nesting passes maxNesting, or -1.
func index(src *source) (root *value, deep int) {
	x := &indexer{src: src, text: src.text, deep: -1}
	root = &value{src: src}
	x.document(root)
	return root, x.deep
}

// join fills in what the TOML parser read from the same text and drops what it did not read. A value
// that the index did not find takes the place of its parent.
func join(v *value, raw any) {
	v.raw = raw
	switch raw := raw.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(raw)) {
			if v.child(name) == nil {
				v.add(name, v.lost())
			}
			join(v.table[name], raw[name])
		}
		v.names = slices.DeleteFunc(v.names, func(name string) bool { _, ok := raw[name]; return !ok })
		v.list = nil
	case []map[string]any:
		all := make([]any, len(raw))
		for i := range raw {
			all[i] = raw[i]
		}
		join(v, all)
	case []any:
		for len(v.list) < len(raw) {
			v.list = append(v.list, v.lost())
		}
		v.list = v.list[:len(raw)]
		for i := range raw {
			join(v.list[i], raw[i])
		}
		v.table, v.names = nil, nil
	default:
		v.table, v.names, v.list = nil, nil, nil
	}
}

func (v *value) lost() *value {
	return &value{src: v.src, key: v.key, keyEnd: v.keyEnd, at: v.at, end: v.end}
}

// indexer walks over a TOML text. i only grows.
type indexer struct {
	src  *source
	text string
	i    int

	depth, deep int
}

// giveUp ends the walk where nesting is too deep.
func (x *indexer) giveUp() {
	if x.deep < 0 {
		x.deep = x.i
	}
	x.i = len(x.text)
}

func (x *indexer) peek() byte {
	if x.i < len(x.text) {
		return x.text[x.i]
	}
	return 0
}

func (x *indexer) has(prefix string) bool { return strings.HasPrefix(x.text[x.i:], prefix) }

// blank skips spaces and tabs, and with lines set also line ends and comments.
func (x *indexer) blank(lines bool) {
	for x.i < len(x.text) {
		switch c := x.text[x.i]; {
		case c == ' ' || c == '\t':
			x.i++
		case lines && (c == '\n' || c == '\r'):
			x.i++
		case lines && c == '#':
			x.skipLine()
		default:
			return
		}
	}
}

func (x *indexer) skipLine() {
	if n := strings.IndexByte(x.text[x.i:], '\n'); n >= 0 {
		x.i += n
	} else {
		x.i = len(x.text)
	}
}

func (x *indexer) document(root *value) {
	table := root
	for {
		x.blank(true)
		if x.i >= len(x.text) {
			return
		}
		if x.peek() == '[' {
			table = x.header(root)
		} else {
			x.pair(table)
		}
		x.skipLine()
	}
}

// header reads [a.b] or [[a.b]] and gives the table that the following pairs belong to.
func (x *indexer) header(root *value) *value {
	from, many := x.i, x.has("[[")
	x.i++
	if many {
		x.i++
	}
	parts := x.keys()
	x.blank(false)
	for range 2 {
		if x.peek() == ']' {
			x.i++
		}
	}
	table := root
	for n, p := range parts {
		next := table.child(p.name)
		if next == nil {
			next = &value{src: x.src, key: from, keyEnd: x.i, at: from, end: x.i}
			table.add(p.name, next)
		}
		switch last := n == len(parts)-1; {
		case last && many:
			one := &value{src: x.src, key: from, keyEnd: x.i, at: from, end: x.i}
			next.list = append(next.list, one)
			next = one
		case len(next.list) > 0:
			next = next.list[len(next.list)-1]
		}
		table = next
	}
	return table
}

// pair reads key = value into the table.
func (x *indexer) pair(table *value) {
	parts := x.keys()
	x.blank(false)
	if x.peek() != '=' || len(parts) == 0 {
		return
	}
	x.i++
	x.blank(false)
	for _, p := range parts[:len(parts)-1] {
		next := table.child(p.name)
		if next == nil {
			next = &value{src: x.src, key: p.from, keyEnd: p.to, at: p.from, end: p.to}
			table.add(p.name, next)
		}
		table = next
	}
	last := parts[len(parts)-1]
	v := x.value()
	v.key, v.keyEnd = last.from, last.to
	table.add(last.name, v)
}

type keyPart struct {
	name     string
	from, to int
}

// keys reads a key with its dotted parts.
func (x *indexer) keys() []keyPart {
	var parts []keyPart
	for {
		x.blank(false)
		from := x.i
		var name string
		switch x.peek() {
		case '"', '\'':
			x.str()
			name = unquote(x.text[from:x.i])
		default:
			for x.i < len(x.text) && bareKey(x.text[x.i]) {
				x.i++
			}
			name = x.text[from:x.i]
			if name == "" {
				return parts
			}
		}
		if parts = append(parts, keyPart{name, from, x.i}); len(parts) > maxNesting {
			x.giveUp()
			return nil
		}
		x.blank(false)
		if x.peek() != '.' {
			return parts
		}
		x.i++
	}
}

func bareKey(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func (x *indexer) value() *value {
	v := &value{src: x.src, at: x.i}
	if x.depth == maxNesting {
		x.giveUp()
		v.end = x.i
		return v
	}
	x.depth++
	defer func() { x.depth-- }()
	switch x.peek() {
	case '"', '\'':
		x.str()
	case '[':
		x.i++
		for x.blank(true); x.i < len(x.text) && x.peek() != ']'; x.blank(true) {
			if x.peek() == ',' {
				x.i++
				continue
			}
			from := x.i
			one := x.value()
			one.key, one.keyEnd = one.at, one.end
			v.list = append(v.list, one)
			if x.i == from {
				break
			}
		}
		x.i = min(x.i+1, len(x.text))
	case '{':
		x.i++
		for x.blank(true); x.i < len(x.text) && x.peek() != '}'; x.blank(true) {
			if x.peek() == ',' {
				x.i++
				continue
			}
			from := x.i
			x.pair(v)
			if x.i == from {
				break
			}
		}
		x.i = min(x.i+1, len(x.text))
	default: // number, boolean, date
		for x.i < len(x.text) && !strings.ContainsRune(",]}#\r\n", rune(x.text[x.i])) {
			x.i++
		}
		x.i = v.at + len(strings.TrimRight(x.text[v.at:x.i], " \t"))
	}
	v.end = x.i
	return v
}

// str skips a string of any of the four kinds, its quotes included.
func (x *indexer) str() {
	quote := x.text[x.i : x.i+1]
	long := x.has(strings.Repeat(quote, 3))
	if long {
		quote = strings.Repeat(quote, 3)
	}
	for x.i += len(quote); x.i < len(x.text); x.i++ {
		switch {
		case quote[0] == '"' && x.peek() == '\\':
			x.i++
		case x.has(quote):
			x.i += len(quote)
			for n := 0; long && n < 2 && x.peek() == quote[0]; n++ { // up to two quotes may end the text itself
				x.i++
			}
			return
		case !long && x.peek() == '\n':
			return
		}
	}
	x.i = min(x.i, len(x.text))
}

// unquote reads a quoted key. Keys are single-line strings.
func unquote(s string) string {
	if len(s) < 2 || s[0] == '\'' {
		return strings.Trim(s, "'")
	}
	s = s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if n := strings.IndexByte("btnfre", s[i]); n >= 0 {
			b.WriteByte("\b\t\n\f\r\x1b"[n])
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		if digits == 0 {
			b.WriteByte(s[i])
			continue
		}
		code, err := strconv.ParseUint(s[i+1:min(i+1+digits, len(s))], 16, 32)
		if err != nil || code > utf8.MaxRune {
			code = utf8.RuneError
		}
		b.WriteRune(rune(code))
		i += digits
	}
	return b.String()
}
