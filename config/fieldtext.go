package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// isToken tells whether s is a token of RFC 9110, section 5.6.2: a field name, a method, a cookie name.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func checkFieldName(s string) error {
	if !isToken(s) {
		return fmt.Errorf("%q is no header field name", s)
	}
	return nil
}

// checkFieldValue refuses what could end a field or the head (RFC 9110, section 5.5).
func checkFieldValue(s string) error {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 127 {
			return fmt.Errorf("a header field value has the control character %q", c)
		}
	}
	if strings.Trim(s, " \t") != s {
		return errors.New("a header field value begins or ends with a blank")
	}
	return nil
}

// framingFields belong to the connection or to the framing of a message: changed by a route they would smuggle.
var framingFields = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func isFraming(name string) bool { return slices.Contains(framingFields, strings.ToLower(name)) }

// checkKey reads what a limiter or the hash policy counts by: one of the words, header:NAME or cookie:NAME.
func checkKey(s string, words ...string) error {
	if slices.Contains(words, s) {
		return nil
	}
	kind, name, _ := strings.Cut(s, ":")
	if kind == "header" || kind == "cookie" {
		if !isToken(name) {
			return fmt.Errorf("%q: %q is no %s name", s, name, kind)
		}
		return nil
	}
	all := append(slices.Clone(words), "header:NAME", "cookie:NAME")
	msg := fmt.Sprintf("unknown key %q (%s)", s, strings.Join(all, ", "))
	if near := nearest(s, words); near != "" {
		msg += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(msg)
}

// checkStatuses reads "200", "200-299" or "2xx,404".
func checkStatuses(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		from, to, isRange := strings.Cut(part, "-")
		if len(part) == 3 && strings.HasSuffix(part, "xx") && part[0] >= '1' && part[0] <= '5' {
			continue
		}
		low, ok := status(from)
		high := low
		if isRange && ok {
			high, ok = status(to)
		}
		if !ok || high < low {
			return fmt.Errorf(`%q is no status: write "200", "200-299" or "2xx,404"`, part)
		}
	}
	return nil
}

func status(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && len(s) == 3 && n >= 100 && n <= 599
}

// checkPath tells whether s can be the path of a request as routes compare it: normalised, without query and fragment.
func checkPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%q: a path begins with /", s)
	case strings.ContainsAny(s, "?#"):
		return fmt.Errorf("%q: a path has no query and no fragment", s)
	case strings.Contains(s, "//"):
		return fmt.Errorf("%q: an empty segment (//) never matches", s)
	case strings.ContainsRune(s, '\\'):
		return fmt.Errorf("%q: a path has no backslash", s)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 127 {
			return fmt.Errorf("%q: a path has no blank and no control character", s)
		}
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("%q: the segment %q never matches", s, segment)
		}
	}
	return nil
}
