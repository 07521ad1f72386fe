package http1

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// The oracle of these targets is net/http: what we accept it must accept and read in the same way. Where it refuses more, each
// exception is named. It is laxer elsewhere, which does not matter.

// takenOut are the fields that net/http takes out of Header, or some of them.
var takenOut = []string{"Host", "Transfer-Encoding", "Trailer", "Connection"}

// canonical are the other fields of a head as net/http names them, sorted.
func canonical(h *Head, keep func(i int) bool) []string {
	var all []string
	for i := range h.Len() {
		name := textproto.CanonicalMIMEHeaderKey(string(h.Name(i)))
		if !slices.Contains(takenOut, name) && keep(i) {
			all = append(all, name+": "+string(h.Value(i)))
		}
	}
	slices.Sort(all)
	return all
}

func everything(int) bool { return true }

func listed(h http.Header) []string {
	var all []string
	for name, values := range h {
		if slices.Contains(takenOut, name) {
			continue
		}
		for _, v := range values {
			all = append(all, name+": "+v)
		}
	}
	slices.Sort(all)
	return all
}

// withPragma adds what net/http adds to requests and responses that say Pragma: no-cache.
func withPragma(fields []string, pragma []byte) []string {
	if string(pragma) != "no-cache" || slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Cache-Control: ") }) {
		return fields
	}
	fields = append(fields, "Cache-Control: no-cache")
	slices.Sort(fields)
	return fields
}

// originForm is what a target means to a server.
func originForm(target, method string) string {
	_, rest, absolute := strings.Cut(target, "://")
	if !absolute || target[0] == '/' {
		return target
	}
	at := strings.IndexAny(rest, "/?")
	switch {
	case at < 0 && method == "OPTIONS":
		return "*"
	case at < 0:
		return "/"
	case rest[at] == '?':
		return "/" + rest[at:]
	}
	return rest[at:]
}

// sameRequest compares what h says of the head raw with what net/http reads in it.
func sameRequest(t *testing.T, raw []byte, h *Head) {
	t.Helper()
	raw = bytes.TrimPrefix(raw, []byte("\r\n"))
	req, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(raw), 64<<10))
	var escape url.EscapeError
	switch {
	case errors.As(err, &escape): // the proxy refuses those in a path, and a query means nothing to it
		return
	case err != nil && h.trailerField >= 0: // one that announces framing fields: we take them away
		return
	case err != nil:
		t.Fatalf("%q is accepted; net/http: %v", raw, err)
	}
	length := max(h.ContentLength(), 0)
	if h.Chunked() {
		length = -1
	}
	chunked := len(req.TransferEncoding) == 1 && req.TransferEncoding[0] == "chunked"
	if req.Method != string(h.Method()) || originForm(req.RequestURI, req.Method) != string(h.Target()) || req.Host != string(h.Host()) ||
		req.ContentLength != length || chunked != h.Chunked() || req.Close != !h.KeepAlive() {
		t.Fatalf("%q: method %q, target %q, host %q, length %d, chunked %v, keep %v; net/http: %s %s %s %d %v, close %v", raw,
			h.Method(), h.Target(), h.Host(), h.ContentLength(), h.Chunked(), h.KeepAlive(),
			req.Method, req.RequestURI, req.Host, req.ContentLength, req.TransferEncoding, req.Close)
	}
	if ours, theirs := withPragma(canonical(h, everything), h.Get("Pragma")), listed(req.Header); !slices.Equal(ours, theirs) {
		t.Fatalf("%q: %q; net/http: %q", raw, ours, theirs)
	}
}

// staysHere tells independently of the scanner what concerns one connection only (RFC 9110 §7.6.1), or else is not passed on.
func staysHere(h *Head, i int) bool {
	name := strings.ToLower(string(h.Name(i)))
	switch name {
	case "connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy":
		return true
	case "expect":
		return !h.response
	case "content-length":
		return h.response && h.Status() < 200
	}
	if strings.HasPrefix(name, "proxy-") || !h.response && strings.Contains(name, "_") {
		return true
	}
	for c := h.Index("Connection", 0); c >= 0; c = h.Index("Connection", c+1) {
		for option := range strings.SplitSeq(string(h.Value(c)), ",") {
			if strings.EqualFold(strings.Trim(option, " \t"), name) && !endToEnd([]byte(name)) {
				return true
			}
		}
	}
	return false
}

// checkLines fails when a head has other line ends than CRLF, or a NUL, anywhere.
func checkLines(t *testing.T, head []byte) {
	t.Helper()
	if n := bytes.Count(head, []byte("\r\n")); !bytes.HasSuffix(head, []byte("\r\n\r\n")) || bytes.Count(head, []byte("\n")) != n || bytes.Count(head, []byte("\r")) != n ||
		bytes.IndexByte(head, 0) >= 0 {
		t.Fatalf("accepted %q", head)
	}
}

