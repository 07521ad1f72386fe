package demobackend

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fasthttp/websocket"
)

// The test binary is the backend when it is told so, for the tests that need a process of their own.
func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv("DEMO_BACKEND_TEST_ARGS"); ok {
		os.Exit(Main(strings.Fields(args), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is a backend that runs as a child.
type process struct {
	*exec.Cmd
	url string
}

func start(t *testing.T, args string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "DEMO_BACKEND_TEST_ARGS=--port 0 "+args)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no line on standard output: %v", err)
	}
	p.url = "http://" + line[strings.LastIndex(line, " ")+1:len(line)-1]
	return p
}

func (p *process) exit(t *testing.T) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Wait() }()
	select {
	case <-done:
		return p.ProcessState.ExitCode()
	case <-time.After(10 * time.Second):
		t.Fatal("the process did not end")
		return 0
	}
}

func (p *process) stats(t *testing.T) (s Stats) {
	t.Helper()
	if err := json.Unmarshal(get(t, p.url+"/stats", 200), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// await polls until ok: the states asked for are another process's.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func get(t *testing.T, url string, status int) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s: status %d, want %d: %s", url, resp.StatusCode, status, b)
	}
	return b
}

func TestConcurrencyIsBoundAndFurtherRequestsWait(t *testing.T) {
	p := start(t, "--concurrency 2 --service-time 100ms")
	begin := time.Now()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { get(t, p.url+"/x", 200) })
	}
	wg.Wait()
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("6 requests of 100 ms on 2 slots took %v, want 300ms or more", took)
	}
	if s := p.stats(t); s.Peak != 2 || s.Served != 6 || s.InFlight != 0 {
		t.Errorf("stats %+v, want peak 2, served 6, in_flight 0", s)
	}
}

func TestOverflow503(t *testing.T) {
	p := start(t, "--concurrency 1 --overflow 503")
	done := make(chan struct{})
	go func() { get(t, p.url+"/x?work=1s", 200); close(done) }()
	await(t, "a request in flight", func() bool { return p.stats(t).InFlight == 1 })
	resp, err := http.Get(p.url + "/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q; want 503 with Retry-After", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	<-done
}

func TestChatStreamsTokenByToken(t *testing.T) {
	p := start(t, "--token-time 60ms")
	resp, err := http.Post(p.url+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"m","stream":true,"max_tokens":4,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	var events []string
	var at []time.Time
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if data, ok := strings.CutPrefix(sc.Text(), "data: "); ok {
			events, at = append(events, data), append(at, time.Now())
		}
	}
	if len(events) != 6 || events[5] != "[DONE]" {
		t.Fatalf("events %q, want 4 tokens, a stop and [DONE]", events)
	}
	if spread := at[3].Sub(at[0]); spread < 120*time.Millisecond {
		t.Errorf("4 tokens came within %v: not event by event", spread)
	}
	var c chatResponse
	if err := json.Unmarshal([]byte(events[0]), &c); err != nil || c.Model != "m" || c.Choices[0].Delta.Role != "assistant" {
		t.Errorf("first event %s (%v)", events[0], err)
	}
	if err := json.Unmarshal([]byte(events[4]), &c); err != nil || c.Choices[0].FinishReason == nil {
		t.Errorf("last event has no finish_reason: %s (%v)", events[4], err)
	}
	await(t, "the slot is free", func() bool { s := p.stats(t); return s.InFlight == 0 && s.Served == 1 })
}

func TestChatWhole(t *testing.T) {
	p := start(t, "--service-time 0")
	resp, err := http.Post(p.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"max_tokens":2}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var c chatResponse
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		t.Fatal(err)
	}
	if c.Object != "chat.completion" || c.Choices[0].Message.Content != "token0 token1 " || c.Usage.Completion != 2 {
		t.Errorf("answer %+v", c)
	}
}

func TestClientThatLeavesFreesItsSlot(t *testing.T) {
	for _, path := range []string{"/x?work=1h", "/v1/chat/completions"} {
		t.Run(path, func(t *testing.T) {
			p := start(t, "--concurrency 1 --token-time 30ms --tokens 100000")
			c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			body := `{"stream":true}`
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
			await(t, "a request in flight", func() bool { return p.stats(t).InFlight == 1 })
			c.Close()
			await(t, "the slot is free", func() bool { s := p.stats(t); return s.InFlight == 0 && s.Abandoned == 1 })
		})
	}
}

