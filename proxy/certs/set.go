package certs

import (
	"cmp"
	"crypto/tls"
	"slices"
	"strings"
)

// set is the certificates by name. It is never changed.
type set struct {
	all       []*Certificate            // in the order of the configuration
	exact     map[string][]*Certificate // each list: what costs less first
	wildcards map[string][]*Certificate // "*.example.com" under "example.com"
	others    []*Certificate            // for hosts that none is for: the first one, and those with another key for a name of it
}

func newSet(all []*Certificate) *set {
	s := &set{all: all, exact: map[string][]*Certificate{}, wildcards: map[string][]*Certificate{}}
	for i, c := range all {
		if i == 0 || shared(all[0], c) != "" {
			s.others = append(s.others, c)
		}
		for _, name := range c.names {
			if parent, wild := strings.CutPrefix(name, "*."); wild {
				s.wildcards[parent] = append(s.wildcards[parent], c)
			} else {
				s.exact[name] = append(s.exact[name], c)
			}
		}
	}
	cheapest := func(a, b *Certificate) int { return cmp.Compare(a.kind, b.kind) }
	slices.SortStableFunc(s.others, cheapest)
	for _, by := range []map[string][]*Certificate{s.exact, s.wildcards} {
		for _, list := range by {
			slices.SortStableFunc(list, cheapest)
		}
	}
	return s
}

// shared is the first name that both are for; "" when there is none.
func shared(a, b *Certificate) string {
	for _, name := range a.names {
		if _, both := slices.BinarySearch(b.names, name); both {
			return name
		}
	}
	return ""
}

// Overlap is a name for which a and b stand with keys of the same kind, so that one of them would never be shown; "" when there is none.
func Overlap(a, b *Certificate) string {
	if a.kind != b.kind {
		return ""
	}
	return shared(a, b)
}

// named are the certificates for a host in lower case: of its own name, else of the wildcard above it.
func (s *set) named(host string) []*Certificate {
	if list := s.exact[host]; list != nil {
		return list
	}
	if at := strings.IndexByte(host, '.'); at > 0 {
		return s.wildcards[host[at+1:]]
	}
	return nil
}

// choose takes the first that the client can use; where it can use none the first, and the handshake tells the client.
func choose(list []*Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(list) == 0 {
		return nil
	}
	if len(list) > 1 {
		for _, c := range list {
			if hello.SupportsCertificate(&c.Certificate) == nil {
				return &c.Certificate
			}
		}
	}
	return &list[0].Certificate
}
