package http2

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// readHead reads a request's head from a stream.
func readHead(s *Stream) (*bufio.Reader, *http.Request, error) {
	in := bufio.NewReader(s)
	r, err := http.ReadRequest(in)
	return in, r, err
}

// responding writes pieces of text, each with one Write, and closes.
func responding(pieces ...string) func(*Stream) {
	return func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		for _, p := range pieces {
			if _, err := io.WriteString(s, p); err != nil {
				return
			}
		}
	}
}

func TestResponseFrames(t *testing.T) {
	const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name   string
		method string
		pieces []string
		want   []string
	}{
		{"length", "GET", []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhi"},
			[]string{`HEADERS 1 :status=200 content-length=2 x-a=b`, `DATA 1 end "hi"`}},
		{"empty", "GET", []string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, []string{`HEADERS 1 end :status=200 content-length=0`}},
		{"no content", "GET", []string{"HTTP/1.1 204 No Content\r\n\r\n"}, []string{`HEADERS 1 end :status=204`}},
		{"not modified", "GET", []string{"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"}, []string{`HEADERS 1 end :status=304 content-length=7`}},
		{"head", "HEAD", []string{"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"}, []string{`HEADERS 1 end :status=200 content-length=7`}},
		{"head, chunked", "HEAD", []string{chunkedHead}, []string{`HEADERS 1 end :status=200`}},
		{"chunks of one write", "GET", []string{chunkedHead + "2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n"},
			[]string{`HEADERS 1 :status=200`, `DATA 1 "hi"`, `DATA 1 end "!"`}},
		{"end of its own", "GET", []string{chunkedHead, "2\r\nhi\r\n", "0\r\n\r\n"},
			[]string{`HEADERS 1 :status=200`, `DATA 1 "hi"`, `DATA 1 end ""`}},
		{"empty chunked", "GET", []string{chunkedHead + "0\r\n\r\n"}, []string{`HEADERS 1 end :status=200`}},
		{"empty chunked in two", "GET", []string{chunkedHead, "0\r\n\r\n"}, []string{`HEADERS 1 :status=200`, `DATA 1 end ""`}},
		{"trailers", "GET", []string{chunkedHead + "2\r\nhi\r\n0\r\nGrpc-Status: 0\r\n\r\n"},
			[]string{`HEADERS 1 :status=200`, `DATA 1 "hi"`, `HEADERS 1 end grpc-status=0`}},
		{"trailers alone", "GET", []string{chunkedHead + "0\r\nGrpc-Status: 0\r\n\r\n"}, []string{`HEADERS 1 :status=200`, `HEADERS 1 end grpc-status=0`}},
		{"interim", "GET", []string{"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
			[]string{`HEADERS 1 :status=103 link=a`, `HEADERS 1 end :status=200 content-length=0`}},
		{"of the connection", "GET", []string{"HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2\r\nContent-Length: 0\r\n\r\n"},
			[]string{`HEADERS 1 end :status=200 content-length=0`}},
		{"fields twice", "GET", []string{"HTTP/1.1 200\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"},
			[]string{`HEADERS 1 end :status=200 set-cookie=a=1 set-cookie=b=2 content-length=0`}},
		{"cut short", "GET", []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"},
			[]string{`HEADERS 1 :status=200 content-length=5`, `DATA 1 "hi"`, `RST_STREAM 1 INTERNAL_ERROR`}},
		{"chunks cut short", "GET", []string{chunkedHead, "2\r\nhi\r\n"}, []string{`HEADERS 1 :status=200`, `DATA 1 "hi"`, `RST_STREAM 1 INTERNAL_ERROR`}},
		{"end cut short", "GET", []string{chunkedHead, "2\r\nhi\r\n0\r\n"}, []string{`HEADERS 1 :status=200`, `DATA 1 "hi"`, `RST_STREAM 1 INTERNAL_ERROR`}},
		{"no answer", "GET", nil, []string{`RST_STREAM 1 INTERNAL_ERROR`}},
		{"interim answer only", "GET", []string{"HTTP/1.1 103 Early Hints\r\n\r\n"}, []string{`HEADERS 1 :status=103`, `RST_STREAM 1 INTERNAL_ERROR`}},
		{"no HTTP", "GET", []string{"hello\r\n\r\n"}, []string{`RST_STREAM 1 INTERNAL_ERROR`}},
		{"without framing", "GET", []string{"HTTP/1.1 200 OK\r\n\r\nhello"}, []string{`RST_STREAM 1 INTERNAL_ERROR`}},
		{"switching protocols", "GET", []string{"HTTP/1.1 101 Switching Protocols\r\n\r\n"}, []string{`RST_STREAM 1 INTERNAL_ERROR`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, startServer(t, Settings{}, nil, responding(test.pieces...)))
			c.headers(1, true, ":method", test.method, ":scheme", "http", ":authority", "a", ":path", "/")
			c.want(test.want...)
			c.must(c.fr.WritePing(false, [8]byte{}))
			c.want("PING 0 ack") // nothing else came, and the connection lives
		})
	}
}

