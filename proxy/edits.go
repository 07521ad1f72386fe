package proxy

import (
	"slices"
	"strings"
)

// edit sets or removes the fields of one name.
type edit struct {
	lower string // the name in lower case
	line  []byte // "Name: value\r\n"; nil removes
}

// framing are the fields that no edit may touch: the proxy frames each leg by itself (RFC 9112 §6), and
// Connection and what it controls belong to one leg (RFC 9110 §7.6.1).
var framing = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// compileEdits checks and sorts the edits of one direction; key is where they stand.
func compileEdits(key string, set map[string]string) ([]edit, error) {
	edits := make([]edit, 0, len(set))
	for name, value := range set {
		where := key + "." + name
		switch {
		case !isToken(name):
			return nil, invalid(where, "%q is not a field name", name)
		case slices.Contains(framing, strings.ToLower(name)):
			return nil, invalid(where, "%s is set by sluice and cannot be edited", name)
		case !isFieldValue(value):
			return nil, invalid(where, "the value has a line break, another control character or a space at its ends")
		}
		e := edit{lower: strings.ToLower(name)}
		if value != "" {
			e.line = []byte(name + ": " + value + "\r\n")
		}
		edits = append(edits, e)
	}
	slices.SortFunc(edits, func(a, b edit) int { return strings.Compare(a.lower, b.lower) })
	for i := 1; i < len(edits); i++ {
		if edits[i].lower == edits[i-1].lower {
			return nil, invalid(key+"."+edits[i].lower, "the field is named twice")
		}
	}
	return edits, nil
}

// editsOf tells the fields that edits are of; nil for none.
func editsOf(edits []edit) func(name []byte) bool {
	if len(edits) == 0 {
		return nil
	}
	return func(name []byte) bool { return edited(edits, name) != nil }
}

// isFieldValue tells what may stand in a field line (RFC 9110 §5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == strings.TrimSpace(s)
}
