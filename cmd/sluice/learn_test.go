package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// The slots of a server that takes 24 requests at once are found, within a fifth, in a minute, and followed when
// the server suddenly takes half as many. What is served with them is at least nine tenths of what is served
// with the right number configured.
func TestLearnsHowMuchAServerTakes(t *testing.T) {
	const capacity = 24
	s := start(t, demo(fmt.Sprintf(`"--concurrency", "%d", "--service-time", "lognormal:180ms,0.3"`, capacity), `max_conns = "auto"`))
	s.waitReplicas("demo", 1, 10*time.Second)
	server := s.upstream("demo").Servers[0]
	if !server.Learned || server.Slots == capacity {
		t.Fatalf("at the start: %+v", server)
	}
	load(t, "--concurrency", "64", "--duration", "10m", s.url) // ends with the test
	found := func(limit time.Duration, want int) {
		t.Helper()
		begun, steady := time.Now(), 0
		within(t, limit, fmt.Sprintf("the slots are about %d", want), func() bool {
			time.Sleep(200 * time.Millisecond)
			slots := s.upstream("demo").Servers[0].Slots
			if steady++; math.Abs(float64(slots-want)) > 0.2*float64(want) {
				steady = 0
			}
			return steady >= 10
		})
		t.Logf("%d found of %d after %v", s.upstream("demo").Servers[0].Slots, want, time.Since(begun).Round(time.Second))
	}
	served := func() float64 {
		before, begun := s.backendServed(server.Addr), time.Now()
		time.Sleep(8 * time.Second)
		rate := float64(s.backendServed(server.Addr)-before) / time.Since(begun).Seconds()
		t.Logf("%.1f served a second", rate)
		return rate
	}
	found(60*time.Second, capacity)
	learned := served()
	s.fault(server.Addr, fmt.Sprintf("concurrency=%d", capacity/2))
	found(30*time.Second, capacity/2)
	s.fault(server.Addr, fmt.Sprintf("concurrency=%d", capacity))
	s.edit(`max_conns = "auto"`, fmt.Sprintf(`max_conns = %d`, capacity))
	s.signal(syscall.SIGHUP)
	within(t, 5*time.Second, "the number is in force", func() bool { return !s.upstream("demo").Servers[0].Learned })
	if fixed := served(); learned < 0.9*fixed {
		t.Errorf("%.1f a second served with what was learned, %.1f with the right number", learned, fixed)
	}
}

// fault changes a demo backend at run time.
func (s *running) fault(addr, what string) {
	s.t.Helper()
	if code, body, err := fetch("http://" + addr + "/fault?" + what); err != nil || code != http.StatusOK {
		s.t.Fatalf("fault %s: %d, %v, %s", what, code, err, body)
	}
}

// backendServed is how many requests a demo backend has worked on to the end.
func (s *running) backendServed(addr string) (n uint64) {
	s.t.Helper()
	code, body, err := fetch("http://" + addr + "/stats")
	var stats struct{ Served uint64 }
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal([]byte(body), &stats)
	}
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("stats: %d, %v, %s", code, err, body)
	}
	return stats.Served
}
