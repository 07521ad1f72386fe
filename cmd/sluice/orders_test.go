package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/admin"
)

// TestUpgradeKeepsDrainedServers: what an operator has drained gets no request from the successor either, until it is
// enabled there. A server that is no longer configured is forgotten.
func TestUpgradeKeepsDrainedServers(t *testing.T) {
	t.Parallel()
	var asked [3]atomic.Int64
	var addrs [3]string
	for i := range addrs {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked[i].Add(1) }))
		t.Cleanup(server.Close)
		addrs[i] = strings.TrimPrefix(server.URL, "http://")
	}
	s := start(t, fmt.Sprintf(`
log.access = "off"
[[route]]
upstream = "api"
[upstream.api]
servers = [%q, %q, %q]
balance = "round_robin"
`, addrs[0], addrs[1], addrs[2]))
	s.waitReplicas("api", 3, 10*time.Second)
	for _, addr := range addrs[1:] {
		s.steer("api", addr, "drain")
	}
	s.edit(fmt.Sprintf(", %q]", addrs[2]), "]") // read by the successor only
	asked[1].Store(0)
	wait := load(t, "--concurrency", "4", "--duration", "6s", s.url)
	for range 2 {
		s.upgrade()
		if got := s.upstream("api").state(addrs[1]); got != "draining" {
			t.Fatalf("the drained server is %q", got)
		}
	}
	if l := wait(); l.Failed != 0 || l.OK == 0 || asked[1].Load() != 0 {
		t.Errorf("the drained server got %d requests: %+v", asked[1].Load(), l)
	}
	s.edit(fmt.Sprintf("%q]", addrs[1]), fmt.Sprintf("%q, %q]", addrs[1], addrs[2]))
	s.signalReload()
	within(t, 10*time.Second, "the server that was forgotten is ready", func() bool { return s.upstream("api").state(addrs[2]) == "ready" })
	s.steer("api", addrs[1], "enable")
	s.waitReplicas("api", 3, 10*time.Second)
	s.upgrade()
	s.waitReplicas("api", 3, 10*time.Second)
}

// steer drains or enables a server.
func (s *running) steer(upstream, server, verb string) {
	s.t.Helper()
	if code, said, err := fetchPost(s.admin+"/api/v1/upstreams/"+upstream+"/servers/"+server+"/"+verb, ""); code != http.StatusOK {
		s.t.Fatalf("%s: %d, %v %s", verb, code, err, said)
	}
}

// state is that of a server; "" while it is not there.
func (u upstreamStatus) state(addr string) string {
	for _, server := range u.Servers {
		if server.Addr == addr {
			return server.State
		}
	}
	return ""
}

// TestUpgradeKeepsPins: a pinned number of replicas stays, for what is left of its time.
func TestUpgradeKeepsPins(t *testing.T) {
	t.Parallel()
	s := start(t, demo(`"--service-time", "1ms"`, `scale = { min = 1, max = 4, cooldown_down = "1s" }`))
	s.waitReplicas("demo", 1, 10*time.Second)
	pin := func(body string) {
		t.Helper()
		if code, said, err := fetchPost(s.admin+"/api/v1/upstreams/demo/scale", body); code != http.StatusOK {
			t.Fatalf("scale: %d, %v %s", code, err, said)
		}
	}
	pin(`{"replicas": 3, "for": "1h"}`)
	over := time.Now().Add(time.Hour)
	s.waitReplicas("demo", 3, 10*time.Second)
	for range 2 {
		s.upgrade()
		within(t, 10*time.Second, "pinned for the rest of the hour", func() bool {
			on, until := s.pinned("demo")
			return on && until != nil && until.Sub(over).Abs() < 5*time.Second
		})
	}
	s.waitReplicas("demo", 3, 10*time.Second)

	pin(`{"replicas": 2}`)
	s.upgrade()
	within(t, 10*time.Second, "pinned without an end", func() bool { on, until := s.pinned("demo"); return on && until == nil })
	s.waitReplicas("demo", 2, 10*time.Second)

	pin(`{"replicas": "auto"}`)
	s.upgrade()
	within(t, 10*time.Second, "the first decision", func() bool { return s.upstream("demo").Reason != "not decided yet" })
	if on, _ := s.pinned("demo"); on {
		t.Error("pinned again")
	}
}

// pinned tells of the upstream's pin; until is nil for one without an end.
func (s *running) pinned(upstream string) (on bool, until *time.Time) {
	s.t.Helper()
	_, body, err := fetch(s.admin + "/api/v1/status")
	var st admin.Status
	if err == nil {
		err = json.Unmarshal([]byte(body), &st)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for _, u := range st.Upstreams {
		if u.Name == upstream {
			return u.Pinned, u.PinnedUntil
		}
	}
	return false, nil
}

// TestInheritanceOfAnotherVersion: an older sluice tells of no orders, a newer one of what is not known here.
func TestInheritanceOfAnotherVersion(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"pid":7,"listeners":[":80"],"admin":null,"metrics_api":null,"replicas":null}`,
		`{"pid":7,"listeners":[":80"],"orders":[{"upstream":"api","paused":true}],"later":{"a":1}}`,
	} {
		var list inheritance
		if err := json.Unmarshal([]byte(text), &list); err != nil || list.PID != 7 || len(list.Listeners) != 1 {
			t.Errorf("%s: %v, %+v", text, err, list)
		}
	}
}
