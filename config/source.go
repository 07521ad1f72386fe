package config

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

// Pos is where something stands in a configuration. Line and Column count from 1, Column in
// characters. Line 0 means that File is no text but the name of a place, such as a container's label.
type Pos struct {
	File         string
	Line, Column int
}

// String gives file:line:column, or the file alone when there is no line.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// source is the text that values came from. For labels text is empty.
type source struct {
	name  string
	text  string
	lines []int // offset of each line's first byte
}

func newSource(name, text string) *source {
	s := &source{name: name, text: text, lines: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// pos turns an offset into a position; offsets outside the text are moved to its nearest end, those inside a character
// to its start.
func (s *source) pos(offset int) Pos {
	offset = min(max(offset, 0), len(s.text))
	for offset > 0 && offset < len(s.text) && !utf8.RuneStart(s.text[offset]) {
		offset--
	}
	n := sort.SearchInts(s.lines, offset+1) - 1
	return Pos{File: s.name, Line: n + 1, Column: utf8.RuneCountInString(s.text[s.lines[n]:offset]) + 1}
}

// line gives line n (from 1) without its end.
func (s *source) line(n int) string {
	end := len(s.text)
	if n < len(s.lines) {
		end = s.lines[n] - 1
	}
	return strings.TrimSuffix(s.text[s.lines[n-1]:end], "\r")
}

// value is one value of a configuration together with its place: what the TOML parser or a label
// gave, and where. Exactly one of table and list is used when raw is a table or a list.
type value struct {
	src *source
	// label is the whole label that the value came from; "" in a file.
	label string
	// key and keyEnd span the key (for a table header, the header), at and end the value.
	key, keyEnd, at, end int

	raw   any // string, int64, float64, bool, time.Time, map[string]any, []any
	names []string
	table map[string]*value
	list  []*value

	// bad is set when the value could not be decoded: what follows from it is not worth a second error.
	bad bool
}

func (v *value) child(name string) *value {
	if v.table == nil {
		return nil
	}
	return v.table[name]
}

func (v *value) add(name string, c *value) {
	if v.table == nil {
		v.table = map[string]*value{}
	}
	if v.table[name] == nil {
		v.names = append(v.names, name)
	}
	v.table[name] = c
}

// get follows a path of keys; nil when it is not written.
func (v *value) get(path ...string) *value {
	for _, name := range path {
		if v = v.child(name); v == nil {
			return nil
		}
	}
	return v
}

// near follows a path of keys as far as it is written.
func (v *value) near(path ...string) *value {
	for _, name := range path {
		c := v.child(name)
		if c == nil {
			break
		}
		v = c
	}
	return v
}

// element gives the i-th element of a list; a list written as a single value is its own only element.
func (v *value) element(i int) *value {
	if i < len(v.list) {
		return v.list[i]
	}
	return v
}

// sound tells whether the value at the path, if it is written, was decoded.
func (v *value) sound(path ...string) bool {
	for _, name := range path {
		if v.bad {
			return false
		}
		c := v.child(name)
		if c == nil {
			return true
		}
		v = c
	}
	return !v.bad
}
