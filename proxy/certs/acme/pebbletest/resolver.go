package pebbletest

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// resolver knows every name as 127.0.0.1.
type resolver struct {
	addr string

	mu    sync.Mutex
	asked []string
}

func newResolver(t testing.TB) *resolver {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // Pebble asks over TCP alone
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{addr: ln.Addr().String()}
	started := make(chan struct{})
	srv := &dns.Server{Listener: ln, Handler: r, NotifyStartedFunc: func() { close(started) }}
	go func() { _ = srv.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = srv.Shutdown() })
	return r
}

func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	for _, one := range q.Question {
		name := strings.ToLower(strings.TrimSuffix(one.Name, "."))
		r.mu.Lock()
		if !slices.Contains(r.asked, name) {
			r.asked = append(r.asked, name)
		}
		r.mu.Unlock()
		if one.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: one.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
			})
		}
	}
	_ = w.WriteMsg(m)
}

func (r *resolver) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}
