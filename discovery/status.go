package discovery

import (
	"fmt"
	"strconv"
	"strings"
)

// StatusSet is a set of HTTP status codes, as inclusive ranges. The zero value contains none.
type StatusSet []struct{ From, To int }

// ParseStatus reads "200", "200-399" or a list like "2xx,404".
func ParseStatus(text string) (StatusSet, error) {
	var set StatusSet
	for part := range strings.SplitSeq(text, ",") {
		from, to, err := parseStatusRange(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("status %q: %w", text, err)
		}
		set = append(set, struct{ From, To int }{from, to})
	}
	return set, nil
}

func parseStatusRange(part string) (from, to int, err error) {
	if class, ok := strings.CutSuffix(strings.ToLower(part), "xx"); ok {
		part = class + "00-" + class + "99"
	}
	first, last, isRange := strings.Cut(part, "-")
	if from, err = parseStatusCode(first); err != nil || !isRange {
		return from, from, err
	}
	if to, err = parseStatusCode(last); err != nil {
		return 0, 0, err
	}
	if from > to {
		return 0, 0, fmt.Errorf("the range %q is empty", part)
	}
	return from, to, nil
}

func parseStatusCode(s string) (int, error) {
	s = strings.TrimSpace(s)
	code, err := strconv.Atoi(s)
	if err != nil || len(s) != 3 || code < 100 || code > 599 {
		return 0, fmt.Errorf(`%q is not a status: write "200", "200-399" or "2xx,404"`, s)
	}
	return code, nil
}

// Contains reports whether code is in the set.
func (set StatusSet) Contains(code int) bool {
	for _, r := range set {
		if r.From <= code && code <= r.To {
			return true
		}
	}
	return false
}
