package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// echoHead answers with the head as the server saw it, fields sorted.
func echoHead(w http.ResponseWriter, r *http.Request) {
	var lines []string
	for name, values := range r.Header {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n%s\n", r.Method, r.RequestURI, r.Proto, r.Host, strings.Join(lines, "\n"))
}

func has(t *testing.T, body string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		absent, _ := strings.CutPrefix(line, "!")
		if found := strings.Contains("\n"+body+"\n", "\n"+absent); found != (absent == line) {
			t.Errorf("%q in\n%s", line, body)
		}
	}
}

func TestForwardsRawTargetAndHost(t *testing.T) {
	g := simple(t, RouteConfig{}, echoHead)
	r := g.do("GET /a//%41;x/%20?q=%2f&&a HTTP/1.1\nHost: ExAmple.test:99\nx-lower: 1\nX-Twice: 1\nX-Twice: 2\n\n")
	has(t, r.body, "GET /a//%41;x/%20?q=%2f&&a HTTP/1.1", "Host: ExAmple.test:99", "X-Lower: 1", "X-Twice: 1", "X-Twice: 2",
		"X-Forwarded-For: 127.0.0.1\n", "X-Real-Ip: 127.0.0.1\n", "X-Forwarded-Proto: http\n", "X-Forwarded-Host: ExAmple.test:99\n", "X-Forwarded-Port: ", "X-Request-Id: ", "!User-Agent", "!Forwarded")
}

func TestSpoofedIdentityIsReplaced(t *testing.T) {
	g := simple(t, RouteConfig{}, echoHead)
	r := g.do(`GET / HTTP/1.1
Host: x
X-Forwarded-For: 6.6.6.6
x-forwarded-for: 7.7.7.7
X_Forwarded_For: 8.8.8.8
X-Forwarded_For: 8.8.8.9
X-Forwarded-Proto: https
X-Forwarded-Host: evil
X-Forwarded-Port: 1
X-Forwarded-Prefix: /evil
X-Real-IP: 6.6.6.6
X_Real_IP: 6.6.6.6
Forwarded: for=6.6.6.6
X-Request-Id: evil
Connection: close, X-Forwarded-For, X-Real-IP, X-Secret
X-Secret: hop
Proxy-Authorization: secret
Proxy: http://evil
TE: gzip
Keep-Alive: timeout=5

`)
	has(t, r.body, "X-Forwarded-For: 127.0.0.1\n", "X-Real-Ip: 127.0.0.1\n", "X-Forwarded-Proto: http\n", "X-Forwarded-Host: x\n",
		`Forwarded: for="127.0.0.1";host="x";proto=http`, "!X-Forwarded-Prefix", "!X-Secret", "!Proxy", "!Te:", "!Keep-Alive", "!Connection")
	for _, evil := range []string{"6.6.6.6", "7.7.7.7", "8.8.8", "evil", "secret", "hop"} {
		if strings.Contains(r.body, evil) {
			t.Errorf("%s came through:\n%s", evil, r.body)
		}
	}
}

func TestTrustedProxyIsAppended(t *testing.T) {
	g := simple(t, RouteConfig{RateLimit: &RateLimitConfig{Rate: 0.001, Burst: 1, Key: "client_ip", Status: 429}}, echoHead)
	g.trust("127.0.0.0/8", "10.0.0.0/8")
	r := g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 6.6.6.6, 1.2.3.4:5\nX-Forwarded-For: 10.0.0.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: y\nX-Forwarded-Port: 443\nX-Forwarded-Prefix: /p\nX-Request-Id: abc-1\nForwarded: for=1.2.3.4\nConnection: close\n\n")
	has(t, r.body, "X-Forwarded-For: 6.6.6.6, 1.2.3.4:5, 10.0.0.1, 127.0.0.1\n", "X-Real-Ip: 1.2.3.4\n", "X-Forwarded-Proto: https\n", "X-Forwarded-Host: y\n",
		"X-Forwarded-Port: 443\n", "X-Forwarded-Prefix: /p\n", "X-Request-Id: abc-1\n", `Forwarded: for=1.2.3.4, for="127.0.0.1";host="x";proto=http`)
	// The limit is the client's, not the proxy's, and what the client wrote itself does not count.
	g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 9.9.9.9, 1.2.3.4\nConnection: close\n\n").wants(t, 429, ReasonRateLimited)
	g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 1.2.3.4, 9.9.9.9\nConnection: close\n\n").wants(t, 200, "")
	if line := g.line(3, "request_id", "abc-1"); line["client"] != "1.2.3.4" {
		t.Errorf("logged %v", line)
	}
}

