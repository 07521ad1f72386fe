package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sluice/balancer"
)

// nameServer answers over UDP and TCP on one loopback port from records that the test sets.
type nameServer struct {
	port string

	mu      sync.Mutex
	records map[string][]string // "name. TYPE" → records in zone-file form
	rcode   int                 // for everything, when not 0
	cut     bool                // UDP answers are truncated
	asked   map[string]int      // by network
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	ns := &nameServer{records: map[string][]string{}, asked: map[string]int{}}
	var pc net.PacketConn
	var l net.Listener
	for range 10 { // a port that is free for both
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if l == nil {
		t.Fatal("no port")
	}
	_, ns.port, _ = net.SplitHostPort(l.Addr().String())
	for _, srv := range []*dns.Server{{PacketConn: pc}, {Listener: l}} {
		network := "udp"
		if srv.Listener != nil {
			network = "tcp"
		}
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(ns.reply(network, q)) })
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
		t.Cleanup(func() { srv.Shutdown() })
	}
	return ns
}

func (ns *nameServer) set(name, typ string, records ...string) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.records[name+" "+typ] = records
}

func (ns *nameServer) reply(network string, q *dns.Msg) *dns.Msg {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.asked[network]++
	m := new(dns.Msg).SetReply(q)
	if ns.rcode != 0 {
		m.Rcode = ns.rcode
		return m
	}
	name, typ := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
	records, found := ns.records[name+" "+typ]
	if !found {
		m.Rcode = dns.RcodeNameError
		for key := range ns.records {
			if strings.HasPrefix(key, name+" ") {
				m.Rcode = dns.RcodeSuccess
			}
		}
	}
	if ns.cut && network == "udp" {
		m.Truncated = true
		return m
	}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

// dnsRun runs a source of name against ns. Every pause it makes is sent to pauses, and lasts until
// the test sends to resume.
type dnsRun struct {
	src    *dnsSource
	sets   chan []balancer.ServerSpec
	pauses chan time.Duration
	resume chan struct{}
}

func runDNS(t *testing.T, ns *nameServer, name string) *dnsRun {
	t.Helper()
	r := &dnsRun{
		src:  NewDNS(name, slog.New(slog.DiscardHandler)).(*dnsSource),
		sets: make(chan []balancer.ServerSpec, 1), pauses: make(chan time.Duration), resume: make(chan struct{}),
	}
	r.src.resolver.hosts = filepath.Join(t.TempDir(), "hosts")
	r.src.resolver.config = func() (*dns.ClientConfig, error) {
		return &dns.ClientConfig{Servers: []string{"127.0.0.1"}, Port: ns.port, Search: []string{"search.test"}, Ndots: 1, Timeout: 2, Attempts: 1}, nil
	}
	r.src.pause = func(ctx context.Context, d time.Duration) error {
		select {
		case r.pauses <- d:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-r.resume:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.src.Run(ctx, r.sets)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// round waits for one resolution: the set it sent ("" when it sent none) and the pause after it.
func (r *dnsRun) round(t *testing.T) (string, time.Duration) {
	t.Helper()
	select {
	case d := <-r.pauses:
		select {
		case specs := <-r.sets:
			var ids []string
			for _, s := range specs {
				if s.ID != s.Addr {
					t.Errorf("ID %q of %q", s.ID, s.Addr)
				}
				ids = append(ids, s.Addr)
			}
			return strings.Join(ids, " "), d
		default:
			return "", d
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no resolution")
		return "", 0
	}
}

func (r *dnsRun) next(t *testing.T) (string, time.Duration) {
	t.Helper()
	r.resume <- struct{}{}
	return r.round(t)
}

func TestDNSFollowsTTL(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	ns.set("api.test.", "A", "api.test. 60 A 10.0.0.2", "api.test. 30 A 10.0.0.1", "api.test. 60 A 10.0.0.1")
	ns.set("api.test.", "AAAA", "api.test. 90 AAAA fd00::1")
	r := runDNS(t, ns, "api.test:8000")
	if got, ttl := r.round(t); got != "10.0.0.1:8000 10.0.0.2:8000 [fd00::1]:8000" || ttl != 30*time.Second {
		t.Errorf("%s for %s", got, ttl)
	}
	if got, _ := r.next(t); got != "" {
		t.Errorf("nothing changed and %q was sent", got)
	}
	ns.set("api.test.", "A", "api.test. 0 A 10.0.0.3")
	ns.set("api.test.", "AAAA")
	if got, ttl := r.next(t); got != "10.0.0.3:8000" || ttl != time.Second {
		t.Errorf("%s for %s", got, ttl)
	}
	ns.set("api.test.", "A", "api.test. 86400 A 10.0.0.3")
	if _, ttl := r.next(t); ttl != 5*time.Minute {
		t.Errorf("a day is bounded to %s", ttl)
	}
}

func TestDNSErrorKeepsTheLast(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	ns.set("api.test.", "A", "api.test. 60 A 10.0.0.1")
	r := runDNS(t, ns, "api.test:80")
	r.round(t)
	for _, tt := range []struct {
		rcode int
		why   string
	}{{dns.RcodeServerFailure, "SERVFAIL"}, {dns.RcodeNameError, "no such name"}, {dns.RcodeRefused, "REFUSED"}} {
		ns.mu.Lock()
		ns.rcode = tt.rcode
		ns.mu.Unlock()
		got, _ := r.next(t)
		notes := r.src.Notes()
		if got != "" || len(notes) != 1 || !strings.Contains(notes[0].Why, tt.why) || !strings.Contains(notes[0].Why, "last addresses are kept") {
			t.Errorf("%s: sent %q, %+v", tt.why, got, notes)
		}
	}
	if _, pause := r.next(t); pause != 8*time.Second {
		t.Errorf("the fourth error in a row pauses %s", pause)
	}
	ns.mu.Lock()
	ns.rcode = 0
	ns.mu.Unlock()
	ns.set("api.test.", "A") // an empty answer
	if got, _ := r.next(t); got != "" || len(r.src.Notes()) != 1 || !strings.Contains(r.src.Notes()[0].Why, "no address") {
		t.Errorf("empty: sent %q, %+v", got, r.src.Notes())
	}
	ns.set("api.test.", "A", "api.test. 60 A 10.0.0.9")
	if got, pause := r.next(t); got != "10.0.0.9:80" || pause != time.Minute || r.src.Notes() != nil {
		t.Errorf("%s for %s, %+v", got, pause, r.src.Notes())
	}
}

func TestDNSAliases(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	// One alias that the server follows, and one that it leaves to us.
	ns.set("api.test.", "A", "api.test. 20 CNAME mid.test.", "mid.test. 60 CNAME end.test.")
	ns.set("api.test.", "AAAA")
	ns.set("end.test.", "A", "end.test. 60 A 10.0.0.1")
	r := runDNS(t, ns, "api.test:80")
	if got, ttl := r.round(t); got != "10.0.0.1:80" || ttl != 20*time.Second {
		t.Errorf("%s for %s", got, ttl)
	}
	ns.set("end.test.", "A", "end.test. 60 CNAME api.test.") // a ring
	if got, _ := r.next(t); got != "" || len(r.src.Notes()) != 1 {
		t.Errorf("%q, %+v", got, r.src.Notes())
	}
}

func TestDNSSearchList(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	ns.set("api.search.test.", "A", "api.search.test. 60 A 10.0.0.1")
	if got, _ := runDNS(t, ns, "api:80").round(t); got != "10.0.0.1:80" {
		t.Errorf("%q", got)
	}
	if got, _ := runDNS(t, ns, "api.:80").round(t); got != "" {
		t.Errorf("a full name was searched: %q", got)
	}
}

func TestDNSOverTCP(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	ns.cut = true
	var records, want []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("api.test. 60 A 10.1.0.%d", i))
		want = append(want, fmt.Sprintf("10.1.0.%d:80", i))
	}
	ns.set("api.test.", "A", records...)
	got, _ := runDNS(t, ns, "api.test:80").round(t)
	if got != strings.Join(want, " ") || ns.asked["tcp"] == 0 {
		t.Errorf("%d addresses, %d questions over TCP", strings.Count(got, ":"), ns.asked["tcp"])
	}
}

func TestDNSLiteralsAndHosts(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	if got, _ := runDNS(t, ns, "[::1]:80").round(t); got != "[::1]:80" {
		t.Errorf("%q", got)
	}
	r := runDNS(t, ns, "Db.internal:80")
	r.round(t)
	hosts := "# 10.9.9.9 db.internal\n10.0.0.2 other db.internal # ours\n10.0.0.1\tDB.INTERNAL\nbad db.internal\n"
	if err := os.WriteFile(r.src.resolver.hosts, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.next(t); got != "10.0.0.1:80 10.0.0.2:80" {
		t.Errorf("%q", got)
	}
}

// When one of the two questions fails, its last answer stands in.
func TestDNSHalfAnAnswer(t *testing.T) {
	t.Parallel()
	ns := newNameServer(t)
	ns.set("api.test.", "A", "api.test. 60 A 10.0.0.1")
	ns.set("api.test.", "AAAA", "api.test. 60 AAAA fd00::1")
	r := runDNS(t, ns, "api.test:80")
	r.round(t)
	ns.set("api.test.", "A", "api.test. 60 A 10.0.0.2")
	ns.set("api.test.", "AAAA", "x. 60 CNAME api.test.") // no address, no error: gone
	if got, _ := r.next(t); got != "10.0.0.2:80" {
		t.Errorf("%q", got)
	}
	config, _ := r.src.resolver.config()
	r.src.resolver.last[dns.TypeAAAA] = []netip.Addr{netip.MustParseAddr("fd00::7")}
	ns.set("api.test.", "AAAA", "api.test. 60 CNAME api.test.") // a ring: an error
	addrs, _, err := r.src.resolver.lookup(t.Context(), config, "api.test.")
	if err == nil || !slices.Contains(addrs, netip.MustParseAddr("fd00::7")) || len(addrs) != 2 {
		t.Errorf("%v, %v", addrs, err)
	}
}

func TestBoundTTL(t *testing.T) {
	for _, tt := range []struct {
		ttl    uint32
		server string
		want   time.Duration
	}{
		{0, "10.0.0.1:53", time.Second}, {1, "10.0.0.1:53", time.Second}, {60, "10.0.0.1:53", time.Minute},
		{^uint32(0), "10.0.0.1:53", 5 * time.Minute}, {600, "127.0.0.11:53", 5 * time.Second}, {2, "127.0.0.11:53", 2 * time.Second},
	} {
		if got := boundTTL(tt.ttl, tt.server); got != tt.want {
			t.Errorf("%d from %s: %s, want %s", tt.ttl, tt.server, got, tt.want)
		}
	}
}

// A panic in either of the two queries is the caller's, who recovers from it.
func TestPanicInAQuery(t *testing.T) {
	var r resolver
	err := balancer.Guard(slog.New(slog.DiscardHandler), "test", func() error {
		_, _, err := r.lookup(t.Context(), nil, "api.test.") // no configuration to read
		return err
	})
	if err == nil {
		t.Error("no error")
	}
}
