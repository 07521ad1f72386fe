package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one mistake in a configuration.
type Error struct {
	Pos Pos
	// Msg says what is wrong, in one line.
	Msg string
	// Line is the offending line of the source with control characters and secrets replaced; "" for labels and for
	// lines that nobody reads (more than 4 KiB).
	Line string
	// Hint says what to write instead, as `did you mean "host"?`; "" when there is nothing to say.
	Hint string
	// Width is how many characters from Pos.Column on are meant, at least 1.
	Width int
}

// Error gives "file:line:column: message; hint" in one line.
func (e Error) Error() string {
	s := e.Pos.String() + ": " + e.Msg
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Errors are all mistakes of one configuration (1000 at most) in the order of their positions; never
// empty when returned as an error.
type Errors []Error

// Error gives each mistake on a line of its own, followed by the offending source line and a caret under it.
func (e Errors) Error() string {
	var b strings.Builder
	for i, one := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(one.Error())
		if one.Line == "" {
			continue
		}
		line, column, width := window(one.Line, one.Pos.Column, one.Width)
		pad := []rune(line)[:column-1]
		for i, r := range pad {
			if r != '\t' {
				pad[i] = ' '
			}
		}
		fmt.Fprintf(&b, "\n    %s\n    %s%s", line, string(pad), strings.Repeat("^", width))
	}
	return b.String()
}

// window cuts a long line to the part around the column, so that the caret stays in sight.
func window(line string, column, width int) (string, int, int) {
	const before, most = 60, 120
	r := []rune(line)
	column = min(max(column, 1), len(r)+1)
	if len(r) > most {
		from := max(0, column-1-before)
		to := min(len(r), from+most)
		cut := string(r[from:to])
		if from > 0 {
			cut, from = "…"+cut, from-1
		}
		if to < len(r) {
			cut += "…"
		}
		line, column, r = cut, column-from, []rune(cut)
	}
	return line, column, max(1, min(width, len(r)-column+1))
}

// secretText finds a quoted value behind a key that sounds like a secret; the quoted value may lack its end.
var secretText = regexp.MustCompile(`(?i)([\w.-]*(?:token|secret|passw|api_?key|authorization|credential)[\w.-]*["']?[ \t]*=[ \t]*)("(?:[^"\\]|\\.)*"?|'[^']*'?|\[[^\]]*\]?|[^\s"',}\]#]+)`)

// printable makes a source line safe for a terminal: values that may be secrets become stars of
// the same length, so that columns stay, and control characters dots.
func printable(line string) string {
	line = secretText.ReplaceAllStringFunc(line, func(found string) string {
		part := secretText.FindStringSubmatch(found)
		if text := strings.TrimLeft(part[2], `"'`); strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:") {
			return found
		}
		return part[1] + strings.Repeat("*", utf8.RuneCountInString(part[2]))
	})
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, line)
}

// maxLine is the longest line, in bytes, that is shown.
const maxLine = 4 << 10

// maxErrors bounds what one run reports; nobody reads more, and a hostile text could have a million.
const maxErrors = 1000

// report collects mistakes while a configuration is read.
type report struct{ errs Errors }

func (r *report) add(src *source, label string, from, to int, hint, msg string) {
	if len(r.errs) >= maxErrors {
		return
	}
	if label != "" {
		r.errs = append(r.errs, Error{Pos: Pos{File: src.name + ": label " + label}, Msg: msg, Hint: hint, Width: 1})
		return
	}
	p, end := src.pos(from), src.pos(to)
	line := src.line(p.Line)
	if len(line) > maxLine {
		line = ""
	}
	line = printable(line)
	width := end.Column - p.Column
	if end.Line != p.Line {
		width = utf8.RuneCountInString(line) - p.Column + 1
	}
	r.errs = append(r.errs, Error{Pos: p, Msg: msg, Line: line, Hint: hint, Width: max(1, width)})
}

// fail reports a mistake at the value itself, unless the value could not even be decoded.
func (r *report) fail(v *value, format string, args ...any) {
	r.failHint(v, "", format, args...)
}

func (r *report) failHint(v *value, hint, format string, args ...any) {
	if v.bad {
		return
	}
	r.add(v.src, v.label, v.at, v.end, hint, fmt.Sprintf(format, args...))
}

// failKey reports a mistake at the value's key or table header.
func (r *report) failKey(v *value, hint, format string, args ...any) {
	if v.bad {
		return
	}
	r.add(v.src, v.label, v.key, v.keyEnd, hint, fmt.Sprintf(format, args...))
}

// err gives the mistakes found so far in order, each once; nil when there are none.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b Error) int {
		if c := a.Pos.Line - b.Pos.Line; c != 0 {
			return c
		}
		if c := a.Pos.Column - b.Pos.Column; c != 0 {
			return c
		}
		return strings.Compare(a.Pos.File, b.Pos.File)
	})
	return slices.CompactFunc(r.errs, func(a, b Error) bool { return a.Pos == b.Pos && a.Msg == b.Msg })
}
