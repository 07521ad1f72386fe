package http1

import (
	"errors"
	"strings"
	"testing"
)

func crlfs(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// badRequests are the rows of the strictness table: each is refused with the status, whatever else is in the head.
var badRequests = []struct {
	name, head string
	status     int
}{
	{"CL and TE", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 3\nTransfer-Encoding: chunked\n\n"), 400},
	{"TE and CL", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nContent-Length: 3\n\n"), 400},
	{"two CL", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 4\n\n"), 400},
	{"two equal CL", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 3\ncontent-length: 3\n\n"), 400},
	{"CL list", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 3, 3\n\n"), 400},
	{"CL plus", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: +3\n\n"), 400},
	{"CL minus", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: -1\n\n"), 400},
	{"CL hex", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 0x3\n\n"), 400},
	{"CL overflow", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 18446744073709551617\n\n"), 400},
	{"CL empty", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length:\n\n"), 400},
	{"CL with a space inside", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 1 2\n\n"), 400},
	{"CL fraction", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 3.0\n\n"), 400},
	{"TE gzip, chunked", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n"), 400},
	{"TE identity", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: identity\n\n"), 400},
	{"TE chunked, chunked", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked\n\n"), 400},
	{"TE twice", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n"), 400},
	{"TE xchunked", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n"), 400},
	{"TE quoted", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \"chunked\"\n\n"), 400},
	{"TE with parameter", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked;a=b\n\n"), 400},
	{"TE empty", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding:\n\n"), 400},
	{"TE with vertical tab", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \x0bchunked\n\n"), 400},
	{"TE on 1.0", crlfs("POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n"), 400},
	{"TE folded", crlfs("POST / HTTP/1.1\nHost: a\nTransfer-Encoding:\n chunked\n\n"), 400},
	{"space before colon", crlfs("GET / HTTP/1.1\nHost : a\n\n"), 400},
	{"space in name", crlfs("GET / HTTP/1.1\nHost: a\nX Foo: b\n\n"), 400},
	{"control in name", crlfs("GET / HTTP/1.1\nHost: a\nX\x01Foo: b\n\n"), 400},
	{"non-ASCII in name", crlfs("GET / HTTP/1.1\nHost: a\nX\xffFoo: b\n\n"), 400},
	{"empty name", crlfs("GET / HTTP/1.1\nHost: a\n: b\n\n"), 400},
	{"no colon", crlfs("GET / HTTP/1.1\nHost: a\nFoo\n\n"), 400},
	{"obs-fold", crlfs("GET / HTTP/1.1\nHost: a\nA: b\n c\n\n"), 400},
	{"obs-fold with tab", crlfs("GET / HTTP/1.1\nHost: a\nA: b\n\tc\n\n"), 400},
	{"white space before the first field", crlfs("GET / HTTP/1.1\n Host: a\n\n"), 400},
	{"bare CR in value", "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400},
	{"bare CR in request line", "GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n", 400},
	{"bare CR as empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rX", 400},
	{"bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
	{"bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
	{"bare LF as empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
	{"NUL in value", crlfs("GET / HTTP/1.1\nHost: a\nA: b\x00c\n\n"), 400},
	{"NUL in name", crlfs("GET / HTTP/1.1\nHost: a\nA\x00: b\n\n"), 400},
	{"NUL in target", crlfs("GET /\x00 HTTP/1.1\nHost: a\n\n"), 400},
	{"DEL in value", crlfs("GET / HTTP/1.1\nHost: a\nA: 0123456789\x7f\n\n"), 400},
	{"no Host", crlfs("GET / HTTP/1.1\nA: b\n\n"), 400},
	{"two Hosts", crlfs("GET / HTTP/1.1\nHost: a\nHost: b\n\n"), 400},
	{"two equal Hosts", crlfs("GET / HTTP/1.1\nHost: a\nHost: a\n\n"), 400},
	{"empty Host", crlfs("GET / HTTP/1.1\nHost:\n\n"), 400},
	{"Host with userinfo", crlfs("GET / HTTP/1.1\nHost: u:p@a\n\n"), 400},
	{"Host with slash", crlfs("GET / HTTP/1.1\nHost: a/b\n\n"), 400},
	{"Host with space", crlfs("GET / HTTP/1.1\nHost: a b\n\n"), 400},
	{"Host list", crlfs("GET / HTTP/1.1\nHost: a, b\n\n"), 400},
	{"Host with percent", crlfs("GET / HTTP/1.1\nHost: a%2eb\n\n"), 400},
	{"Host with bad port", crlfs("GET / HTTP/1.1\nHost: a:8x\n\n"), 400},
	{"Host with large port", crlfs("GET / HTTP/1.1\nHost: a:65536\n\n"), 400},
	{"Host with open bracket", crlfs("GET / HTTP/1.1\nHost: [::1\n\n"), 400},
	{"Host with no IPv6 address in brackets", crlfs("GET / HTTP/1.1\nHost: [:::]\n\n"), 400},
	{"Host with an IPv4 address in brackets", crlfs("GET / HTTP/1.1\nHost: [1.2.3.4]\n\n"), 400},
	{"Host with a zone", crlfs("GET / HTTP/1.1\nHost: [fe80::1%eth0]\n\n"), 400},
	{"Host with junk after bracket", crlfs("GET / HTTP/1.1\nHost: [::1]a\n\n"), 400},
	{"Host of only a port", crlfs("GET / HTTP/1.1\nHost: :80\n\n"), 400},
	{"absolute form without Host", crlfs("GET http://a/ HTTP/1.1\n\n"), 400},
	{"absolute form with userinfo", crlfs("GET http://u@a/ HTTP/1.1\nHost: a\n\n"), 400},
	{"absolute form without authority", crlfs("GET http:///x HTTP/1.1\nHost: a\n\n"), 400},
	{"absolute form with bad Host field", crlfs("GET http://a/ HTTP/1.1\nHost: a@b\n\n"), 400},
	{"other scheme", crlfs("GET ftp://a/ HTTP/1.1\nHost: a\n\n"), 400},
	{"file scheme", crlfs("GET file:///etc/passwd HTTP/1.1\nHost: a\n\n"), 400},
	{"CONNECT", crlfs("CONNECT a:443 HTTP/1.1\nHost: a:443\n\n"), 405},
	{"authority form without CONNECT", crlfs("GET a:443 HTTP/1.1\nHost: a\n\n"), 400},
	{"asterisk without OPTIONS", crlfs("GET * HTTP/1.1\nHost: a\n\n"), 400},
	{"relative target", crlfs("GET a/b HTTP/1.1\nHost: a\n\n"), 400},
	{"fragment", crlfs("GET /a#b HTTP/1.1\nHost: a\n\n"), 400},
	{"space in target", crlfs("GET /a b HTTP/1.1\nHost: a\n\n"), 400},
	{"two spaces", crlfs("GET  / HTTP/1.1\nHost: a\n\n"), 400},
	{"tab as separator", crlfs("GET\t/ HTTP/1.1\nHost: a\n\n"), 400},
	{"space at the end of the request line", crlfs("GET / HTTP/1.1 \nHost: a\n\n"), 400},
	{"no target", crlfs("GET HTTP/1.1\nHost: a\n\n"), 400},
	{"no method", crlfs(" / HTTP/1.1\nHost: a\n\n"), 400},
	{"bad byte in method", crlfs("G(T / HTTP/1.1\nHost: a\n\n"), 400},
	{"HTTP/0.9", crlfs("GET /\n\n"), 400},
	{"HTTP/1.2", crlfs("GET / HTTP/1.2\nHost: a\n\n"), 505},
	{"HTTP/2.0 as text", crlfs("GET / HTTP/2.0\nHost: a\n\n"), 505},
	{"HTTP/0.9 named", crlfs("GET / HTTP/0.9\nHost: a\n\n"), 505},
	{"HTTP/1.10", crlfs("GET / HTTP/1.10\nHost: a\n\n"), 400},
	{"http/1.1 in lower case", crlfs("GET / http/1.1\nHost: a\n\n"), 400},
	{"HTTP/1,1", crlfs("GET / HTTP/1,1\nHost: a\n\n"), 400},
	{"two empty lines first", crlfs("\n\nGET / HTTP/1.1\nHost: a\n\n"), 400},
	{"bare LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"TLS hello", "\x16\x03\x01\x02\x00\x01\x00", 400},
	{"Expect other", crlfs("POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 200-ok\n\n"), 417},
	{"too many Connection options", crlfs("GET / HTTP/1.1\nHost: a\nConnection: " + strings.Repeat("a,", 65) + "\n\n"), 400},
	{"too many fields", crlfs("GET / HTTP/1.1\nHost: a\n" + strings.Repeat("A: b\n", 100) + "\n"), 431},
	{"head too large", crlfs("GET / HTTP/1.1\nHost: a\nA: " + strings.Repeat("b", 32<<10) + "\n\n"), 431},
	{"endless field", crlfs("GET / HTTP/1.1\nHost: a\nA: ") + strings.Repeat("b", 32<<10), 431},
	{"endless target", "GET /" + strings.Repeat("b", 32<<10), 431},
	{"endless method", strings.Repeat("b", 32<<10), 431},
}

func TestBadRequests(t *testing.T) {
	for _, row := range badRequests {
		var h Head
		_, err := h.ParseRequest([]byte(row.head), Limits{})
		var fault *ProtocolError
		if !errors.As(err, &fault) || fault.Status != row.status {
			t.Errorf("%s: %v, want status %d", row.name, err, row.status)
		}
		// A log line may ask for what was understood.
		_, _, _, _, _ = h.Method(), h.Target(), h.Path(), h.Host(), h.Get("User-Agent")
	}
}

func TestGoodRequests(t *testing.T) {
	rows := []struct {
		head                 string
		target, query, host  string
		length               int64
		chunked, keep, empty bool
	}{
		{head: "GET /a?b=c?d HTTP/1.1\nHost: a.example:8080\n\n", target: "/a?b=c?d", query: "b=c?d", host: "a.example:8080", length: -1, keep: true},
		{head: "\nGET / HTTP/1.1\nHost: a\n\n", target: "/", host: "a", length: -1, keep: true},
		{head: "GET / HTTP/1.1\nHost: [2001:db8::1]:80\n\n", target: "/", host: "[2001:db8::1]:80", length: -1, keep: true},
		{head: "GET / HTTP/1.1\nhost:\t a_b.c \t\n\n", target: "/", host: "a_b.c", length: -1, keep: true},
		{head: "POST / HTTP/1.1\nHost: a\nContent-Length: 0012\n\n", target: "/", host: "a", length: 12, keep: true},
		{head: "POST / HTTP/1.1\nHost: a\ntransfer-encoding: Chunked \n\n", target: "/", host: "a", length: -1, chunked: true, keep: true},
		{head: "GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n", target: "/", host: "a", length: -1},
		{head: "GET / HTTP/1.0\n\n", target: "/", length: -1},
		{head: "GET / HTTP/1.0\nConnection: keep-alive\n\n", target: "/", length: -1, keep: true},
		{head: "GET http://b:81/x?y HTTP/1.1\nHost: a\n\n", target: "/x?y", query: "y", host: "b:81", length: -1, keep: true},
		{head: "GET HTTPS://b HTTP/1.1\nHost: a\n\n", target: "/", host: "b", length: -1, keep: true},
		{head: "GET http://b?q HTTP/1.1\nHost: a\n\n", target: "/?q", query: "q", host: "b", length: -1, keep: true},
		{head: "OPTIONS * HTTP/1.1\nHost: a\n\n", target: "*", host: "a", length: -1, keep: true},
		{head: "OPTIONS http://b HTTP/1.1\nHost: a\n\n", target: "*", host: "b", length: -1, keep: true},
		{head: "GET /%00/..//\xc3\xa9 HTTP/1.1\nHost: a\n\n", target: "/%00/..//\xc3\xa9", host: "a", length: -1, keep: true},
	}
	for _, row := range rows {
		var h Head
		raw := crlfs(row.head)
		n, err := h.ParseRequest([]byte(raw+"rest"), Limits{})
		if err != nil || n != len(raw) {
			t.Errorf("%q: n %d, %v", row.head, n, err)
			continue
		}
		if string(h.Target()) != row.target || string(h.Query()) != row.query || string(h.Host()) != row.host {
			t.Errorf("%q: target %q, query %q, host %q", row.head, h.Target(), h.Query(), h.Host())
		}
		path, _, _ := strings.Cut(row.target, "?")
		if string(h.Path()) != path {
			t.Errorf("%q: path %q", row.head, h.Path())
		}
		if h.ContentLength() != row.length || h.Chunked() != row.chunked || h.KeepAlive() != row.keep {
			t.Errorf("%q: length %d, chunked %v, keep %v", row.head, h.ContentLength(), h.Chunked(), h.KeepAlive())
		}
	}
}

// At every cut of a good head the answer is "more", so that no client is refused for how its bytes travel.
func TestRequestAtEveryCut(t *testing.T) {
	raw := crlfs("\nPOST http://b:80/x?y HTTP/1.1\nHost: a\nContent-Length: 5\nX-Long: some text of more than eight bytes\n\n")
	for cut := range len(raw) {
		var h Head
		if n, err := h.ParseRequest([]byte(raw[:cut]), Limits{}); err != ErrMore {
			t.Fatalf("cut at %d: n %d, %v", cut, n, err)
		}
	}
}

func TestFields(t *testing.T) {
	var h Head
	raw := crlfs("GET / HTTP/1.1\nHost: a\nX-A: 1\nx-a:2\nEmpty:\n\n")
	if _, err := h.ParseRequest([]byte(raw), Limits{}); err != nil {
		t.Fatal(err)
	}
	if h.Len() != 4 || string(h.Name(1)) != "X-A" || string(h.Value(2)) != "2" {
		t.Errorf("len %d, name %q, value %q", h.Len(), h.Name(1), h.Value(2))
	}
	if i := h.Index("X-a", 0); i != 1 || h.Index("x-A", 2) != 2 || h.Index("x-a", 3) != -1 || h.Index("X-", 0) != -1 {
		t.Error("Index")
	}
	if string(h.Get("x-A")) != "1" || h.Get("empty") == nil || h.Get("none") != nil {
		t.Error("Get")
	}
}

func TestWebsocketExpectAndTE(t *testing.T) {
	rows := []struct {
		head                        string
		websocket, expect, trailers bool
	}{
		{head: "GET / HTTP/1.1\nHost: a\nConnection: keep-alive, Upgrade\nUpgrade: WebSocket\n\n", websocket: true},
		{head: "GET / HTTP/1.1\nHost: a\nUpgrade: websocket\n\n"},
		{head: "GET / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: h2c\n\n"},
		{head: "GET / HTTP/1.0\nHost: a\nConnection: upgrade\nUpgrade: websocket\n\n"},
		{head: "POST / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: websocket\n\n"},
		{head: "GET / HTTP/1.1\nHost: a\nConnection: upgrade\nUpgrade: websocket\nContent-Length: 1\n\n"},
		{head: "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 100-Continue\n\n", expect: true},
		{head: "POST / HTTP/1.1\nHost: a\nExpect: 100-continue\n\n"},
		{head: "POST / HTTP/1.0\nHost: a\nContent-Length: 1\nExpect: 100-continue\n\n"},
		{head: "POST / HTTP/1.1\nHost: a\nTE: gzip, trailers\n\n", trailers: true},
	}
	for _, row := range rows {
		var h Head
		if _, err := h.ParseRequest([]byte(crlfs(row.head)), Limits{}); err != nil {
			t.Errorf("%q: %v", row.head, err)
		}
		if h.Websocket() != row.websocket || h.ExpectContinue() != row.expect || h.TrailersAccepted() != row.trailers {
			t.Errorf("%q: websocket %v, expect %v, trailers %v", row.head, h.Websocket(), h.ExpectContinue(), h.TrailersAccepted())
		}
	}
}

func TestLimitsAreExact(t *testing.T) {
	raw := crlfs("GET / HTTP/1.1\nHost: a\nA: b\n\n")
	var h Head
	if _, err := h.ParseRequest([]byte(raw), Limits{MaxHead: len(raw), MaxFields: 2}); err != nil {
		t.Error(err)
	}
	if _, err := h.ParseRequest([]byte(raw), Limits{MaxHead: len(raw) - 1}); err != faultTooLarge {
		t.Error(err)
	}
	if _, err := h.ParseRequest([]byte(raw), Limits{MaxFields: 1}); err != faultTooMany {
		t.Error(err)
	}
}

func TestHeadEnds(t *testing.T) {
	for _, s := range []string{"a\r\n\r\n", "a\n\n", "a\n\r\n", "a\r\n\n"} {
		for from := range len(s) + 1 {
			if !headEnds([]byte(s), from) {
				t.Errorf("%q from %d: not seen", s, from)
			}
		}
		if headEnds([]byte(s[:len(s)-1]), 0) {
			t.Errorf("%q seen too early", s)
		}
	}
}