func TestClientBehind(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for value, want := range map[string]string{
		"":                           "10.9.9.9",
		"1.2.3.4":                    "1.2.3.4",
		"1.2.3.4, 10.0.0.1":          "1.2.3.4",
		"5.6.7.8, 1.2.3.4, 10.0.0.1": "1.2.3.4",
		"10.0.0.2, 10.0.0.1":         "10.0.0.2",
		"1.2.3.4, nonsense, fd00::1": "fd00::1",
		"nonsense":                   "10.9.9.9",
		"[2001:db8::1]:80, fd00::1":  "2001:db8::1",
		"2001:db8::2":                "2001:db8::2",
		"::ffff:1.2.3.4":             "1.2.3.4",
		"fe80::1%eth0":               "10.9.9.9",
		"1.2.3.4:99,10.0.0.1":        "1.2.3.4",
		" , 10.0.0.1":                "10.0.0.1",
	} {
		h := new(http1.Head)
		if _, err := h.ParseRequest([]byte("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+value+"\r\n\r\n"), http1.Limits{}); err != nil {
			t.Fatal(err)
		}
		if got := clientBehind(h, trusted, netip.MustParseAddr("10.9.9.9")); got.String() != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}

// What a trusted proxy passes on without looking is not believed when it makes no sense.
func TestTrustedProxyPassesNonsense(t *testing.T) {
	g := simple(t, RouteConfig{}, echoHead)
	g.trust("127.0.0.0/8")
	r := g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-Proto: evil\nX-Forwarded-Host: a b\nX-Forwarded-Port: 1;x\nConnection: close\n\n")
	has(t, r.body, "X-Forwarded-Proto: http\n", "X-Forwarded-Host: x\n", "X-Forwarded-Port: ", "!evil", "!a b", "!1;x")
	r = g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-Proto: HTTPS, http\nX-Forwarded-Host: a:1, b\nX-Forwarded-Port: 443, 80\nConnection: close\n\n")
	has(t, r.body, "X-Forwarded-Proto: HTTPS, http\n", "X-Forwarded-Host: a:1, b\n", "X-Forwarded-Port: 443, 80\n")
}

func TestOnlySluiceSaysWhySluiceAnswers(t *testing.T) {
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Sluice-Reason", "queue_full")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	g.do("GET / HTTP/1.1\nHost: x\nConnection: close\n\n").wants(t, 503, "")
}

func TestHeaderEdits(t *testing.T) {
	g := simple(t, RouteConfig{Headers: HeadersConfig{
		Request:  map[string]string{"X-Set": "new", "cookie": "", "Host": "inner.test", "X-Forwarded-Proto": "https", "X-Real-IP": ""},
		Response: map[string]string{"Server": "", "X-Frame-Options": "DENY", "Content-Type": "text/x"},
	}}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "old")
		w.Header().Add("X-Frame-Options", "a")
		w.Header().Add("X-Frame-Options", "b")
		echoHead(w, r)
	})
	r := g.do("GET / HTTP/1.1\nHost: outer.test\nx-set: old\nX-Set: older\nCookie: a=b\nX-Keep: 1\nConnection: close\n\n")
	has(t, r.body, "X-Set: new\n", "Host: inner.test\n", "X-Keep: 1\n", "X-Forwarded-Proto: https\n", "X-Forwarded-Host: outer.test", "!Cookie", "!X-Set: old", "!X-Real-Ip", "!X-Forwarded-Proto: http\n")
	if r.Header.Get("Server") != "" || fmt.Sprint(r.Header["X-Frame-Options"], r.Header["Content-Type"]) != "[DENY] [text/x]" {
		t.Errorf("response fields %v", r.Header)
	}
}

// The server gets no fields out of trailers that would say who the client is.
func TestTrailersCannotCarryIdentity(t *testing.T) {
	seen := make(chan http.Header, 1)
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 100)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				break
			}
		}
		seen <- r.Trailer
		w.Header().Set("Trailer", "X-Sum")
		_, _ = w.Write([]byte("hello"))
		w.Header().Set("X-Sum", "42")
	})
	r := g.do("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nTrailer: X-Sum, X-Forwarded-For\nConnection: close\n\n3\nabc\n0\nX-Sum: 7\nX-Forwarded-For: 6.6.6.6\nHost: evil\n\n")
	r.wants(t, 200, "")
	if got := <-seen; got.Get("X-Forwarded-For") != "" || got.Get("Host") != "" {
		t.Errorf("trailers %v", got)
	}
	if r.Trailer.Get("X-Sum") != "42" {
		t.Errorf("response trailers %v", r.Trailer)
	}
}

