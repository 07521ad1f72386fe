package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAccessLogFields(t *testing.T) {
	g := simple(t, RouteConfig{}, ok)
	g.do("GET /a%20b?x=1&token=hush HTTP/1.1\nHost: x.test\nUser-Agent: a \"quoted\" agent\nAuthorization: Bearer hush\n\n").wants(t, 200, "")
	g.lines(1)
	text := g.log.b.String()
	var keys []string
	d := json.NewDecoder(strings.NewReader(text))
	for depth := 0; ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, is := token.(json.Delim); is {
			continue
		}
		if depth++; depth%2 == 1 {
			keys = append(keys, token.(string))
		}
	}
	want := strings.Fields("ts client method host path proto tls status reason bytes_in bytes_out t_queue t_connect t_first_byte t_total route upstream server tries request_id user_agent")
	if !slices.Equal(keys, want) {
		t.Errorf("fields %v", keys)
	}
	if strings.Contains(text, "hush") {
		t.Errorf("a secret is in the log: %s", text)
	}
	var line struct {
		TS                  time.Time
		Client, Path, Route string
		Upstream, Server    string
		UserAgent           string  `json:"user_agent"`
		RequestID           string  `json:"request_id"`
		Total               float64 `json:"t_total"`
		FirstByte           float64 `json:"t_first_byte"`
		BytesOut            int     `json:"bytes_out"`
		Tries               int
	}
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatal(err)
	}
	if time.Since(line.TS) > time.Minute || line.Client != "127.0.0.1" || line.Path != "/a%20b?x=1&token=***" || line.Route != "r" || line.Upstream != "a" || line.Server == "" ||
		line.UserAgent != `a "quoted" agent` || len(line.RequestID) != 32 || line.Total < line.FirstByte || line.FirstByte <= 0 || line.BytesOut < 100 || line.Tries != 1 {
		t.Errorf("%+v", line)
	}
}

func TestAccessLogFormats(t *testing.T) {
	for format, pattern := range map[string]string{
		"combined": `^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /a\?key=\*\*\* HTTP/1\.1" 200 2 "-" "curl/1 \\x22x\\x22"\n$`,
		"logfmt":   `^ts=\S+Z client=127\.0\.0\.1 method=GET host=x path="/a\?key=\*\*\*" proto=HTTP/1\.1 tls="" status=200 reason="" bytes_in=\d+ .* route=r upstream=a server=\S+ tries=1 request_id=\w{32} user_agent="curl/1 \\"x\\""\n$`,
	} {
		g := simple(t, RouteConfig{}, ok)
		out := &lockedBuffer{}
		log, err := NewAccessLog(format, out)
		if err != nil {
			t.Fatal(err)
		}
		g.proxy.SetAccessLog(log)
		g.do("GET /a?key=1 HTTP/1.1\nHost: x\nUser-Agent: curl/1 \"x\"\n\n").wants(t, 200, "")
		g.eventually("a line without being asked for", func() bool {
			out.mu.Lock()
			defer out.mu.Unlock()
			return out.b.Len() > 0
		})
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if !regexp.MustCompile(pattern).Match(out.b.Bytes()) {
			t.Errorf("%s: %s", format, out.b.String())
		}
	}
	if log, err := NewAccessLog("off", nil); log != nil || err != nil {
		t.Error("off is not off")
	}
	if _, err := NewAccessLog("xml", nil); err == nil {
		t.Error("xml was taken")
	}
}

func TestAccessLogReopen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	log, err := OpenAccessLog("json", file)
	if err != nil {
		t.Fatal(err)
	}
	log.add([]byte("one\n"))
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := log.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.add([]byte("two\n"))
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{file + ".1": "one\n", file: "two\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// stuck is a writer that takes nothing until it is let go.
type stuck struct{ entered, release chan bool }

func (s stuck) Write(p []byte) (int, error) {
	select {
	case s.entered <- true:
	default:
	}
	<-s.release
	return len(p), nil
}

func TestAccessLogNeverHoldsUpRequests(t *testing.T) {
	w := stuck{make(chan bool, 1), make(chan bool)}
	log, err := NewAccessLog("json", w)
	if err != nil {
		t.Fatal(err)
	}
	line := append(bytes.Repeat([]byte("x"), 1023), '\n')
	log.add(line)
	<-w.entered
	for range 2 * logLargest / len(line) { // returns although nothing is taken
		log.add(line)
	}
	if lost := log.Lost(); lost != logLargest/1024 {
		t.Errorf("%d lines lost", lost)
	}
	close(w.release)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

// A panic takes the request with it, and nothing else: slots and places are free, the next is served.
func TestPanicReleasesEverything(t *testing.T) {
	g := simple(t, RouteConfig{LimitConn: &LimitConnConfig{Max: 1, Key: "route", Status: 503}}, ok)
	broken := g.ups["b"]
	broken.SetHooks(nil, nil) // its servers have no transport
	setServers(broken, "127.0.0.1:1")
	limit := &LimitConnConfig{Max: 1, Key: "route", Status: 503}
	g.routes = []RouteConfig{{Name: "broken", Path: "/broken", Upstream: "b", LimitConn: limit}, {Name: "r", Upstream: "a"}}
	g.store(nil)
	for range 3 {
		c := g.dial()
		c.send("GET /broken HTTP/1.1\nHost: x\n\n")
		if r, err := http.ReadResponse(c.r, nil); err == nil {
			t.Fatalf("got %d", r.StatusCode)
		}
		_ = c.Close()
	}
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 200, "")
	if n := broken.InFlight(); n != 0 {
		t.Errorf("%d slots taken", n)
	}
	if n := g.rejected("broken", ReasonInternal); n != 3 {
		t.Errorf("%d counted as internal", n)
	}
}
