package http1

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A request body that is cut or bad is never ended as if it were whole.
func TestBadRequestBodiesAreNotPassedOff(t *testing.T) {
	bodies := make(chan error, 1)
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		bodies <- err
	}))
	f, h := startRelay(t, addr)
	for _, row := range badChunks {
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		c.send("3\r\nabc\r\n" + row.in)
		_ = c.CloseWrite()
		_, _ = c.rest()
		_ = c.Close()
		select {
		case err := <-bodies:
			if err == nil {
				t.Errorf("%s: taken for whole", row.name)
			}
		case <-time.After(20 * time.Millisecond): // refused before the server's handler began, which is as good
		}
	}
	eventually(t, "an error for each bad body", func() bool { return h.failures() == len(badChunks) })
	eventually(t, "server connections closed", func() bool { return h.t.Live() == 0 })
}

func TestTrailersThroughRelay(t *testing.T) {
	got := make(chan string, 1)
	addr := script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		_ = head
		var all strings.Builder
		for !strings.Contains(all.String(), "\r\n\r\n") || !strings.Contains(all.String(), "0\r\n") {
			line, err := nc.r.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				break
			}
		}
		got <- all.String()
		nc.send("HTTP/1.1 200 OK\r\nTrailer: Grpc-Status, Content-Length, X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX-Not-Announced: 1\r\nContent-Length: 5\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
	})
	f, _ := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum:  7\r\nX-Forwarded-For: 1.2.3.4\r\nHost: evil\r\n\r\n")
	if s := <-got; s != "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n" {
		t.Errorf("server got %q", s)
	}
	resp, body := c.response("POST")
	if body != "x" || len(resp.Trailer) != 1 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%q, %v", body, resp.Trailer)
	}
}

func TestRewind(t *testing.T) {
	for _, framing := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"} {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				nc, err := dead.Accept()
				if err != nil {
					return
				}
				_ = nc.(*net.TCPConn).SetLinger(0)
				_ = nc.Close()
			}
		}()
		t.Cleanup(func() { _ = dead.Close() })
		good := NewTransport(startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })), TransportConfig{})
		bad := NewTransport(dead.Addr().String(), TransportConfig{})
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
			out := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
			if c.Head().Chunked() {
				out = []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			}
			for _, tr := range []*Transport{bad, bad, good} {
				u, err := tr.Get(nil, time.Now())
				if err != nil {
					continue
				}
				if !c.Body().Rewindable() {
					t.Error("not rewindable")
				}
				c.Body().Rewind()
				err = u.Send(out, c.Body())
				if err == nil {
					_, err = u.ReadHead([]byte("POST"))
				}
				if err != nil {
					u.Close()
					continue
				}
				_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), u.Body().Remaining())
				_, _ = c.CopyBody(u, 0, nil)
				_ = c.Finish(nil)
				u.Release(time.Now())
			}
		})})
		whole := "POST / HTTP/1.1\r\nHost: a\r\n" + framing
		for cut := strings.Index(whole, "\r\n\r\n") + 4; cut <= len(whole); cut++ {
			c := f.dial(t)
			c.send(whole[:cut])
			if cut < len(whole) {
				time.Sleep(time.Millisecond)
				c.send(whole[cut:])
			}
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "hello" {
				t.Errorf("cut at %d: %d %q", cut, resp.StatusCode, body)
			}
			_ = c.Close()
		}
	}
}

func TestBodyLimit(t *testing.T) {
	var errs = make(chan error, 1)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		err := c.Body().Limit(10)
		if err == nil {
			_, err = io.Copy(io.Discard, c.Body())
		}
		errs <- err
		_ = c.WriteHead([]byte("HTTP/1.1 413 Content Too Large\r\n"), 0)
		_ = c.Finish(nil)
	})})
	for body, want := range map[string]error{
		"Content-Length: 10\r\n\r\n0123456789":                                            nil,
		"Content-Length: 11\r\n\r\n0123456789a":                                           ErrBodyTooLarge,
		"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n":                  nil,
		"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n":        ErrBodyTooLarge,
		"Transfer-Encoding: chunked\r\n\r\nffffff\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\nxx": ErrBodyTooLarge,
	} {
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\n" + body)
		c.response("POST")
		if err := <-errs; err != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// A body larger than any buffer passes without being held.
func TestLargeUploadAndDownload(t *testing.T) {
	const size = 64 << 20
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != size {
			t.Error(n, err)
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.CopyN(w, zeros{}, size)
	}))
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
	go func() { _, _ = io.CopyN(c, zeros{}, size) }()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d, %v, %v", n, err, h.last())
	}
	eventually(t, "connection kept", func() bool { return h.t.Idle() == 1 })
}

type zeros struct{}
