package main

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// long is a stream or a WebSocket that goes on until somebody ends it.
type long struct {
	kind  string
	close func()

	mu    sync.Mutex // guards all below
	moved time.Time  // when something last came
	ended time.Time  // zero: it goes on
	err   error      // what it ended with; nil: as if it were complete
}

func (l *long) move() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved = time.Now()
}

func (l *long) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended, l.err = time.Now(), err
}

func (l *long) state() (moved, ended time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.moved, l.ended, l.err
}

// tokens opens a stream of server-sent events that is far longer than the test.
func tokens(t *testing.T, url string) *long {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{}}).Post(url+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"demo","stream":true,"max_tokens":100000,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	l := &long{kind: "stream", close: func() { resp.Body.Close() }}
	t.Cleanup(l.close)
	go func() {
		lines := bufio.NewReader(resp.Body)
		for {
			if _, err := lines.ReadString('\n'); err != nil {
				if errors.Is(err, io.EOF) { // the end that the framing tells; a cut is another error
					err = nil
				}
				l.end(err)
				return
			}
			l.move()
		}
	}()
	return l
}

// socket opens a WebSocket on which a message goes to and fro all the time.
func socket(t *testing.T, url string) *long {
	t.Helper()
	c, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	l := &long{kind: "WebSocket", close: func() { c.Close() }}
	t.Cleanup(l.close)
	go func() {
		for {
			_ = c.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", 1000))) // what is wrong, reading tells
			if _, _, err := c.ReadMessage(); err != nil {
				l.end(err)
				return
			}
			l.move()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	return l
}

// stopSignals are when containers were told to stop since then, by the engine's events.
func (d dockerEngine) stopSignals(label string, since time.Time) (at []time.Time) {
	d.t.Helper()
	stamp := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	out := d.run("events", "--since", stamp(since), "--until", stamp(time.Now().Add(time.Second)), "--filter", "label="+label, "--filter", "event=kill", "--format", "{{.TimeNano}} {{.Actor.Attributes.signal}}")
	for _, line := range strings.Split(out, "\n") {
		nano, signal, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseInt(nano, 10, 64); err == nil && signal == "15" {
			at = append(at, time.Unix(0, n))
		}
	}
	return at
}

// At a scale-down nothing is cut before drain_timeout is over. Then sluice itself closes the WebSockets, with code
// 1001, before the replica is told to stop; a stream has the replica's own grace too, and when that is over it is cut
// so that its client sees it.
func TestScaleDownEndsStreamsAtTheDeadline(t *testing.T) {
	d, owner := docker(t)
	const drain = 8 * time.Second
	config := containerConfig(owner, d.image(owner), d.socket(), `min = 1, max = 2, cooldown_down = "1s", drain_timeout = "8s"`)
	// The replicas say no goodbye of their own before they are killed, and work on many requests at once.
	config = strings.Replace(config, `"--concurrency", "4"`, `"--concurrency", "0", "--lame-duck", "60s", "--token-time", "50ms"`, 1)
	config = strings.Replace(config, "max_conns = 4", "max_conns = 100", 1)
	config = strings.Replace(config, `stop_grace = "5s"`, `stop_grace = "3s"`, 1)
	s := start(t, config)
	s.pin("api", 2)
	s.waitReplicas("api", 2, 60*time.Second)
	var all []*long
	for range 4 {
		all = append(all, tokens(t, s.url))
	}
	for range 4 {
		all = append(all, socket(t, s.url))
	}
	for _, server := range s.upstream("api").Servers {
		if server.InFlight != 4 {
			t.Fatalf("not spread evenly: %+v", s.upstream("api").Servers)
		}
	}
	begun := time.Now()
	s.pin("api", 1)
	within(t, 90*time.Second, "one container is left", func() bool { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) == 1 })
	s.waitReplicas("api", 1, 20*time.Second)
	stops := d.stopSignals("sluice.owner="+owner, begun)
	if len(stops) != 1 {
		t.Fatalf("told to stop at %v", stops)
	}

	ended := map[string]int{}
	for _, l := range all {
		_, at, err := l.state()
		if at.IsZero() {
			continue
		}
		ended[l.kind]++
		after := at.Sub(begun).Round(10 * time.Millisecond)
		t.Logf("%s ended %s after the decision, %s after the stop signal: %v", l.kind, after, at.Sub(stops[0]).Round(10*time.Millisecond), err)
		if at.Sub(begun) < drain {
			t.Errorf("%s was cut after %s, drain_timeout is %s", l.kind, after, drain)
		}
		switch l.kind {
		case "WebSocket":
			if !websocket.IsCloseError(err, websocket.CloseGoingAway) || at.After(stops[0]) {
				t.Errorf("a WebSocket ended with %v, %s after the replica was told to stop", err, at.Sub(stops[0]))
			}
		case "stream":
			if err == nil {
				t.Error("a stream that was cut looks complete")
			}
		}
	}
	if ended["stream"] != 2 || ended["WebSocket"] != 2 {
		t.Errorf("ended: %v", ended)
	}
	if !strings.Contains(s.log.String(), "drain_timeout is over") {
		t.Error("the log does not say what was cut")
	}
	now := time.Now()
	within(t, 20*time.Second, "the others go on", func() bool {
		going := 0
		for _, l := range all {
			if moved, at, _ := l.state(); at.IsZero() && moved.After(now) {
				going++
			}
		}
		return going == 4
	})
}