// The response is complete, the request is not: what was said stands (RFC 9113 §8.1), and its end is waited for a while.
func TestUnreadRequest(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, responding("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")))
	payload := make([]byte, 16<<10)
	// Its end comes.
	c.headers(1, false, post("/")...)
	c.want("HEADERS 1 :status=200 content-length=2", `DATA 1 end "hi"`)
	c.must(c.fr.WriteData(1, false, payload))
	c.must(c.fr.WriteData(1, true, nil))
	// It needs more than was granted.
	c.headers(3, false, post("/")...)
	c.want("HEADERS 3 :status=200 content-length=2", `DATA 3 end "hi"`)
	at := time.Now()
	for range 4 {
		c.must(c.fr.WriteData(3, false, payload))
	}
	c.want("RST_STREAM 3 NO_ERROR")
	if took := time.Since(at); took < lingerStream/2 {
		t.Errorf("reset after %v: too close to the answer", took)
	}
	c.must(c.fr.WriteData(3, false, payload)) // not known to the client yet
	// It does not end at all.
	c.headers(5, false, post("/")...)
	c.want("HEADERS 5 :status=200 content-length=2", `DATA 5 end "hi"`, "RST_STREAM 5 NO_ERROR")
	c.must(c.fr.WriteData(5, true, []byte("too late")))
	c.headers(7, true, get("/")...)
	c.want("HEADERS 7 :status=200 content-length=2", `DATA 7 end "hi"`)
}

// What a handler reads of a request, and whether it ever looks whole.
func TestRequestBodies(t *testing.T) {
	type read struct{ head, body string }
	got := make(chan read, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		var text strings.Builder
		_ = s.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // nothing tells a Stream's end but HTTP/1.1's framing
		_, err := io.Copy(&text, s)
		head, body, _ := strings.Cut(text.String(), "\r\n\r\n")
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			body += "!" + err.Error()
		}
		got <- read{head, body}
	})
	data := func(parts ...string) func(c *rawClient) {
		return func(c *rawClient) {
			for i, p := range parts {
				c.must(c.fr.WriteData(1, i == len(parts)-1, []byte(p)))
			}
		}
	}
	tests := []struct {
		name   string
		fields []string
		end    bool
		send   func(c *rawClient)
		body   string
		reset  string
	}{
		{"none", post("/"), true, data(), "", ""},
		{"chunked", post("/"), false, data("hello"), "5\r\nhello\r\n0\r\n\r\n", ""},
		{"empty chunked", post("/"), false, data(""), "0\r\n\r\n", ""},
		{"trailers", post("/"), false, func(c *rawClient) {
			c.must(c.fr.WriteData(1, false, []byte("hello")))
			c.headers(1, true, "a", "b")
		}, "5\r\nhello\r\n0\r\na: b\r\n\r\n", ""},
		{"length", post("/", "content-length", "5"), false, data("hel", "lo"), "hello", ""},
		{"length, then the end", post("/", "content-length", "5"), false, data("hello", ""), "hello", ""},
		{"length, then trailers", post("/", "content-length", "5"), false, func(c *rawClient) {
			c.must(c.fr.WriteData(1, false, []byte("hello")))
			c.headers(1, true, "a", "b")
		}, "hello", ""},
		{"no end", post("/", "content-length", "5"), false, func(c *rawClient) {
			c.must(c.fr.WriteData(1, false, []byte("hello")))
		}, "hell", ""},
		{"more than declared", post("/", "content-length", "5"), false, data("hello", "x"), "hell!malformed", "PROTOCOL_ERROR"},
		{"less than declared", post("/", "content-length", "5"), false, data("hell"), "!malformed", "PROTOCOL_ERROR"},
		{"none but declared", post("/", "content-length", "5"), true, data(), "-", "PROTOCOL_ERROR"},
		{"some where none was declared", post("/", "content-length", "0"), false, data("x"), "!malformed", "PROTOCOL_ERROR"},
		{"trailers instead", post("/", "content-length", "5"), false, func(c *rawClient) { c.headers(1, true, "a", "b") }, "!malformed", "PROTOCOL_ERROR"},
		{"pseudo field in trailers", post("/"), false, func(c *rawClient) { c.headers(1, true, ":path", "/") }, "!malformed", "PROTOCOL_ERROR"},
		{"bad trailer", post("/"), false, func(c *rawClient) { c.headers(1, true, "a", "b\r\nc") }, "!malformed", "PROTOCOL_ERROR"},
		{"trailers without end", post("/"), false, func(c *rawClient) { c.headers(1, false, "a", "b") }, "!malformed", "PROTOCOL_ERROR"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.headers(1, test.end, test.fields...)
			test.send(c)
			if test.reset != "" {
				c.want("RST_STREAM 1 " + test.reset)
			}
			if test.body == "-" {
				return // no handler was called
			}
			r := pass(t, got, "the handler")
			if want, bad := strings.CutSuffix(test.body, "!malformed"); bad {
				if body, why, ok := strings.Cut(r.body, "!"); !ok || !strings.HasPrefix(want, body) {
					t.Errorf("read %q, %s", body, why)
				}
			} else if r.body != test.body {
				t.Errorf("read %q, want %q", r.body, test.body)
			}
		})
	}
}

