package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// What is cut at the end of the drain is logged and counted as that, all of it before Shutdown returns, and says nothing of its server.
func TestDrainSaysWhatItCuts(t *testing.T) {
	started := make(chan bool)
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			_, _ = io.WriteString(w, "event")
			w.(http.Flusher).Flush()
		case "/upload":
			started <- true
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		started <- true
		<-r.Context().Done()
	})
	for path, more := range map[string]string{"/wait": "\n", "/stream": "\n", "/upload": "Content-Length: 9\n\nx"} {
		c := g.dial()
		defer c.Close()
		c.send("POST " + path + " HTTP/1.1\nHost: x\n" + more)
		<-started
		if path == "/stream" {
			c.head("POST")
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if cut, ok := errors.AsType[*http1.CutError](g.server.Shutdown(ctx)); !ok || cut.Conns != 3 {
		t.Errorf("%v", cut)
	}
	g.access.Flush()
	g.log.mu.Lock()
	text := g.log.b.String()
	g.log.mu.Unlock()
	if n := strings.Count(text, `"reason":"draining"`); n != 3 {
		t.Errorf("%d of 3 are logged as cut by the drain:\n%s", n, text)
	}
	for _, line := range g.lines(3) {
		if want := map[any]float64{"/wait": 503, "/upload": 503, "/stream": 200}[line["path"]]; line["status"] != want {
			t.Errorf("%v: %v", line["path"], line["status"])
		}
	}
	for _, s := range g.ups["a"].Servers() {
		if state, why := s.State(time.Now()); state != balancer.StateReady {
			t.Errorf("the server is %v: %s", state, why)
		}
	}
}
