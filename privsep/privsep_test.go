package privsep

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/scaler"
)

// engine is a source and a driver whose world is a list.
type engine struct {
	sets    chan []balancer.ServerSpec
	changed chan struct{}

	mu    sync.Mutex
	list  []scaler.Replica
	calls []order
	err   error
}

func (e *engine) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	for {
		select {
		case set := <-e.sets:
			out <- set
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *engine) Notes() []discovery.Note { return []discovery.Note{{ID: "x", Why: "paused"}} }

func (e *engine) Changed() <-chan struct{} { return e.changed }

func (e *engine) List(context.Context) ([]scaler.Replica, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list), e.err
}

func (e *engine) Scale(_ context.Context, n int, victims []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, order{N: n, Victims: victims})
	return e.err
}

func (e *engine) set(list ...scaler.Replica) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = list
}

func (e *engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *engine) asked() []order {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// scalerAt serves one upstream "api" with at most 3 replicas on the socket; it ends with the test, or before.
func scalerAt(t *testing.T, path string, e *engine, driver scaler.Driver) (end func()) {
	t.Helper()
	l, err := Listen(path, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	held := NewHeld("api", e, driver, nil, Bounds{Max: 3}, quiet)
	s := NewServer(quiet)
	s.Hold(Engine{Kind: "docker", Why: "it is there"}, map[string]*Held{"api": held})
	var all sync.WaitGroup
	all.Go(func() { held.Run(ctx) })
	all.Go(func() { _ = s.Serve(l) })
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			s.Close()
			_ = l.Close()
			all.Wait()
		})
	}
	t.Cleanup(end)
	return end
}

func newEngine() *engine {
	return &engine{sets: make(chan []balancer.ServerSpec), changed: make(chan struct{}, 1), list: []scaler.Replica{
		{ID: "a", State: scaler.ReplicaRunning}, {ID: "fixed", State: scaler.ReplicaRunning, Fixed: true},
	}}
}

func start(t *testing.T) (path string, e *engine) {
	t.Helper()
	path, e = filepath.Join(t.TempDir(), "run", "scaler.sock"), newEngine()
	scalerAt(t, path, e, e)
	return path, e
}

func TestScaleWithinTheBounds(t *testing.T) {
	path, e := start(t)
	r := NewClient(path).Remote("api", "docker", quiet)
	ctx := t.Context()
	list, err := r.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "a" || !list[1].Fixed {
		t.Fatalf("list: %v, %v", list, err)
	}
	for _, n := range []int{0, 3} {
		if err := r.Scale(ctx, n, []string{"a"}); err != nil {
			t.Errorf("scale to %d: %v", n, err)
		}
	}
	want := fmt.Sprint([]order{{N: 0, Victims: []string{"a"}}, {N: 3, Victims: []string{"a"}}})
	if got := fmt.Sprint(e.asked()); got != want {
		t.Errorf("the driver was asked %s, want %s", got, want)
	}
	e.set() // a victim that went by itself meanwhile counts as gone
	if err := r.Scale(ctx, 1, []string{"a"}); err != nil {
		t.Errorf("a victim that is gone: %v", err)
	}
	if last := e.asked()[2]; len(last.Victims) != 0 {
		t.Errorf("the driver was asked for %v", last)
	}
}

func TestWhatIsNotAllowedIsRefused(t *testing.T) {
	path, e := start(t)
	client := NewClient(path)
	for _, tc := range []struct {
		upstream string
		n        int
		victims  []string
		why      string
	}{
		{"api", 4, nil, "4 replicas of upstream api are not within 0 to 3"},
		{"api", -1, nil, "not within"},
		{"api", 1 << 40, nil, "not within"},
		{"api", 1, []string{"stranger"}, `"stranger" is no replica of upstream api`},
		{"api", 1, []string{"a", "stranger"}, "is no replica"},
		{"api", 1, []string{"fixed"}, "is never stopped"},
		{"other", 1, nil, `no upstream "other"`},
		{"", 1, nil, "no upstream"},
	} {
		err := client.Remote(tc.upstream, "docker", quiet).Scale(t.Context(), tc.n, tc.victims)
		if !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), tc.why) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	if calls := e.asked(); len(calls) != 0 {
		t.Errorf("the driver was asked: %v", calls)
	}
}