func TestEcho(t *testing.T) {
	p := start(t, "")
	post := func(body io.Reader) (*http.Response, []byte) {
		req, _ := http.NewRequest("PUT", p.url+"/echo?a=b", body)
		req.Header.Set("X-Request-Id", "id-1")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, b
	}
	resp, b := post(strings.NewReader("hello"))
	sum := sha256.Sum256([]byte("hello"))
	for name, want := range map[string]string{
		"X-Echo-Method": "PUT", "X-Echo-Target": "/echo?a=b", "X-Request-Id": "id-1", "X-Body-Sha256": hex.EncodeToString(sum[:]),
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if string(b) != "hello" || resp.Header.Get("X-Backend") == "" {
		t.Errorf("body %q, X-Backend %q", b, resp.Header.Get("X-Backend"))
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if _, b := post(bytes.NewReader(large)); !bytes.Equal(b, large) {
		t.Errorf("a body of %d bytes came back as %d other bytes", len(large), len(b))
	}
	if _, b := post(iotest.OneByteReader(strings.NewReader("chunked"))); string(b) != "chunked" {
		t.Errorf("chunked body came back as %q", b)
	}
	await(t, "all slots are free", func() bool { s := p.stats(t); return s.InFlight == 0 && s.Served == 3 })
}

func TestHeadersAsReceived(t *testing.T) {
	p := start(t, "")
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /headers HTTP/1.1\r\nHost: x\r\nx-lOWer: 1\r\nX-Twice: a\r\nX-Twice: b\r\nContent-Length: 3\r\n\r\nabc")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Method  string
		Headers [][2]string
		Bytes   int `json:"body_bytes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := "[[Host x] [x-lOWer 1] [X-Twice a] [X-Twice b] [Content-Length 3]]"
	if s := fmt.Sprint(got.Headers); s != want || got.Method != "POST" || got.Bytes != 3 {
		t.Errorf("got %s %s %d bytes, want POST %s 3 bytes", got.Method, s, got.Bytes, want)
	}
}

func TestTermFinishesWhatRuns(t *testing.T) {
	p := start(t, "--lame-duck 20ms")
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(p.url, "http")+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, msg, err := ws.ReadMessage(); err != nil || string(msg) != "hello" {
		t.Fatalf("echo %q, %v", msg, err)
	}
	idle, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	type result struct {
		resp *http.Response
		body []byte
		err  error
	}
	answered := make(chan result, 1)
	go func() {
		resp, err := http.Get(p.url + "/x?work=600ms")
		var b []byte
		if err == nil {
			b, err = io.ReadAll(resp.Body)
		}
		answered <- result{resp, b, err}
	}()
	await(t, "a request in flight", func() bool { return p.stats(t).InFlight == 1 })
	p.Process.Signal(syscall.SIGTERM)
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the WebSocket ended with %v, want close 1001", err)
	}
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("idle connection: %d, %v; want EOF", n, err)
	}
	r := <-answered
	if r.err != nil || r.resp.StatusCode != 200 || len(r.body) == 0 {
		t.Errorf("the running request was lost: %+v", r)
	}
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// Requests keep coming over kept connections while the process drains: each is answered, or its connection was
// announced or closed before it was sent.
func TestTermUnderLoadLosesNothing(t *testing.T) {
	p := start(t, "--concurrency 0 --lame-duck 50ms")
	addr := strings.TrimPrefix(p.url, "http://")
	begun := make(chan struct{}, 64)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			br := bufio.NewReader(c)
			for i := 0; ; i++ {
				if _, err := fmt.Fprint(c, "GET /x?work=2ms HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Errorf("request %d was lost: %v", i, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				if i == 10 {
					begun <- struct{}{}
				}
				if resp.Close {
					return
				}
			}
		})
	}
	for range 8 {
		<-begun
	}
	p.Process.Signal(syscall.SIGTERM)
	wg.Wait()
	if code := p.exit(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestStartDelayAndFaults(t *testing.T) {
	p := start(t, "--start-delay 300ms --service-time 0 --lame-duck 0s")
	get(t, p.url+"/healthz", 503)
	get(t, p.url+"/x", 503)
	await(t, "healthy", func() bool {
		resp, err := http.Get(p.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	get(t, p.url+"/x", 200)
	get(t, p.url+"/fault?healthy=false&fail_rate=1&fail_status=502", 200)
	get(t, p.url+"/healthz", 503)
	get(t, p.url+"/x", 502)
	get(t, p.url+"/fault?healthy=true&fail_rate=nonsense", 400)
	get(t, p.url+"/healthz", 503)
	get(t, p.url+"/fault?fail_rate=0&close_rate=1", 200)
	if resp, err := http.Get(p.url + "/x"); err == nil {
		t.Errorf("close_rate=1 answered %d", resp.StatusCode)
	}
	if _, err := http.Get(p.url + "/fault?crash=1"); err == nil {
		t.Error("crash=1 answered")
	}
	if code := p.exit(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

func TestLedgerNamesDeliveredRequests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	p := start(t, "--id b1 --crash-after 2 --service-time 0 --ledger "+file)
	for i := range 2 {
		req, _ := http.NewRequest("GET", p.url+"/echo", nil)
		req.Header.Set("X-Request-Id", fmt.Sprint("r", i))
		resp, err := http.DefaultClient.Do(req)
		if (err == nil) != (i == 0) {
			t.Errorf("request %d: %v", i, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	p.exit(t)
	b, err := os.ReadFile(file)
	if err != nil || string(b) != "r0 GET b1\nr1 GET b1\nr1 GET b1\n" && string(b) != "r0 GET b1\nr1 GET b1\n" {
		t.Errorf("ledger %q, %v", b, err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"--overflow", "x"}, {"--service-time", "200"}, {"--nonsense"}, {"extra"}, {"--service-time", "gauss:1s"}} {
		var out bytes.Buffer
		if code := Main(args, io.Discard, &out); code != 2 || out.Len() == 0 {
			t.Errorf("%v: exit %d, message %q; want 2 and a message", args, code, &out)
		}
	}
}

func TestServiceTimeDistributions(t *testing.T) {
	const n = 20000
	for _, c := range []struct {
		text     string
		mean     float64 // ms
		from, to time.Duration
	}{
		{"200ms", 200, 200 * time.Millisecond, 200 * time.Millisecond},
		{"exp:200ms", 200, 0, time.Hour},
		{"lognormal:200ms,0.5", 200 * math.Exp(0.125), 0, time.Hour},
		{"uniform:100ms-300ms", 200, 100 * time.Millisecond, 300 * time.Millisecond},
	} {
		var s serviceTime
		if err := s.Set(c.text); err != nil {
			t.Fatal(err)
		}
		d, sum := newDice(7), 0.0
		for range n {
			x := s.sample(d)
			if x < c.from || x > c.to {
				t.Fatalf("%s: %v is outside %v–%v", c.text, x, c.from, c.to)
			}
			sum += float64(x) / 1e6
		}
		if mean := sum / n; math.Abs(mean-c.mean) > 0.03*c.mean {
			t.Errorf("%s: mean %.1f ms, want %.1f", c.text, mean, c.mean)
		}
	}
}

func TestWarmUp(t *testing.T) {
	for _, c := range []struct {
		since time.Duration
		want  float64
	}{{0, 4}, {5 * time.Second, 2.5}, {10 * time.Second, 1}, {time.Hour, 1}} {
		if got := warm(c.since, 10*time.Second, 4); got != c.want {
			t.Errorf("warm(%v) = %v, want %v", c.since, got, c.want)
		}
	}
}

func TestListenAddress(t *testing.T) {
	for _, c := range []struct {
		addr string
		pid  int
		want string
	}{{"", 77, "127.0.0.1:8000"}, {"", 1, ":8000"}, {"0.0.0.0", 77, "0.0.0.0:8000"}, {"0.0.0.0:9", 1, "0.0.0.0:9"}, {"::1", 77, "[::1]:8000"}} {
		if got := listenAddress(c.addr, 8000, c.pid); got != c.want {
			t.Errorf("listenAddress(%q, pid %d) = %q, want %q", c.addr, c.pid, got, c.want)
		}
	}
}

func TestCheckFindsTheBackendByItsArguments(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	addr := srv.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	for _, args := range [][]string{{"--addr", addr}, {"--port", port, "--service-time", "1s"}, {"--addr", "0.0.0.0", "--port", port}} {
		if err := Check(t.Context(), args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	srv.Close()
	if err := Check(t.Context(), []string{"--addr", addr}); err == nil {
		t.Error("a backend that is gone is healthy")
	}
}
