package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// heldBench is a bench with nginx, without the load that other rows need.
func heldBench(t *testing.T) *peersBench {
	t.Helper()
	b := &peersBench{duration: 100 * time.Millisecond, dir: t.TempDir(), cores: requireCores(t), programs: map[string]string{"nginx": requirePeer(t, "nginx")}}
	var err error
	if b.descriptors, err = raiseDescriptors(1000); err != nil {
		t.Fatal(err)
	}
	if b.backend, err = startBackend(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.backend.stop)
	return b
}

func TestHeldStreams(t *testing.T) {
	b := heldBench(t)
	w := workload{kind: held, connections: 200}
	s, err := b.hold(t.Context(), *findPeer("nginx"), w)
	if err != nil || s.streams != 200 || s.rss < 1024 {
		t.Errorf("%+v, %v", s, err)
	}
	if n := b.backend.streams.Load(); n > 0 {
		t.Errorf("%d streams are left when the next peer starts", n)
	}
	b.descriptors = descriptorsFor(100)
	if s, err = b.hold(t.Context(), *findPeer("nginx"), w); err != nil || s.streams < 98 || s.streams > 100 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestHeldStreamsThatEnd(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		"refused":         {func(w http.ResponseWriter) { w.WriteHeader(503) }, "503"},
		"ended":           {func(w http.ResponseWriter) { fmt.Fprint(w, "data: 0 1\n\ndata: 1 2\n\n") }, "after 2 events"},
		"an event lost":   {func(w http.ResponseWriter) { fmt.Fprint(w, "data: 0 1\n\ndata: 2 2\n\n") }, "event 1 is"},
		"something else":  {func(w http.ResponseWriter) { fmt.Fprint(w, "hello\n\n") }, "event 0 is"},
		"without a break": {func(w http.ResponseWriter) { fmt.Fprint(w, "data: 0") }, "after 0 events"},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })}
			go func() { _ = server.Serve(ln) }()
			defer server.Close()
			if err := holdStream(t.Context(), portOf(t, ln.Addr().String()), time.Millisecond, func(int) {}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestDescriptorsOfStreams(t *testing.T) {
	for n := 1; n < 20_000; n += 7 {
		d := descriptorsFor(n)
		if got := streamsWithin(d); got > n || got < n-2 {
			t.Fatalf("%d descriptors for %d streams are enough for %d", d, n, got)
		}
	}
	if streamsWithin(256) != 1 {
		t.Error("something can always be tried")
	}
	if n := descriptorsOf(workloads); n != descriptorsFor(9000) {
		t.Error(n)
	}
}

func TestGoalOfStreams(t *testing.T) {
	for _, c := range []struct {
		peer    string
		streams float64
		mib     float64
		want    string
	}{
		{"sluice", 9000, 199, ", within the goal of 200 MiB"},
		{"sluice", 9000, 201, ", more than the goal of 200 MiB"},
		{"sluice", 4500, 99, ", which is 198.0 MiB for all, within the goal of 200 MiB"},
		{"sluice", 4500, 101, ", which is 202.0 MiB for all, more than the goal of 200 MiB"},
		{"nginx", 9000, 300, ""},
		{"nginx", 4500, 300, ", which is 600.0 MiB for all"},
	} {
		w := workload{kind: held, connections: 9000}
		r := newPeerRow(w, c.peer, []peerSample{{streams: c.streams, rss: c.mib * 1024}}, nil)
		if got := r.heldVerdict(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
	memory := func(kib float64) []peerSample { return []peerSample{{rss: kib, streams: 9000}} }
	if r := newPeerRow(workload{kind: held}, "sluice", memory(300), memory(200)); r.Ratio != 1.5 {
		t.Errorf("a ratio of %v", r.Ratio)
	}
}
