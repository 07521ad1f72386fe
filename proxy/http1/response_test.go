package http1

import (
	"errors"
	"strings"
	"testing"
)

// badResponses are refused with 502.
var badResponses = []struct{ name, head string }{
	{"HTTP/0.9", "<html>hello</html>"},
	{"empty lines first", crlfs("\nHTTP/1.1 200 OK\n\n")},
	{"HTTP/2", crlfs("HTTP/2 200\n\n")},
	{"HTTP/1.2", crlfs("HTTP/1.2 200 OK\n\n")},
	{"lower case", crlfs("http/1.1 200 OK\n\n")},
	{"status 099", crlfs("HTTP/1.1 099 x\n\n")},
	{"status 999", crlfs("HTTP/1.1 999 x\n\n")},
	{"status 600", crlfs("HTTP/1.1 600 x\n\n")},
	{"status of two digits", crlfs("HTTP/1.1 20 OK\n\n")},
	{"status of four digits", crlfs("HTTP/1.1 2000 OK\n\n")},
	{"status with sign", crlfs("HTTP/1.1 +20 OK\n\n")},
	{"NUL in reason", crlfs("HTTP/1.1 200 O\x00K\n\n")},
	{"bare CR in reason", "HTTP/1.1 200 O\rK\r\n\r\n"},
	{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"},
	{"bare LF after field", "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n"},
	{"NUL in value", crlfs("HTTP/1.1 200 OK\nA: b\x00\n\n")},
	{"space before colon", crlfs("HTTP/1.1 200 OK\nA : b\n\n")},
	{"obs-fold", crlfs("HTTP/1.1 200 OK\nA: b\n c\n\n")},
	{"two CL", crlfs("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n")},
	{"two equal CL", crlfs("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 1\n\n")},
	{"CL list", crlfs("HTTP/1.1 200 OK\nContent-Length: 1, 1\n\n")},
	{"CL minus", crlfs("HTTP/1.1 200 OK\nContent-Length: -1\n\n")},
	{"CL empty", crlfs("HTTP/1.1 200 OK\nContent-Length: \n\n")},
	{"CL and TE", crlfs("HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\n")},
	{"TE on 1.0", crlfs("HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n")},
	{"TE list", crlfs("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n")},
	{"TE identity", crlfs("HTTP/1.1 200 OK\nTransfer-Encoding: identity\n\n")},
	{"101 without upgrade", crlfs("HTTP/1.1 101 Switching Protocols\n\n")},
	{"101 to something else", crlfs("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: h2c\n\n")},
	{"too many fields", crlfs("HTTP/1.1 200 OK\n" + strings.Repeat("A: b\n", 101) + "\n")},
	{"too large", crlfs("HTTP/1.1 200 OK\nA: ") + strings.Repeat("b", 32<<10)},
}

func TestBadResponses(t *testing.T) {
	for _, row := range badResponses {
		var h Head
		_, err := h.ParseResponse([]byte(row.head), []byte("GET"), Limits{})
		var fault *ProtocolError
		if !errors.As(err, &fault) || fault.Status != 502 || fault.Reason != "bad_response" {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestGoodResponses(t *testing.T) {
	rows := []struct {
		method, head  string
		line          string
		length        int64
		body, chunked bool
		keep          bool
	}{
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", "HTTP/1.1 200 OK", 5, true, false, true},
		{"GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 OK", 0, false, false, true},
		{"GET", "HTTP/1.1 200 \n\n", "HTTP/1.1 200 ", -1, true, false, false},
		{"GET", "HTTP/1.1 200\n\n", "HTTP/1.1 200", -1, true, false, false},
		{"GET", "HTTP/1.0 200 OK\nContent-Length: 5\n\n", "HTTP/1.1 200 OK", 5, true, false, false},
		{"GET", "HTTP/1.0 200 OK\nContent-Length: 5\nConnection: keep-alive\n\n", "HTTP/1.1 200 OK", 5, true, false, true},
		{"GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "HTTP/1.1 200 OK", -1, true, true, true},
		{"GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nConnection: close\n\n", "HTTP/1.1 200 OK", -1, true, true, false},
		{"HEAD", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", "HTTP/1.1 200 OK", 5, false, false, true},
		{"HEAD", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK", -1, false, false, true},
		{"GET", "HTTP/1.1 204 No Content\n\n", "HTTP/1.1 204 No Content", -1, false, false, true},
		{"GET", "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n", "HTTP/1.1 304 Not Modified", 5, false, false, true},
		{"GET", "HTTP/1.1 103 Early Hints\nLink: x\n\n", "HTTP/1.1 103 Early Hints", -1, false, false, true},
		{"GET", "HTTP/1.1 404 \xc3\xa9\t!\nContent-Length: 0\n\n", "HTTP/1.1 404 \xc3\xa9\t!", 0, false, false, true},
	}
	for _, row := range rows {
		var h Head
		raw := crlfs(row.head)
		n, err := h.ParseResponse([]byte(raw+"body"), []byte(row.method), Limits{})
		if err != nil || n != len(raw) {
			t.Errorf("%q: n %d, %v", row.head, n, err)
			continue
		}
		if string(h.StatusLine()) != row.line || h.ContentLength() != row.length || h.HasBody() != row.body || h.Chunked() != row.chunked || h.KeepAlive() != row.keep {
			t.Errorf("%s %q: line %q, length %d, body %v, chunked %v, keep %v", row.method, row.head, h.StatusLine(), h.ContentLength(), h.HasBody(), h.Chunked(), h.KeepAlive())
		}
		for cut := range len(raw) {
			if _, err := h.ParseResponse([]byte(raw[:cut]), []byte(row.method), Limits{}); err != ErrMore {
				t.Errorf("%q cut at %d: %v", row.head, cut, err)
			}
		}
	}
}
