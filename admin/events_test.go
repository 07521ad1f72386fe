package admin

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// next reads one server-sent event.
func next(t *testing.T, r *bufio.Reader) (name string, e Event) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			name = v
		} else if v, ok := strings.CutPrefix(line, "data: "); ok && name != "status" {
			if err := json.Unmarshal([]byte(v), &e); err != nil {
				t.Fatal(err)
			}
		} else if line == "" && name != "" {
			return name, e
		}
	}
}

func TestEventStream(t *testing.T) {
	g, sc := newGateway(t)
	s := local(t, g)
	resp, err := http.Get("http://" + s.Addr() + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("content type %q", kind)
	}
	r := bufio.NewReader(resp.Body)
	if name, _ := next(t, r); name != "status" {
		t.Fatalf("begins with %q", name)
	}
	g.upstreams[1].Server("demo/2").Probe(nil, 1, 2, time.Now())
	if name, e := next(t, r); name != "server" || e.Server != "demo/2" || e.From != "starting" || e.To != "ready" {
		t.Errorf("%s %+v", name, e)
	}
	sc.mu.Lock()
	sc.recent = []scaler.Event{{At: loaded, Upstream: "demo", Kind: "scale", From: 3, To: 4, Reason: "queue 16", Code: "queue"}}
	sc.mu.Unlock()
	if name, e := next(t, r); name != "decision" || e.Upstream != "demo" || e.What != "scale" || e.From != 3.0 || e.To != 4.0 || e.Code != "queue" || e.Reason != "queue 16" {
		t.Errorf("%s %+v", name, e)
	}
	g.mu.Lock()
	g.reload = errors.New("no")
	g.mu.Unlock()
	send(t, s.Addr(), "POST", "/api/v1/reload", "")
	if name, e := next(t, r); name != "reload" || e.Error != "no" || e.Generation != 3 {
		t.Errorf("%s %+v", name, e)
	}
	g.upstreams[1].Update([]balancer.ServerSpec{{ID: "demo-1", Addr: "127.0.0.1:40001"}}, time.Now())
	if name, e := next(t, r); name != "server" || e.Server != "demo/2" || e.To != "gone" {
		t.Errorf("%s %+v", name, e)
	}
}

