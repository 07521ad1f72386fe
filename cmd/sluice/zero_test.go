package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What waits at zero: more than the queue takes, for replicas that would work on everything at once if they were let.
const (
	zeroQueue  = 500
	zeroBeyond = 40
	zeroSlots  = 8
	zeroStart  = 4 * time.Second // of the backend itself: time enough for all to come
	zeroBody   = 64 << 20
)

var (
	zeroBackend = fmt.Sprintf(`"--concurrency", "0", "--service-time", "50ms", "--start-delay", "%s"`, zeroStart)
	zeroKeys    = fmt.Sprintf(`max_conns = %d
queue.size = %d
scale = { min = 0, max = 3, to_zero_after = "3s", cooldown_down = "1s" }`, zeroSlots, zeroQueue)
)

func TestToZeroAndBackWithManyWaiters(t *testing.T) {
	t.Parallel()
	s := start(t, demo(zeroBackend, zeroKeys))
	zeroAndBack(t, s, "demo", func() int { return strings.Count(s.log.String(), "replica started") })
}

func TestContainersToZeroAndBackWithManyWaiters(t *testing.T) {
	t.Parallel()
	d, owner := docker(t)
	s := start(t, fmt.Sprintf(`
log.access = "off"
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
upstream = "api"
[upstream.api]
container = { image = %q, command = ["demo-backend", "--addr", "0.0.0.0:8000", %s], port = 8000, stop_grace = "5s" }
health_check = { path = "/healthz", interval = "200ms" }
%s
`, owner, d.socket(), d.image(owner), zeroBackend, zeroKeys))
	zeroAndBack(t, s, "api", func() int { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) })
	within(t, 30*time.Second, "no container is left", func() bool { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) == 0 })
}

// zeroAndBack sends hundreds of requests to an upstream that has no replica. One replica is started for all of them;
// those that the queue has no room for are refused and told when to come again; no body is read before its request has a
// slot; no replica ever has more requests than slots; and when nobody asks any more, the last one goes.
func zeroAndBack(t *testing.T, s *running, name string, starts func() int) {
	t.Helper()
	s.waitReplicas(name, 0, 20*time.Second)
	if n := starts(); n != 0 {
		t.Fatalf("%d starts before the first request", n)
	}
	big := upload(t, s.url, zeroBody)
	told := goesOn(t, s.url)
	within(t, 10*time.Second, "the first wakes one", func() bool { return s.upstream(name).Wanted == 1 })

	var all sync.WaitGroup
	answers := make(chan string, zeroQueue+zeroBeyond)
	for range zeroQueue + zeroBeyond {
		all.Go(func() { answers <- answerAtZero(s.url) })
	}
	full := false
	var u upstreamStatus
	for within := time.Now().Add(30 * time.Second); u.Ready == 0; time.Sleep(50 * time.Millisecond) {
		taken, early := big.taken(), len(told) > 0 // before it is known that they have none
		if u = s.upstream(name); time.Now().After(within) {
			t.Fatalf("no replica is ready: %+v", u)
		}
		full = full || u.Queue == zeroQueue
		if u.Ready == 0 {
			if u.Wanted > 1 || u.Starting > 1 || u.InFlight > 0 || starts() > 1 {
				t.Fatalf("before the first replica is ready: %d starts, %+v", starts(), u)
			}
			if taken > zeroBody/2 {
				t.Fatalf("%d bytes of a body were taken before its request had a slot", taken)
			}
			if early {
				t.Fatalf("told to send its body before it had a slot: %s", <-told)
			}
		}
	}
	if !full {
		t.Errorf("the queue was never full: %+v", u)
	}

	peaks := map[string]int{}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true // and one look more
		case <-time.After(50 * time.Millisecond):
		}
		for _, server := range s.upstream(name).Servers {
			if peak, ok := peakOf(server.Addr); ok {
				peaks[server.ID] = max(peaks[server.ID], peak)
			}
		}
	}
	close(answers)
	count := map[string]int{}
	for a := range answers {
		count[a]++
	}
	if count["200"] < zeroQueue-2 || count["200"]+count["503 queue_full"] != zeroQueue+zeroBeyond || count["503 queue_full"] == 0 {
		t.Errorf("%d at zero, two of them with a body, with %d places in the queue, got %v", zeroQueue+zeroBeyond+2, zeroQueue, count)
	}
	most := 0
	for id, peak := range peaks {
		if most = max(most, peak); peak > zeroSlots {
			t.Errorf("%s had %d requests at once, its slots are %d", id, peak, zeroSlots)
		}
	}
	if most != zeroSlots {
		t.Errorf("peaks %v: with hundreds waiting one should have reached %d", peaks, zeroSlots)
	}
	if body := big.answer(); body.Bytes != zeroBody {
		t.Errorf("of the large body %d bytes arrived, want %d", body.Bytes, zeroBody)
	}
	if line := <-told; line != "HTTP/1.1 100 Continue\r\n" {
		t.Errorf("who asked whether to send its body was told %q", line)
	}
	t.Logf("%v; at once at most %v", count, peaks)
	s.waitReplicas(name, 0, 40*time.Second)
}

// answerAtZero is status and reason of one request; a refusal has to say when to come again.
func answerAtZero(url string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	r, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err.Error()
	}
	if r.StatusCode == http.StatusOK {
		return "200"
	}
	said := fmt.Sprintf("%d %s", r.StatusCode, r.Header.Get("X-Sluice-Reason"))
	if n, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || n < 1 || n > 300 {
		said += fmt.Sprintf(" with Retry-After %q", r.Header.Get("Retry-After"))
	}
	return said
}

// peakOf asks a demo-backend how many requests it ever had at once.
func peakOf(addr string) (peak int, ok bool) {
	_, body, err := fetch("http://" + addr + "/stats")
	if err != nil { // it is going
		return 0, false
	}
	var stats struct{ Peak int }
	return stats.Peak, json.Unmarshal([]byte(body), &stats) == nil && stats.Peak > 0
}

// goesOn sends a request that waits to be told to send its body, and gives the first line that it is told.
func goesOn(t *testing.T, url string) <-chan string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprint(conn, "POST /headers HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	go func() {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			line = err.Error()
		}
		told <- line
		_, _ = conn.Write([]byte("hello"))
	}()
	return told
}

// uploading is a request with a large body on its way.
type uploading struct {
	t    *testing.T
	conn net.Conn

	mu   sync.Mutex // guards sent
	sent int
}

// upload sends a request that announces a body of size bytes, and as much of it as is taken.
func upload(t *testing.T, url string, size int) *uploading {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	u := &uploading{t: t, conn: conn}
	if _, err := fmt.Fprintf(conn, "POST /headers HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	go func() {
		block := make([]byte, 64<<10)
		for left := size; left > 0; {
			n, err := conn.Write(block[:min(left, len(block))])
			left -= n
			u.mu.Lock()
			u.sent += n
			u.mu.Unlock()
			if err != nil {
				return // its answer says it
			}
		}
	}()
	return u
}

// taken is how many bytes were taken, those in the kernel's buffers included: some MiB.
func (u *uploading) taken() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sent
}

// answer waits for what the server has to say of the body.
func (u *uploading) answer() (said struct {
	Bytes int `json:"body_bytes"`
}) {
	u.t.Helper()
	_ = u.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	r, err := http.ReadResponse(bufio.NewReader(u.conn), nil)
	if err != nil {
		u.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil || r.StatusCode != http.StatusOK {
		u.t.Fatalf("%d, %v", r.StatusCode, err)
	}
	return said
}