// What is accepted means the same to net/http, however it is cut; forwarded it is the same request with exactly the same fields
// but those that stay here.
func FuzzRequestHead(f *testing.F) {
	for _, row := range badRequests {
		f.Add([]byte(row.head))
	}
	for _, head := range []string{
		"GET http://b?q HTTP/1.1\nHost: a\nConnection: x, y\nX: 1\nY: 2\nTrailer: z\n\n",
		"POST /a?b HTTP/1.1\nHost: [::1]:80\nTransfer-Encoding: chunked\nExpect: 100-continue\n\n5\nhello\n0\n\n",
		"OPTIONS http://b HTTP/1.1\nHost: a\n\n",
		"0 http://00 HTTP/1.0\n0:\n\n",
		"GET http://[::ffff:1.2.3.4]:/ HTTP/1.1\nHost: [a]\n\n",
		"GET http://[:::]/ HTTP/1.1\nHost: a\n\n",
		"GET http://[1.2.3.4]/ HTTP/1.1\nHost: a\n\n",
		"GET //a/../b;c=d/%2e%2F?x=%zz HTTP/1.1\nhost:a.\nA:\nA: \t b \t\nPragma: no-cache\n\n",
		"POST / HTTP/1.0\nContent-Length: 0003\nConnection: keep-alive, close, Content-Length\n\nabc",
	} {
		f.Add([]byte(crlfs(head)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Head
		n, err := h.ParseRequest(bytes.Clone(b), Limits{})
		if err != nil {
			if n != 0 {
				t.Fatal("n with an error")
			}
			return
		}
		head := b[:n]
		checkLines(t, head)
		for cut := 0; cut < n; cut += 1 + n/16 {
			var part Head
			if _, err := part.ParseRequest(bytes.Clone(b[:cut]), Limits{}); err != ErrMore {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		sameRequest(t, head, &h)
		want := canonical(&h, func(i int) bool { return !staysHere(&h, i) })

		h.DropHopByHop()
		out := append([]byte(nil), h.Method()...)
		out = append(out, ' ')
		out = append(out, h.Target()...)
		out = append(out, " HTTP/1.1\r\n"...)
		if h.Index("host", 0) < 0 {
			out = append(append(append(out, "Host: "...), cmp.Or(string(h.Host()), "x")...), "\r\n"...)
		}
		out = h.AppendKept(out)
		if h.Chunked() {
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
		}
		out = append(out, "\r\n"...)
		var again Head
		if n, err := again.ParseRequest(bytes.Clone(out), Limits{MaxHead: 1 << 20, MaxFields: 1000}); err != nil || n != len(out) {
			t.Fatalf("%q is forwarded as %q: %v", head, out, err)
		}
		sameRequest(t, out, &again)
		if string(again.Target()) != string(h.Target()) || again.ContentLength() != h.ContentLength() || again.Chunked() != h.Chunked() ||
			len(h.Host()) > 0 && string(again.Host()) != string(h.Host()) {
			t.Fatalf("%q is forwarded as %q", head, out)
		}
		if got := canonical(&again, everything); !slices.Equal(got, want) {
			t.Fatalf("%q is forwarded with %q, want %q", head, got, want)
		}
	})
}

// The same for responses.
func FuzzResponseHead(f *testing.F) {
	for _, row := range badResponses {
		f.Add([]byte(row.head), "GET")
	}
	for _, head := range []string{
		"HTTP/1.0 200 OK\nContent-Length: 5\n\n", "HTTP/1.1 200\nTransfer-Encoding: chunked\n\n", "HTTP/1.1 204 \nTransfer-Encoding: chunked\n\n",
		"HTTP/1.1 304 x\nContent-Length: 0\nConnection: close, a\nA: b\nSet-Cookie: c\nSet-Cookie: d\n\n", "HTTP/1.1 103 x\nContent-Length: 7\n\n",
		"HTTP/1.1 200 OK\nKeep-Alive: timeout=5\nProxy-Authenticate: a\nX_Y: z\nUpgrade: h2c\n\n",
	} {
		f.Add([]byte(crlfs(head)), "HEAD")
		f.Add([]byte(crlfs(head)), "GET")
	}
	f.Fuzz(func(t *testing.T, b []byte, method string) {
		var h Head
		n, err := h.ParseResponse(bytes.Clone(b), []byte(method), Limits{})
		if err != nil {
			return
		}
		head := b[:n]
		checkLines(t, head)
		for cut := 0; cut < n; cut += 1 + n/16 {
			var part Head
			if _, err := part.ParseResponse(bytes.Clone(b[:cut]), []byte(method), Limits{}); err != ErrMore {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		sameResponse(t, head, method, &h)
		want := canonical(&h, func(i int) bool { return !staysHere(&h, i) })

		h.DropHopByHop()
		out := append(append([]byte(nil), h.StatusLine()...), "\r\n"...)
		out = append(h.AppendKept(out), "\r\n"...)
		resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(out), 64<<10), &http.Request{Method: "HEAD"})
		if err != nil || resp.StatusCode != h.Status() || resp.Proto != "HTTP/1.1" {
			t.Fatalf("%q is forwarded as %q: %v", head, out, err)
		}
		if got := listed(resp.Header); !slices.Equal(got, withPragma(want, h.Get("Pragma"))) {
			t.Fatalf("%q is forwarded with %q, want %q", head, got, want)
		}
	})
}

func sameResponse(t *testing.T, raw []byte, method string, h *Head) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(raw), 64<<10), &http.Request{Method: method})
	if err != nil && h.trailerField >= 0 {
		return // one that announces framing fields
	}
	if err != nil {
		t.Fatalf("%q is accepted; net/http: %v", raw, err)
	}
	chunked := len(resp.TransferEncoding) == 1 && resp.TransferEncoding[0] == "chunked"
	bodyless := method == "HEAD" || h.Status() < 200 || h.Status() == 204 || h.Status() == 304
	switch {
	case resp.StatusCode != h.Status():
		t.Fatalf("%q: status %d; net/http: %d", raw, h.Status(), resp.StatusCode)
	case bodyless && h.HasBody(), !bodyless && h.HasBody() != (resp.ContentLength != 0):
		t.Fatalf("%q: body %v; net/http: length %d", raw, h.HasBody(), resp.ContentLength)
	case h.HasBody() && (chunked != h.Chunked() || !chunked && resp.ContentLength != h.ContentLength()):
		t.Fatalf("%q: chunked %v, length %d; net/http: %v, %d", raw, h.Chunked(), h.ContentLength(), chunked, resp.ContentLength)
	case !bodyless && h.KeepAlive() == resp.Close:
		t.Fatalf("%q: keep %v; net/http: close %v", raw, h.KeepAlive(), resp.Close)
	}
	// net/http forgets a length where there is no body.
	ours := withPragma(canonical(h, everything), h.Get("Pragma"))
	if theirs := listed(resp.Header); !slices.Equal(ours, theirs) {
		t.Fatalf("%q: %q; net/http: %q", raw, ours, theirs)
	}
}