// A client that has left is noticed at the next event, and nothing of it stays.
func TestStreamOfAGoneClient(t *testing.T) {
	g, sc := newGateway(t)
	s := local(t, g)
	resp, err := http.Get("http://" + s.Addr() + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	next(t, bufio.NewReader(resp.Body))
	resp.Body.Close()
	deadline := time.Now().Add(5 * time.Second)
	for i := 0; ; i++ {
		sc.mu.Lock()
		sc.recent = []scaler.Event{{Kind: "scale", To: i}}
		sc.mu.Unlock()
		s.events.mu.Lock()
		left := len(s.events.streams)
		s.events.mu.Unlock()
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the stream is still there")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTooManyStreams(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	for range maxStreams {
		resp, err := http.Get("http://" + s.Addr() + "/api/v1/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
	}
	send(t, s.Addr(), "GET", "/api/v1/events", "").is(t, 503, "too_many_streams")
}

func TestChanges(t *testing.T) {
	at := time.Unix(1, 0)
	first, second := scaler.Event{At: at, Kind: "scale", From: 1, To: 2}, scaler.Event{At: at, Kind: "crash"}
	base := func() Status {
		return Status{Config: ConfigStatus{Generation: 1}, Upstreams: []UpstreamStatus{
			{Name: "a", Mode: "apply", Wanted: 1, Reason: "x", recent: []scaler.Event{first}, Servers: []ServerStatus{{ID: "1", State: "ready"}}},
			{Name: "b", Mode: "fixed", Wanted: 1, Servers: []ServerStatus{{ID: "1", State: "ready"}}},
		}}
	}
	for name, c := range map[string]struct {
		change func(*Status)
		want   string
	}{
		"nothing":       {func(*Status) {}, ""},
		"load":          {func(s *Status) { s.Upstreams[0].InFlight = 9 }, ""},
		"reload":        {func(s *Status) { s.Config.Generation = 2 }, "reload"},
		"failed reload": {func(s *Status) { s.Config.TriedAt = at }, "reload"},
		"reason":        {func(s *Status) { s.Upstreams[0].Reason = "y" }, ""},
		"decision":      {func(s *Status) { s.Upstreams[0].recent = []scaler.Event{first, second} }, "decision a crash <nil>><nil>"},
		"forgotten":     {func(s *Status) { s.Upstreams[0].recent = nil }, ""},
		"state":         {func(s *Status) { s.Upstreams[1].Servers[0].State = "ejected" }, "server b/1 ready>ejected"},
		"server came": {func(s *Status) {
			s.Upstreams[0].Servers = append(s.Upstreams[0].Servers, ServerStatus{ID: "2", State: "starting"})
		}, "server a/2 >starting"},
		"server went":   {func(s *Status) { s.Upstreams[0].Servers = nil }, "server a/1 ready>gone"},
		"upstream went": {func(s *Status) { s.Upstreams = s.Upstreams[:1] }, "server b/1 ready>gone"},
		"upstream came": {func(s *Status) {
			s.Upstreams = append(s.Upstreams, UpstreamStatus{Name: "c", Mode: "apply", Wanted: 1, recent: []scaler.Event{first}, Servers: []ServerStatus{{ID: "1", State: "ready"}}})
		}, "decision c scale 1>2, server c/1 >ready"},
		"server exchanged": {func(s *Status) { s.Upstreams[1].Servers = []ServerStatus{{ID: "9", State: "ready"}} }, "server b/9 >ready, server b/1 ready>gone"},
	} {
		next := base()
		c.change(&next)
		var got []string
		for _, e := range changes(base(), next, at) {
			switch e.Kind {
			case "server":
				got = append(got, fmt.Sprintf("server %s/%s %v>%v", e.Upstream, e.Server, e.From, e.To))
			case "decision":
				got = append(got, fmt.Sprintf("decision %s %s %v>%v", e.Upstream, e.What, e.From, e.To))
			default:
				got = append(got, e.Kind)
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %q, want %q", name, s, c.want)
		}
	}
}

// A client that does not read loses events, is told how many, and holds up nobody.
func TestSlowStream(t *testing.T) {
	h := newHub(func() Status { return Status{} }, time.Hour)
	defer h.close()
	st := h.subscribe()
	h.mu.Lock()
	for range eventBuffer + 3 {
		st.put(Event{Kind: "server"})
	}
	h.mu.Unlock()
	read := func() string {
		b := make([]byte, 4096)
		n, err := st.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	read() // the status
	read()
	read() // room for what was lost and one more
	h.mu.Lock()
	st.put(Event{Kind: "reload"})
	h.mu.Unlock()
	for range eventBuffer - 2 {
		read()
	}
	if got := read(); !strings.HasPrefix(got, "event: lost\n") || !strings.Contains(got, `"count":3`) {
		t.Errorf("told %q", got)
	}
	if got := read(); !strings.HasPrefix(got, "event: reload\n") {
		t.Errorf("told %q", got)
	}
}

func TestHeartbeatAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		h := newHub(func() Status { looks++; return Status{} }, time.Second)
		st := h.subscribe()
		b := make([]byte, 4096)
		_, _ = st.Read(b)
		began := time.Now()
		n, err := st.Read(b)
		if err != nil || b[0] != ':' || time.Since(began) != heartbeat {
			t.Errorf("%q, %v after %s", b[:n], err, time.Since(began))
		}
		st.Close()
		seen := looks
		time.Sleep(time.Minute)
		if looks != seen {
			t.Error("looks at the status while nobody listens")
		}
		last := h.subscribe()
		_, _ = last.Read(b)
		h.close()
		if _, err := last.Read(b); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		if h.subscribe() != nil {
			t.Error("subscribed after the end")
		}
		last.Close()
	})
}