func TestMostOf(t *testing.T) {
	run := func(n int, outdated bool) (list []scaler.Replica) {
		for range n {
			list = append(list, scaler.Replica{State: scaler.ReplicaRunning, Outdated: outdated})
		}
		return list
	}
	for _, tc := range []struct {
		max, victims int
		list         []scaler.Replica
		want         int
	}{
		{3, 0, nil, 3},
		{3, 0, run(3, false), 3},
		{3, 0, run(3, true), 4},  // one more while it is replaced
		{0, 0, run(1, true), 1},  // but nothing starts where nothing may run
		{2, 1, run(5, false), 4}, // max was lowered: they go one after another
		{2, 0, append(run(2, false), scaler.Replica{State: scaler.ReplicaFailed}), 2},
	} {
		if got := mostOf(tc.max, tc.list, tc.victims); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

func TestErrorsOfTheDriverKeepTheirMeaning(t *testing.T) {
	path, e := start(t)
	r := NewClient(path).Remote("api", "docker", quiet)
	for _, tc := range []struct{ err, is, isNot error }{
		{fmt.Errorf("no such image: %w", scaler.ErrStart), scaler.ErrStart, scaler.ErrRefused},
		{fmt.Errorf("no right: %w", scaler.ErrRefused), scaler.ErrRefused, scaler.ErrStart},
		{errors.New("connection lost"), nil, scaler.ErrRefused},
	} {
		e.fail(tc.err)
		_, err := r.List(t.Context())
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) || errors.Is(err, tc.isNot) || err.Error() != tc.err.Error() {
			t.Errorf("%v became %v", tc.err, err)
		}
	}
}

// chooses is an engine that picks its victims itself.
type chooses struct{ *engine }

func (chooses) Chooses() {}

func TestNoVictimsWhereTheEngineChooses(t *testing.T) {
	path, e := filepath.Join(t.TempDir(), "s"), newEngine()
	scalerAt(t, path, e, chooses{e})
	r := NewClient(path).Remote("api", "docker", quiet)
	if err := r.Scale(t.Context(), 1, []string{"a"}); !errors.Is(err, scaler.ErrRefused) {
		t.Errorf("victims: %v", err)
	}
	if err := r.Scale(t.Context(), 1, nil); err != nil {
		t.Error(err)
	}
	if _, ok := NewClient(path).Remote("api", "swarm", quiet).Driver().(scaler.Chooser); !ok {
		t.Error("the driver does not say that the engine chooses")
	}
}

// raw sends bytes and reads the answer.
func raw(t *testing.T, path, text string) (code int, body string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = io.WriteString(c, text) }()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all)
}