// http1 stops a reader by a deadline in the past, and reads on later.
func TestReadDeadline(t *testing.T) {
	result := make(chan error, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		in, _, err := readHead(s)
		if err != nil {
			result <- err
			return
		}
		time.AfterFunc(20*time.Millisecond, func() { _ = s.SetReadDeadline(time.Unix(1, 0)) })
		if _, err := in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
			result <- fmt.Errorf("woken with %w", err)
			return
		}
		_ = s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			result <- fmt.Errorf("waited until %w", err)
			return
		}
		_ = s.SetReadDeadline(time.Now().Add(time.Hour))
		time.AfterFunc(20*time.Millisecond, func() { _ = s.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) })
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			result <- fmt.Errorf("an earlier deadline: %w", err)
			return
		}
		_ = s.SetReadDeadline(time.Time{})
		_, err = io.WriteString(s, "HTTP/1.1 103 Early Hints\r\n\r\n")
		if err == nil {
			p := make([]byte, 16)
			if n, readErr := s.Read(p); string(p[:n]) != "5\r\nhello\r\n" {
				err = fmt.Errorf("read %q, %w", p[:n], readErr)
			}
		}
		result <- err
	})
	c := dialRaw(t, addr)
	c.headers(1, false, post("/")...)
	c.want("HEADERS 1 :status=103")
	c.must(c.fr.WriteData(1, false, []byte("hello")))
	if err := pass(t, result, "the handler"); err != nil {
		t.Error(err)
	}
}

// A write that waits for the client's window tells how much was taken, and goes on from there.
func TestWriteDeadline(t *testing.T) {
	result, waited := make(chan error, 1), make(chan struct{})
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			result <- err
			return
		}
		text := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n0123456789abcdefghij\r\n0\r\n\r\n"
		_ = s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := io.WriteString(s, text)
		if !errors.Is(err, os.ErrDeadlineExceeded) || text[:n] != text[:strings.Index(text, "abc")] {
			result <- fmt.Errorf("took %q, %w", text[:n], err)
			return
		}
		_ = s.SetWriteDeadline(time.Time{})
		_, err = io.WriteString(s, "")
		if err == nil {
			time.AfterFunc(20*time.Millisecond, func() { _ = s.SetWriteDeadline(time.Unix(1, 0)) })
			if m, err := io.WriteString(s, text[n:]); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				result <- fmt.Errorf("took %d, %w", m, err)
				return
			}
			_ = s.SetWriteDeadline(time.Time{})
		}
		close(waited)
		if err == nil {
			_, err = io.WriteString(s, text[n:])
		}
		result <- err
	})
	c := dialRaw(t, addr, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 10})
	c.headers(1, true, get("/")...)
	c.want("HEADERS 1 :status=200", `DATA 1 "0123456789"`)
	pass(t, waited, "the deadline")
	c.must(c.fr.WriteWindowUpdate(1, 100))
	c.want(`DATA 1 end "abcdefghij"`)
	if err := pass(t, result, "the handler"); err != nil {
		t.Error(err)
	}
}

