package http2

import (
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func fieldsOf(pairs ...string) (fields []hpack.HeaderField) {
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return fields
}

func TestRequestText(t *testing.T) {
	tests := []struct {
		name    string
		fields  []string
		chunked bool
		want    string
	}{
		{"plain", get("/a?b=c"), false, "GET /a?b=c HTTP/1.1|host: a.example||"},
		{"fields in order", get("/", "b", "2", "a", "1", "b", "3"), false, "GET / HTTP/1.1|host: a.example|b: 2|a: 1|b: 3||"},
		{"empty value", get("/", "a", ""), false, "GET / HTTP/1.1|host: a.example|a: ||"},
		{"cookies", get("/", "cookie", "a=1", "x", "y", "cookie", "b=2"), false, "GET / HTTP/1.1|host: a.example|x: y|cookie: a=1; b=2||"},
		{"host alone", []string{":method", "GET", ":scheme", "https", ":path", "/", "host", "b.example"}, false, "GET / HTTP/1.1|host: b.example||"},
		{"host as authority", get("/", "host", "A.example"), false, "GET / HTTP/1.1|host: a.example||"},
		{"no host", []string{":method", "GET", ":scheme", "http", ":path", "/"}, false, "GET / HTTP/1.1||"},
		{"length", post("/", "content-length", "5"), false, "POST / HTTP/1.1|host: a.example|content-length: 5||"},
		{"length said twice", post("/", "content-length", "5", "content-length", "5"), false, "POST / HTTP/1.1|host: a.example|content-length: 5||"},
		{"chunked", post("/"), true, "POST / HTTP/1.1|host: a.example|transfer-encoding: chunked||"},
		{"te", get("/", "te", "trailers"), false, "GET / HTTP/1.1|host: a.example|te: trailers||"},
		{"asterisk", []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a", ":path", "*"}, false, "OPTIONS * HTTP/1.1|host: a||"},
		{"connect, for proxy/http1 to refuse", []string{":method", "CONNECT", ":authority", "a:443"}, false, "CONNECT a:443 HTTP/1.1|host: a:443||"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fields := fieldsOf(test.fields...)
			r, err := parseRequest(fields)
			if err != nil {
				t.Fatal(err)
			}
			got := string(r.appendText(nil, fields, test.chunked))
			if want := strings.ReplaceAll(test.want, "|", "\r\n"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if size := textSize(fields); len(got) > size {
				t.Errorf("%d bytes do not fit into %d", len(got), size)
			}
		})
	}
}

// Each of these is malformed (RFC 9113 §8.2, §8.3) or could be read in two ways as HTTP/1.1.
func TestMalformedRequests(t *testing.T) {
	without := func(name string) (fields []string) {
		all := get("/")
		for i := 0; i < len(all); i += 2 {
			if all[i] != name {
				fields = append(fields, all[i], all[i+1])
			}
		}
		return fields
	}
	with := func(name, value string) []string {
		return append(without(name), name, value)
	}
	tests := map[string][]string{
		"no method":                 without(":method"),
		"no scheme":                 without(":scheme"),
		"no path":                   without(":path"),
		"empty path":                with(":path", ""),
		"relative path":             with(":path", "a"),
		"asterisk":                  with(":path", "*"),
		"absolute path":             with(":path", "http://b.example/"),
		"space in path":             with(":path", "/ HTTP/1.1"),
		"CRLF in path":              with(":path", "/ HTTP/1.1\r\nx: y"),
		"tab in path":               with(":path", "/\t"),
		"NUL in path":               with(":path", "/\x00"),
		"DEL in path":               with(":path", "/\x7f"),
		"fragment":                  with(":path", "/#a"),
		"empty method":              with(":method", ""),
		"space in method":           with(":method", "GET /x"),
		"CRLF in method":            with(":method", "GET\r\n"),
		"bad method":                with(":method", "G(T"),
		"scheme":                    with(":scheme", "ftp"),
		"upper-case scheme":         with(":scheme", "HTTP"),
		"empty authority":           with(":authority", ""),
		"userinfo":                  with(":authority", "u@a.example"),
		"slash in authority":        with(":authority", "a.example/x"),
		"space in authority":        with(":authority", "a example"),
		"comma in authority":        with(":authority", "a,b"),
		"CRLF in authority":         with(":authority", "a\r\nx: y"),
		"method twice":              append(get("/"), ":method", "GET"),
		"path twice":                append([]string{":path", "/a"}, get("/")...),
		"unknown pseudo":            append([]string{":version", "1"}, get("/")...),
		"protocol":                  append([]string{":protocol", "websocket"}, get("/")...),
		"status":                    append([]string{":status", "200"}, get("/")...),
		"pseudo behind":             append([]string{"a", "b"}, get("/")...),
		"other host":                get("/", "host", "b.example"),
		"host twice":                get("/", "host", "a.example", "host", "a.example"),
		"bad host":                  append(without(":authority"), "host", "a b"),
		"upper-case name":           get("/", "Accept", "x"),
		"empty name":                get("/", "", "x"),
		"space in name":             get("/", "a b", "x"),
		"space behind name":         get("/", "a ", "x"),
		"colon in name":             get("/", "a:b", "x"),
		"CRLF in name":              get("/", "a: b\r\nc", "x"),
		"NUL in name":               get("/", "a\x00", "x"),
		"non-ASCII name":            get("/", "ä", "x"),
		"CR in value":               get("/", "a", "b\rc"),
		"LF in value":               get("/", "a", "b\nc"),
		"CRLF in value":             get("/", "a", "b\r\ntransfer-encoding: chunked"),
		"NUL in value":              get("/", "a", "b\x00c"),
		"control in value":          get("/", "a", "b\x01c"),
		"space before value":        get("/", "a", " b"),
		"space behind value":        get("/", "a", "b "),
		"tab behind value":          get("/", "a", "b\t"),
		"LF in cookie":              get("/", "cookie", "a\nb"),
		"connection":                get("/", "connection", "close"),
		"keep-alive":                get("/", "keep-alive", "timeout=5"),
		"proxy-connection":          get("/", "proxy-connection", "close"),
		"transfer-encoding":         get("/", "transfer-encoding", "chunked"),
		"upgrade":                   get("/", "upgrade", "h2c"),
		"te":                        get("/", "te", "gzip"),
		"te, one more":              get("/", "te", "trailers, gzip"),
		"lengths differ":            post("/", "content-length", "5", "content-length", "6"),
		"length list":               post("/", "content-length", "5, 5"),
		"signed length":             post("/", "content-length", "+5"),
		"negative length":           post("/", "content-length", "-5"),
		"hexadecimal length":        post("/", "content-length", "0x5"),
		"empty length":              post("/", "content-length", ""),
		"overflow":                  post("/", "content-length", "99999999999999999999"),
		"CONNECT with path":         with(":method", "CONNECT"),
		"CONNECT to nowhere":        {":method", "CONNECT"},
		"nothing":                   {},
		"CRLF in content-length":    post("/", "content-length", "5\r\n"),
		"other host by port":        get("/", "host", "a.example:80"),
		"no pseudo field, but Host": {"host", "a.example"},
	}
	for name, fields := range tests {
		t.Run(name, func(t *testing.T) {
			if r, err := parseRequest(fieldsOf(fields...)); err == nil {
				t.Errorf("accepted: %+v", r)
			}
		})
	}
}

func TestTrailers(t *testing.T) {
	got, err := appendTrailers(nil, fieldsOf("a", "1", "b", "2"))
	if err != nil || string(got) != "a: 1\r\nb: 2\r\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range [][]string{{":path", "/"}, {"A", "1"}, {"a", "b\r\nc"}, {"", "x"}, {"connection", "close"}, {"transfer-encoding", "chunked"}} {
		if got, err := appendTrailers(nil, fieldsOf(bad...)); err == nil {
			t.Errorf("accepted: %q", got)
		}
	}
}

// Whatever bytes a client sends, what passes is one HTTP/1.1 head with the lines that were meant.
func FuzzRequestText(f *testing.F) {
	f.Add("GET", "/", "a.example", "name", "value")
	f.Add("GET", "/ HTTP/1.1\r\n\r\n", "a", "x", "y")
	f.Fuzz(func(t *testing.T, method, path, authority, name, value string) {
		fields := fieldsOf(":method", method, ":scheme", "http", ":authority", authority, ":path", path, name, value)
		r, err := parseRequest(fields)
		if err != nil {
			return
		}
		text := string(r.appendText(nil, fields, false))
		lines := strings.Split(text, "\r\n")
		want := 5 // request line, host, the field, and the empty line with what is behind it
		if name == "host" {
			want--
		}
		if len(lines) != want || lines[want-1] != "" || lines[want-2] != "" || strings.Count(lines[0], " ") != 2 {
			t.Errorf("%q", text)
		}
		if strings.Count(text, "\n") != want-1 || strings.Count(text, "\r") != want-1 || strings.Contains(text, "\x00") {
			t.Errorf("line ends in %q", text)
		}
	})
}