// Max-Forwards counts down for the methods that it is for, and no number is not one.
func TestMaxForwards(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	for i, row := range []struct{ method, value, want string }{
		{"OPTIONS", "5", "4"}, {"TRACE", "1", "0"}, {"OPTIONS", "2147483647", "2147483646"},
		{"GET", "5", "5"}, {"GET", "0", "0"}, {"OPTIONS", "-1", "-1"}, {"OPTIONS", "x", "x"}, {"OPTIONS", "99999999999", "99999999999"},
	} {
		g.do(fmt.Sprintf("%s /%d HTTP/1.1\nHost: x\nMax-Forwards: %s\nConnection: close\n\n", row.method, i, row.value)).wants(t, 200, "")
		sent := rec.bytes()
		if sent = sent[strings.Index(sent, fmt.Sprintf("%s /%d ", row.method, i)):]; strings.Count(sent, "Max-Forwards: "+row.want+"\r\n") != 1 || strings.Count(sent, "Max-Forwards") != 1 {
			t.Errorf("%s with %s: %q", row.method, row.value, sent)
		}
	}
}

// A field that a route sets or removes comes neither as a trailer nor in an interim response: some servers take trailers for fields.
func TestEditsHoldForTrailersAndInterims(t *testing.T) {
	rec := &recorder{}
	addr := rawServer(t, func(c net.Conn, _ *bufio.Reader, _ int) {
		r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, rec)))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 103\r\nLink: </a>\r\nX-Secret: 1\r\nX-Sluice-Reason: denied\r\n\r\n"+
			"HTTP/1.1 200 OK\r\nTrailer: X-Secret, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Secret: 1\r\nX-Sum: 8\r\n\r\n")
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{Headers: HeadersConfig{
		Request:  map[string]string{"X-Tenant": "nobody", "X-Role": ""},
		Response: map[string]string{"X-Secret": ""},
	}}), addr)
	c := g.dial()
	defer c.Close()
	c.send("POST / HTTP/1.1\nHost: x\nConnection: close\nTrailer: X-Tenant, X-Role, X-Sum\nTransfer-Encoding: chunked\n\n3\nabc\n0\nX-Tenant: admin\nx-role: root\nX-Sum: 7\n\n")
	got, _ := io.ReadAll(c.r)
	if want := "HTTP/1.1 103 \r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"; !strings.HasPrefix(string(got), want) {
		t.Errorf("%q", got)
	}
	if !strings.HasSuffix(string(got), "0\r\nX-Sum: 8\r\n\r\n") {
		t.Errorf("%q", got)
	}
	if sent := rec.bytes(); !strings.HasSuffix(sent, "0\r\nX-Sum: 7\r\n\r\n") || !strings.Contains(sent, "X-Tenant: nobody\r\n") || strings.Contains(sent, "X-Role:") {
		t.Errorf("%q", sent)
	}
}

func TestStickyCookie(t *testing.T) {
	who := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }
	}
	cfg := balancer.DefaultConfig()
	cfg.Balance = "round_robin"
	cfg.Sticky = &balancer.StickyConfig{Cookie: "where"}
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, who("1")), serve(t, who("2")), serve(t, who("3")))
	first := g.do("GET / HTTP/1.1\nHost: x\n\n")
	set := first.Cookies()
	if len(set) != 1 || set[0].Name != "where" || !set[0].HttpOnly {
		t.Fatalf("cookies %v", first.Header["Set-Cookie"])
	}
	for range 6 {
		r := g.do("GET / HTTP/1.1\nHost: x\nCookie: a=b; where=" + set[0].Value + "\n\n")
		if r.body != first.body || len(r.Cookies()) != 0 {
			t.Errorf("server %s, was %s; cookies %v", r.body, first.body, r.Cookies())
		}
	}
	if r := g.do("GET / HTTP/1.1\nHost: x\nCookie: where=zzz\n\n"); len(r.Cookies()) != 1 {
		t.Error("a cookie of no server was not replaced")
	}
}

func TestHashByHeader(t *testing.T) {
	who := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }
	}
	cfg := balancer.DefaultConfig()
	cfg.Balance, cfg.HashKey = "hash", "header:X-Key"
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, who("1")), serve(t, who("2")), serve(t, who("3")))
	used := map[string]bool{}
	for key := range 60 {
		request := fmt.Sprintf("GET / HTTP/1.1\nHost: x\nX-Key: k%d\n\n", key)
		one, two := g.do(request).body, g.do(request).body
		if one != two {
			t.Errorf("key %d went to %s and %s", key, one, two)
		}
		used[one] = true
	}
	if len(used) != 3 {
		t.Errorf("60 keys on %d of 3 servers", len(used))
	}
}
