package main

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// keepAsking keeps n requests of one tenant on their way until the test ends; stop waits for the last.
func keepAsking(t *testing.T, url, tenant string, n int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	var asking sync.WaitGroup
	for range n {
		asking.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Tenant", tenant)
				resp, err := client.Do(req)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %s", tenant, resp.Status)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		asking.Wait()
		client.CloseIdleConnections()
	})
	t.Cleanup(stop)
	return stop
}

// A tenant whose flood fills the queue buys no replicas for it: sixty waiting requests of one beside four of another count as
// four. On a route that asks nobody who he is the same sixty buy all there are.
func TestFloodBuysNoReplicas(t *testing.T) {
	const flood, most = 60, 5 // requests, replicas
	s := start(t, demo(`"--concurrency", "1", "--service-time", "100ms"`, `max_conns = 1
queue = { size = 200, timeout = "30s" }
scale = { min = 1, max = 5, queued_per_replica = 4, cooldown_up = "0s", cooldown_down = "0s" }
[[route]]
path = "/fair"
upstream = "demo"
fair_by = "header:X-Tenant"`))
	s.waitReplicas("demo", 1, 10*time.Second)

	stopPolite := keepAsking(t, s.url+"/fair", "polite", 4)
	stopFlood := keepAsking(t, s.url+"/fair", "flood", flood)
	within(t, 10*time.Second, "a queue of the flood", func() bool { return s.upstream("demo").Queue > flood/2 })
	for range 40 { // ticks of the loop are a second apart
		if u := s.upstream("demo"); u.Wanted > 2 {
			t.Fatalf("%d replicas are wanted with %d waiting, %d of them the flood's: %s", u.Wanted, u.Queue, flood, u.Reason)
		}
		time.Sleep(100 * time.Millisecond)
	}
	stopPolite()
	stopFlood()

	stop := keepAsking(t, s.url+"/", "anybody", flood) // this route asks nobody who he is
	within(t, 20*time.Second, "all replicas for the same queue of whoever", func() bool { return s.upstream("demo").Wanted == most })
	stop()
}
