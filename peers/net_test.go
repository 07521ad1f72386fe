package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/balancer"
)

const testToken = "a token that is long enough"

// book is a directory that the test writes.
type book struct {
	mu    sync.Mutex // guards all below
	lines []string
	err   error
	read  int
}

func (b *book) Addresses(context.Context) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read++
	return slices.Clone(b.lines), b.err
}

// write returns when the members of the book have had the time to read it.
func (b *book) write(t *testing.T, err error, lines ...string) {
	t.Helper()
	b.mu.Lock()
	b.lines, b.err = lines, err
	was := b.read
	b.mu.Unlock()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		b.mu.Lock()
		read := b.read
		b.mu.Unlock()
		if read >= was+2 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody reads the book")
		}
	}
}

// freeAddress was free a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func joinNet(t *testing.T, address, token, id string, d Directory) *Net {
	t.Helper()
	n, err := JoinNet(address, token, id, d, func() []byte { return fmt.Appendf(nil, `{"gateway": %q}`, id) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Leave)
	return n
}

// wantMembers asks until they are so, as the directory is read beside.
func wantMembers(t *testing.T, n *Net, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, err = n.Members(t.Context()); err == nil && slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("%s sees %v, %v; want %v", n.id, got, err, want)
}

// An address has the name of who answers there, and its own as long as nobody ever did; who takes an address over is
// another gateway, and one that falls silent is a member still.
func TestNetLearnsWhoIsThere(t *testing.T) {
	one, two, nobody := freeAddress(t), freeAddress(t), freeAddress(t)
	pages := &book{lines: []string{one, two}}
	a := joinNet(t, one, testToken, "a", pages)
	wantMembers(t, a, "a", two)
	if _, err := a.Fetch(t.Context(), two); err == nil {
		t.Error("somebody answers where nobody is")
	}
	b := joinNet(t, two, testToken, "b", pages)
	wantMembers(t, a, "a", "b")
	wantMembers(t, b, "a", "b")
	if body, err := a.Fetch(t.Context(), "b"); err != nil || string(body) != `{"gateway": "b"}` {
		t.Errorf("%s, %v", body, err)
	}
	b.Leave()
	wantMembers(t, a, "a", "b")
	if _, err := a.Fetch(t.Context(), "b"); err == nil {
		t.Error("b still answers")
	}
	joinNet(t, two, testToken, "c", pages) // the container was started again
	wantMembers(t, a, "a", "c")
	pages.write(t, nil, one, two, nobody)
	wantMembers(t, a, "a", "c", nobody)
	pages.write(t, nil, one)
	wantMembers(t, a, "a")
}

// A list without this gateway, and none at all, leave all as it was; the others are heard meanwhile.
func TestNetKeepsTheLastList(t *testing.T) {
	one, two := freeAddress(t), freeAddress(t)
	pages := &book{lines: []string{two}}
	a, b := joinNet(t, one, testToken, "a", pages), joinNet(t, two, testToken, "b", pages)
	wantMembers(t, b, "b")
	if _, err := a.Members(t.Context()); !errors.Is(err, errUnlisted) {
		t.Errorf("a gateway that nobody can see: %v", err)
	}
	pages.write(t, nil, one, two)
	wantMembers(t, a, "a", "b")
	away := errors.New("away")
	for _, step := range []struct {
		err   error
		lines []string
		want  error
	}{{away, nil, away}, {nil, []string{two}, errUnlisted}, {nil, nil, errUnlisted}} {
		pages.write(t, step.err, step.lines...)
		if got, err := a.Members(t.Context()); !errors.Is(err, step.want) {
			t.Errorf("%v: %v, %v", step, got, err)
		}
		if _, err := a.Fetch(t.Context(), "b"); err != nil {
			t.Errorf("%v: %v", step, err)
		}
	}
}

// Whoever does not have the token learns nothing and is not believed.
func TestNetAsksForTheToken(t *testing.T) {
	one, two := freeAddress(t), freeAddress(t)
	pages := &book{lines: []string{one, two}}
	a := joinNet(t, one, testToken, "a", pages)
	b := joinNet(t, two, testToken+"x", "b", pages)
	wantMembers(t, a, "a", two)
	wantMembers(t, b, one, "b")

	nonce := strings.Repeat("0", 2*nonceBytes)
	get := func(nonce, proof string) (status int, token string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+one+reportPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(headerNonce, nonce)
		req.Header.Set(headerProof, proof)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get(headerProof)
	}
	good := proof([]byte(testToken), "ask", nonce, nil)
	status, answered := get(nonce, good)
	if status != http.StatusOK || answered != proof([]byte(testToken), "report", nonce, []byte(`{"gateway": "a"}`)) {
		t.Errorf("with the token: %d, %s", status, answered)
	}
	for name, ask := range map[string][2]string{
		"no proof": {nonce, ""}, "no nonce": {"", proof([]byte(testToken), "ask", "", nil)},
		"another nonce": {strings.Repeat("1", 2*nonceBytes), good}, "an answer's proof": {nonce, answered},
	} {
		if status, _ := get(ask[0], ask[1]); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	// What an old answer proved proves nothing for another question.
	replay := freeAddress(t)
	ln, err := net.Listen("tcp", replay)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // of a test
		w.Header().Set(headerProof, answered)
		_, _ = w.Write([]byte(`{"gateway": "a"}`))
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	if got, err := ask(t.Context(), newClient(), []byte(testToken), replay); err == nil {
		t.Errorf("a replayed answer is believed: %+v", got)
	}
}

// Without a list nobody acts, and no slot that is bounded is used; with one that this gateway is alone in, all are.
func TestGroupBeforeTheFirstList(t *testing.T) {
	one := freeAddress(t)
	pages := &book{err: errors.New("away")}
	n := joinNet(t, one, testToken, "a", pages)
	g := NewGroup(Options{
		ID: "a", Membership: n, Lease: NewStoreLease(&link{memStore: &memStore{record: Record{Term: 7}, version: 1}}, "a", quiet()),
		Changed: func(bool, int) {}, Log: quiet(),
	})
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 4
	u := balancer.NewUpstream("api", cfg)
	s := g.Share(u)
	u.Update([]balancer.ServerSpec{{ID: "s", Addr: "127.0.0.1:1"}}, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	first, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx, func() { close(first) })
	}()
	defer func() { cancel(); <-ended }()
	<-first
	pages.write(t, pages.err)
	if _, complete := s.Read(time.Now()); complete || g.Acts() || s.part("s", 4) != -1 || g.Status().Trouble == nil || len(g.Status().Members) != 0 {
		t.Errorf("never listed: complete %v, acts %v, %d slots, %+v", complete, g.Acts(), s.part("s", 4), g.Status())
	}
	pages.write(t, nil, one)
	for end := time.Now().Add(15 * time.Second); !g.Acts() || s.part("s", 4) != 4; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("alone: acts %v, %d slots", g.Acts(), s.part("s", 4))
		}
	}
}