func TestWhenGone(t *testing.T) {
	type event struct {
		gone chan struct{}
		read chan error
	}
	events := make(chan event, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		e := event{make(chan struct{}), make(chan error, 2)}
		s.WhenGone(func() { close(e.gone) })
		in, _, err := readHead(s)
		events <- e
		if err == nil {
			_, err = in.ReadByte()
		}
		e.read <- err
		_, err = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		e.read <- err
	})
	check := func(e event, want error) {
		t.Helper()
		pass(t, e.gone, "WhenGone")
		for range 2 {
			if err := pass(t, e.read, "the handler"); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
	}
	c := dialRaw(t, addr)
	c.headers(1, true, get("/")...)
	e := pass(t, events, "the handler")
	c.must(c.fr.WriteRSTStream(1, h2.ErrCodeCancel))
	check(e, ErrReset)
	c.headers(3, false, post("/")...)
	e = pass(t, events, "the handler")
	c.nc.Close()
	check(e, ErrGone)
}

// What is left of a message whose end was sent already is no reason to wait or to fail.
func TestRestOfMessage(t *testing.T) {
	nc, other := net.Pipe()
	defer nc.Close()
	defer other.Close()
	c := newServerConn(new(Server), nc, Settings{}.filled(), nil)
	s := c.newStream(1)
	s.sentEnd, s.message.state = true, afterChunk
	c.out = make([]byte, outSize)
	_ = s.SetWriteDeadline(time.Unix(1, 0))
	if n, err := io.WriteString(s, "\r\n0\r\n\r\n"); n != 7 || err != nil {
		t.Error(n, err)
	}
}

// A large response to a slow client, and small ones beside it.
func TestSharedConnection(t *testing.T) {
	big := strings.Repeat("x", 3<<20)
	addr := startServer(t, Settings{}, nil, answering(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			_, _ = io.WriteString(w, big)
		} else {
			_, _ = io.WriteString(w, "small")
		}
	}))
	client := newClient()
	var bodies []io.ReadCloser
	for range 4 {
		resp, err := client.Get("http://" + addr + "/big")
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, resp.Body)
	}
	for range 20 {
		resp, err := client.Get("http://" + addr + "/small")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "small" || err != nil {
			t.Fatal(len(b), err)
		}
		resp.Body.Close()
	}
	for _, body := range bodies {
		if b, err := io.ReadAll(body); len(b) != len(big) || err != nil {
			t.Fatal(len(b), err)
		}
		body.Close()
	}
}

// All that is written at once goes out with one write, as long as it fits.
func TestOneWrite(t *testing.T) {
	client, server := net.Pipe()
	var s Server
	done := make(chan struct{})
	counted := &countingConn{Conn: server}
	ready := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(counted, nil, func(s *Stream) {
			defer s.Close()
			if _, _, err := readHead(s); err == nil {
				<-ready
				counted.writes.Store(0)
				head, body := "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n", strings.Repeat("x", 20000)
				_, _ = s.WriteParts([][]byte{[]byte(head), []byte(body), nil})
			}
		})
	}()
	c := &rawClient{t: t, nc: client, fr: h2.NewFramer(client, client)}
	c.enc, c.dec = newTestEncoder(&c.buf), newTestDecoder()
	_ = client.SetDeadline(time.Now().Add(patience))
	frames := make(chan string, 100)
	go func() {
		defer close(frames)
		for {
			f := c.next()
			frames <- f
			if strings.HasPrefix(f, "error") {
				return
			}
		}
	}()
	if _, err := io.WriteString(client, h2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.must(c.fr.WriteSettings())
	c.headers(1, true, get("/")...)
	for f := ""; f != "SETTINGS 0 ack"; f = pass(t, frames, "the handshake") {
	}
	time.Sleep(20 * time.Millisecond)
	close(ready)
	for f := ""; !strings.HasPrefix(f, "DATA 1 end"); f = pass(t, frames, "the response") {
	}
	if n := counted.writes.Load(); n != 1 {
		t.Errorf("%d writes", n)
	}
	client.Close()
	pass(t, done, "the end")
}

type countingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}