func TestHostileRequests(t *testing.T) {
	path, e := start(t)
	post := func(body string) string {
		return fmt.Sprintf("POST /v1/scale HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for name, tc := range map[string]struct {
		text string
		code int
	}{
		"an unknown verb":         {"POST /v1/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 403},
		"the engine's own API":    {"GET /v1.41/containers/json HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		"a verb with a method":    {"DELETE /v1/list HTTP/1.1\r\nHost: x\r\n\r\n", 403},
		"a huge body":             {post(`{"upstream":"api","n":1,"victims":["` + strings.Repeat("a", 1<<20) + `"]}`), 413},
		"a huge head":             {"GET /v1/list HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", 431},
		"an unknown key":          {post(`{"upstream":"api","n":1,"image":"evil"}`), 403},
		"no JSON":                 {post(`n=1`), 403},
		"more behind the order":   {post(`{"upstream":"api","n":1}{"upstream":"api","n":2}`), 403},
		"a number out of any int": {post(`{"upstream":"api","n":1e99}`), 403},
		"a name of many bytes":    {post(`{"upstream":"` + strings.Repeat("a", 1000) + `","n":1}`), 403},
	} {
		code, body := raw(t, path, tc.text)
		if code != tc.code {
			t.Errorf("%s: %d %s", name, code, body)
		}
		var f failure
		if tc.code != 431 && (json.Unmarshal([]byte(body), &f) != nil || f.Message == "" || len(f.Message) > 300) {
			t.Errorf("%s is refused without a short reason: %.400s", name, body)
		}
	}
	if calls := e.asked(); len(calls) != 0 {
		t.Errorf("the driver was asked: %v", calls)
	}
}

// One who sends half a request is cut, and keeps nobody else from being answered.
func TestSlowClient(t *testing.T) {
	path, _ := start(t)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /v1/list HTTP/1.1\r\nHo"); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Engine(t.Context()); err != nil {
		t.Errorf("another client meanwhile: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("it is not cut: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	path, _ := start(t)
	for range connsMost {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if code, body := raw(t, path, "GET /v1/list HTTP/1.1\r\nHost: x\r\n\r\n"); code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d %s", code, body)
	}
}

// The kernel says who connects: another user is turned away whatever the socket's mode is, and let in when named.
func TestOtherUsersAreTurnedAway(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("another user id can only be taken by root")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl")
	}
	const other = 65531
	folder, err := os.MkdirTemp("", "privsep-") // t.TempDir is open to its owner only
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // others are to come as far as the socket
		t.Fatal(err)
	}
	path := filepath.Join(folder, "s")
	l, err := Listen(path, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(quiet)
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	defer l.Close()
	ask := func(uid uint32) string {
		cmd := exec.Command(curl, "-s", "--max-time", "20", "--unix-socket", path, "-w", " %{http_code}", "http://x/v1/list")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if got := ask(other); !strings.HasSuffix(got, " 000") {
		t.Errorf("mode 0600: %s", got)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	if got := ask(other); !strings.HasSuffix(got, " 403") || !strings.Contains(got, "user id 65531 ") {
		t.Errorf("not among the clients: %s", got)
	}
	if got := ask(0); !strings.HasSuffix(got, " 200") {
		t.Errorf("its own user: %s", got)
	}
	if err := l.Allow([]int{other}); err != nil {
		t.Fatal(err)
	}
	if got := ask(other); !strings.HasSuffix(got, " 200") {
		t.Errorf("among the clients: %s", got)
	}
	if got := ask(0); !strings.HasSuffix(got, " 403") {
		t.Errorf("its own user, when only another is named: %s", got)
	}
}

func TestListen(t *testing.T) {
	folder := t.TempDir()
	open := filepath.Join(folder, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { //nolint:gosec // that is the test
		t.Fatal(err)
	}
	if _, err := Listen(filepath.Join(open, "s"), nil, quiet); err == nil || !strings.Contains(err.Error(), "everybody can write") {
		t.Errorf("a folder open to all: %v", err)
	}
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, nil, quiet); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	path := filepath.Join(folder, "s")
	first, err := Listen(path, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := Listen(path, nil, quiet); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("one that answers: %v", err)
	}
	_ = first.UnixListener.Close() // as a kill would: the socket stays
	second, err := Listen(path, nil, quiet)
	if err != nil {
		t.Fatalf("what a dead one left: %v", err)
	}
	_ = first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first took the second's socket along: %v", err)
	}
	_ = second.Close()
	if left, _ := os.ReadDir(folder); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// The last servers stay while the scaler is away; what it says when it is back counts.
func TestServersOutliveTheScaler(t *testing.T) {
	path, e := filepath.Join(t.TempDir(), "s"), newEngine()
	end := scalerAt(t, path, e, e)
	r := NewClient(path).Remote("api", "docker", quiet)
	sets := make(chan []balancer.ServerSpec)
	go func() { _ = r.Run(t.Context(), sets) }()
	want := func(what, ids string) {
		t.Helper()
		select {
		case set := <-sets:
			var got []string
			for _, s := range set {
				got = append(got, s.ID)
			}
			if strings.Join(got, " ") != ids {
				t.Errorf("%s: servers %v, want %q", what, got, ids)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no servers within 30 s", what)
		}
	}
	noted := func(why string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			notes := r.Notes()
			if len(notes) == 1 && strings.Contains(notes[0].Why, why) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("notes %v, want %q", notes, why)
			}
		}
	}
	e.sets <- []balancer.ServerSpec{{ID: "a", Addr: "127.0.0.1:1"}}
	want("the first set", "a")
	noted("paused")
	<-r.Changed()
	e.changed <- struct{}{}
	select {
	case <-r.Changed():
	case <-time.After(30 * time.Second):
		t.Error("a change of the driver's list is not told")
	}
	end()
	noted("the last servers are kept")
	if err := r.Scale(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "does not answer") || errors.Is(err, scaler.ErrRefused) {
		t.Errorf("scale: %v", err)
	}

	again := newEngine()
	scalerAt(t, path, again, again)
	noted("paused") // it answers, and does not know yet: nothing is sent
	select {
	case set := <-sets:
		t.Errorf("servers %v of a scaler that knows none yet", set)
	case <-time.After(50 * time.Millisecond):
	}
	again.sets <- []balancer.ServerSpec{{ID: "b", Addr: "127.0.0.1:2"}}
	want("after the restart", "b")
}

// A scaler that hangs is told from one that has nothing new.
func TestSilentScaler(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path) // connects, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := NewClient(path).Remote("api", "docker", quiet)
	err = r.follow(t.Context(), func([]balancer.ServerSpec) { t.Error("servers from nowhere") })
	if err == nil || !strings.Contains(err.Error(), "silent") {
		t.Errorf("%v", err)
	}
}

func TestUnknownUpstreamAndOtherEngine(t *testing.T) {
	path, e := start(t)
	strange := NewClient(path).Remote("strange", "docker", quiet)
	if err := strange.follow(t.Context(), nil); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), `no upstream "strange"`) {
		t.Errorf("%v", err)
	}
	r := NewClient(path).Remote("api", "swarm", quiet)
	if err := r.Scale(t.Context(), 1, nil); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "the engine is docker") {
		t.Errorf("an order for another engine: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = r.Run(ctx, make(chan []balancer.ServerSpec)) }()
	e.sets <- nil
	for deadline := time.Now().Add(30 * time.Second); r.wrong() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("another engine is not noticed")
		}
	}
	if err := r.Scale(ctx, 1, nil); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "docker now and was swarm") {
		t.Errorf("%v", err)
	}
}
