package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// webSockets is a server that greets by the path, echoes, and remembers the codes that connections were closed with.
type webSockets struct {
	addr  string
	mu    sync.Mutex // guards codes
	codes map[int]int
}

func startWebSockets(t testing.TB) *webSockets {
	s := &webSockets{codes: map[int]int{}}
	up := websocket.Upgrader{}
	s.addr = serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.WriteMessage(websocket.TextMessage, []byte("hello "+r.URL.Path))
		for {
			kind, message, err := c.ReadMessage()
			if err != nil {
				s.note(err)
				return
			}
			if string(message) == "leave" {
				_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "as you wish"), time.Now().Add(5*time.Second))
				_, _, err := c.ReadMessage()
				s.note(err)
				return
			}
			if err := c.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})
	return s
}

func (s *webSockets) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[closeCode(err)]++
}

// closeCode is what the other side closed with; 0 when it did not say.
func closeCode(err error) int {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return e.Code
	}
	return 0
}

func (s *webSockets) closed(code int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes[code]
}

// descriptorsFor is how many times per descriptors may be open at once, at most n.
func descriptorsFor(t *testing.T, n, per int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	return max(1, min(n, (int(min(limit.Cur, 1<<20))-200)/per))
}

// A thousand WebSockets: both directions, close codes from either side, nothing crossed and nothing left behind.
func TestThousandWebSockets(t *testing.T) {
	const total = 1000
	s := startWebSockets(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), s.addr)
	atOnce := descriptorsFor(t, total, 4) // the client's, ours to both sides and the server's
	goroutines := runtime.NumGoroutine()
	for first := 0; first < total; first += atOnce {
		webSocketsAtOnce(t, g, first, min(atOnce, total-first))
	}
	g.eventually("all codes have come", func() bool { return s.closed(4000) == total/2 && s.closed(4001) == total/2 })
	u := g.ups["a"]
	g.eventually("all slots are free", func() bool { return u.InFlight() == 0 })
	g.eventually("all connections are gone", func() bool {
		open, active := g.server.Conns()
		return open == 0 && active == 0 && u.Servers()[0].Attached().(*server).Live() == 0
	})
	g.eventually("goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+4 })
}

func webSocketsAtOnce(t *testing.T, g *gateway, first, n int) {
	t.Helper()
	var opened, done sync.WaitGroup
	opened.Add(n)
	leave := make(chan bool)
	dials := make(chan bool, 32)
	var failed atomic.Int32
	for i := range n {
		done.Go(func() {
			open := sync.OnceFunc(opened.Done)
			defer open()
			if err := oneWebSocket(g, first+i, dials, open, leave); err != nil && failed.Add(1) < 10 {
				t.Errorf("%d: %v", first+i, err)
			}
		})
	}
	opened.Wait()
	if inFlight := g.ups["a"].InFlight(); inFlight != n-int(failed.Load()) {
		t.Errorf("%d in flight with %d open", inFlight, n)
	}
	close(leave)
	done.Wait()
}

func oneWebSocket(g *gateway, i int, dials chan bool, open func(), leave chan bool) error {
	dials <- true
	c, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://%s/%d", g.addr, i), nil)
	<-dials
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
	expect := func(want string) error {
		if _, got, err := c.ReadMessage(); err != nil || string(got) != want {
			return fmt.Errorf("%q instead of %q, %w", got, want, err)
		}
		return nil
	}
	if err := expect(fmt.Sprintf("hello /%d", i)); err != nil {
		return err
	}
	open()
	for round := range 3 {
		say := fmt.Sprintf("%d says %d", i, round)
		if err := c.WriteMessage(websocket.TextMessage, []byte(say)); err != nil {
			return err
		}
		if err := expect(say); err != nil {
			return err
		}
		if round == 0 {
			<-leave
		}
	}
	want := 4000
	if i%2 == 0 {
		err = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(want, "bye"), time.Now().Add(10*time.Second))
	} else {
		want = 4001
		err = c.WriteMessage(websocket.TextMessage, []byte("leave"))
	}
	if err != nil {
		return err
	}
	if _, _, err := c.ReadMessage(); closeCode(err) != want { // the answer to a close has its code
		return fmt.Errorf("closed by %w, want %d", err, want)
	}
	return nil
}

// Silence on both sides ends a WebSocket after timeouts.idle; traffic in either direction alone keeps it.
func TestWebSocketsLiveByEitherDirection(t *testing.T) {
	up := DefaultUpstreamConfig()
	up.Timeouts.Idle = time.Second
	s := startWebSockets(t)
	g := newGateway(t, balancer.DefaultConfig(), up, one(RouteConfig{}), s.addr)
	c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 8 { // pongs that nobody asked for get no answer: one direction only
		time.Sleep(200 * time.Millisecond)
		if err := c.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteMessage(websocket.TextMessage, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hello /", "still here"} {
		if _, got, err := c.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	silent := time.Now()
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("a silent WebSocket lived on")
	}
	if took := time.Since(silent); took < up.Timeouts.Idle/2 || took > 10*up.Timeouts.Idle {
		t.Errorf("ended after %v of silence", took)
	}
	g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
}

// At the end of the drain every WebSocket is told 1001; until then it works.
func TestDrainEndsWebSocketsWithGoingAway(t *testing.T) {
	const n = 100
	s := startWebSockets(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), s.addr)
	var all []*websocket.Conn
	for i := range n {
		c, _, err := websocket.DefaultDialer.Dial(fmt.Sprintf("ws://%s/%d", g.addr, i), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, _, err := c.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	ctx, deadline := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- g.server.Shutdown(ctx) }()
	for _, c := range all {
		_ = c.WriteMessage(websocket.TextMessage, []byte("still here"))
		if _, got, err := c.ReadMessage(); err != nil || string(got) != "still here" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	deadline()
	if cut, ok := errors.AsType[*http1.CutError](<-down); !ok || cut.Conns != n {
		t.Errorf("%v, want %d cut", cut, n)
	}
	for i, c := range all {
		if _, _, err := c.ReadMessage(); closeCode(err) != websocket.CloseGoingAway {
			t.Errorf("%d: %v", i, err)
		}
	}
	g.eventually("all slots are free", func() bool { return g.ups["a"].InFlight() == 0 })
}
