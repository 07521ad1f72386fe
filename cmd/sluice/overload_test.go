package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Three times what the slots can serve: at least nine tenths of the peak is served all the while, what is not is
// refused at once and told when to come again, and a client that keeps to its share never waits for those
// that flood.
func TestOverloadServesAtFullSpeedAndRefusesAtOnce(t *testing.T) {
	const slots, service, rate, lasts = 8, 100 * time.Millisecond, 240, 20 * time.Second
	s := start(t, demo(fmt.Sprintf(`"--concurrency", "%d", "--service-time", "%s"`, slots, service),
		fmt.Sprintf("max_conns = %d\nqueue = { size = 1000, timeout = \"2s\" }\n[[route]]\npath = \"/tenants\"\nupstream = \"demo\"\nfair_by = \"header:X-Tenant\"", slots)))
	s.waitReplicas("demo", 1, 10*time.Second)
	calm := load(t, "--concurrency", "16", "--duration", "4s", s.url+"/tenants")()
	peak := float64(calm.OK) / 4

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var ok, waitedInVain int
	var over bool // what is served from now on waited, and does not count
	var refusals, polite []time.Duration
	ask := func(tenant string) {
		req, _ := http.NewRequest(http.MethodGet, s.url+"/tenants", nil)
		req.Header.Set("X-Tenant", tenant)
		begun := time.Now()
		r, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		took := time.Since(begun)
		mu.Lock()
		defer mu.Unlock()
		reason, after := r.Header.Get("X-Sluice-Reason"), r.Header.Get("Retry-After")
		switch {
		case r.StatusCode == http.StatusOK:
			if !over {
				ok++
			}
			if tenant == "polite" {
				polite = append(polite, took)
			}
		case r.StatusCode != http.StatusServiceUnavailable || reason != "queue_timeout" && reason != "queue_full":
			t.Errorf("%d %s", r.StatusCode, reason)
		case tenant == "polite":
			t.Errorf("the polite client is refused with %s after %v", reason, took)
		case took > time.Second:
			waitedInVain++
		default:
			refusals = append(refusals, took)
		}
		if n, err := strconv.Atoi(after); r.StatusCode != http.StatusOK && (err != nil || n < 1 || n > 10) {
			t.Errorf("Retry-After %q with a queue of about 2 s", after)
		}
	}
	var clients sync.WaitGroup
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	begun := time.Now()
	for i := 0; time.Since(begun) < lasts; i++ {
		<-tick.C
		clients.Go(func() { ask("flood") })
		if i%rate == 0 {
			clients.Go(func() { ask("polite") })
		}
	}
	took := time.Since(begun)
	mu.Lock()
	over = true
	mu.Unlock()
	clients.Wait()

	slices.Sort(refusals)
	slices.Sort(polite)
	if len(refusals) == 0 || len(polite) == 0 {
		t.Fatalf("%d refused at once, %d served of the polite client", len(refusals), len(polite))
	}
	served := float64(ok) / took.Seconds()
	half, most := refusals[len(refusals)/2], refusals[len(refusals)*95/100]
	t.Logf("peak %.1f/s, served %.1f/s, %d refused at once (half of them in %v, 95 %% in %v), %d in vain, polite %v in the middle",
		peak, served, len(refusals), half, most, waitedInVain, polite[len(polite)/2])
	if served < 0.9*peak {
		t.Errorf("%.1f served a second, the peak is %.1f", served, peak)
	}
	if half > 10*time.Millisecond {
		t.Errorf("half of the refusals took more than %v", half)
	}
	if waitedInVain > len(refusals)/20 {
		t.Errorf("%d waited for nothing, %d were refused at once", waitedInVain, len(refusals))
	}
	if m := polite[len(polite)/2]; m > 5*service {
		t.Errorf("the polite client's requests take %v in the middle, of which %v is work", m, service)
	}
}