// The decoder gives the same for every cut; what it accepts is the same body to net/http, with the same bytes left behind it.
func FuzzChunked(f *testing.F) {
	for _, row := range badChunks {
		f.Add([]byte(row.in), 3)
	}
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nrest"), 7)
	f.Add([]byte("00000000000000005\r\nhello\r\n0\r\n\r\n"), 3)
	f.Add([]byte("5\r\nhello\r\n"+strings.Repeat("0", 5000)+"\r\n\r\n"), 3)
	f.Add([]byte("0000000000000005\r\nhello\r\n000\r\n\r\nGET / HTTP/1.1\r\n\r\n"), 20)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		in := string(b)
		whole, trailer, rest, err := decode(in)
		if cut < 0 || cut > len(in) {
			cut = len(in) / 2
		}
		_, bad := err.(*ProtocolError)
		payload, trailer2, _, err2 := decode(in[:cut], in[cut:])
		// Which of two faults is found first, a bad byte or a section too long, may depend on the cut.
		if _, bad2 := err2.(*ProtocolError); payload != whole || trailer2 != trailer || bad2 != bad || !bad && err2 != err {
			t.Fatalf("cut at %d: %q, %v; whole: %q, %v", cut, payload, err2, whole, err)
		}
		if err != io.EOF {
			return
		}
		if !strings.HasSuffix(in, rest) || !strings.HasSuffix(in[:len(in)-len(rest)], "\r\n") {
			t.Fatalf("rest %q", rest)
		}
		br := bufio.NewReaderSize(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+in), 64<<10)
		req, err := http.ReadRequest(br)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(req.Body)
		left, _ := io.ReadAll(br)
		if err != nil || string(theirs) != whole || string(left) != rest {
			t.Fatalf("%q: %q and %q left; net/http: %q and %q left, %v", in, whole, rest, theirs, left, err)
		}
		var out []byte
		if len(whole) > 0 {
			out = append(appendChunkSize(out, len(whole)), whole...)
			out = append(out, "\r\n"...)
		}
		out = append(append(out, "0\r\n"...), trailer...)
		if again, _, _, err := decode(string(out)); err != io.EOF || again != whole {
			t.Fatalf("%q: %q, %v", out, again, err)
		}
	})
}
