package http1

import (
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// trickle is a connection whose other end sends the next piece each time that its reader waits, and closes after the last.
type trickle struct {
	*net.TCPConn
	other  *net.TCPConn
	pieces []string
	waits  func() // called before each wait
}

type trickleRaw struct {
	syscall.RawConn
	of *trickle
}

func (k *trickle) SyscallConn() (syscall.RawConn, error) {
	raw, err := k.TCPConn.SyscallConn()
	return trickleRaw{raw, k}, err
}

func (r trickleRaw) Read(f func(fd uintptr) bool) error {
	return r.RawConn.Read(func(fd uintptr) bool { return f(fd) || r.of.next() })
}

func (k *trickle) next() bool {
	k.waits()
	if len(k.pieces) == 0 {
		_ = k.other.CloseWrite()
		return false
	}
	_, _ = k.other.Write([]byte(k.pieces[0]))
	k.pieces = k.pieces[1:]
	return false
}

// A response whose length is not known is waited for without a buffer, wherever it is cut into pieces, unless its head is needed for
// its trailers.
func TestLullsOfResponses(t *testing.T) {
	long := strings.Repeat("x", inSize+100)
	for _, row := range []struct {
		name, fields, body, want, trailers string
		holds                              bool
	}{
		{name: "chunks", fields: "Transfer-Encoding: chunked\r\n", body: "5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\nX-Sum: 1\r\n\r\n", want: "hello, world"},
		{name: "until close", body: "hello, world", want: "hello, world"},
		{name: "announced trailers", fields: "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", body: "5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Not: 2\r\n\r\n",
			want: "hello", trailers: "X-Sum: 1\r\n", holds: true},
		{name: "gRPC", fields: "Transfer-Encoding: chunked\r\nContent-Type: application/grpc\r\n", body: "5\r\nhello\r\n0\r\nGrpc-Status: 0\r\n\r\n",
			want: "hello", trailers: "Grpc-Status: 0\r\n", holds: true},
		{name: "declared", fields: "Content-Length: 5\r\n", body: "hello", want: "hello", holds: true},
	} {
		head := "HTTP/1.1 200 OK\r\nServer: a\r\n" + row.fields + "\r\n"
		t.Run(row.name, func(t *testing.T) {
			var k trickle
			k.TCPConn, k.other = pair(t)
			k.pieces = append([]string{head}, strings.Split(row.body, "")...)
			u := newUpConn(NewTransport("", TransportConfig{}), &k)
			u.begin(nil, false, uptime())
			held, waits := 0, 0
			k.waits = func() {}
			if _, err := u.ReadHead([]byte("GET")); err != nil {
				t.Fatal(err)
			}
			k.waits = func() {
				if waits++; u.in.b != nil || u.head.fields != nil || u.head.buf != nil {
					held++
				}
			}
			body, err := io.ReadAll(u.Body())
			if err != nil || string(body) != row.want || string(u.Body().Trailers()) != row.trailers {
				t.Errorf("%q, trailers %q, %v", body, u.Body().Trailers(), err)
			}
			// A trailer section that has come in part lies in the buffer.
			if part := strings.Count(row.body, "X-Sum: 1\r\n\r\n") * len("X-Sum: 1\r\n\r"); row.holds && held != waits || !row.holds && held != part || waits < len(row.body) {
				t.Errorf("a buffer was held at %d of %d waits", held, waits)
			}
			u.Close()
		})
	}
	t.Run("cut", func(t *testing.T) {
		var k trickle
		k.TCPConn, k.other = pair(t)
		k.waits = func() {}
		k.pieces = []string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n", len(long)), long, "\r\n5\r\nhe"}
		u := newUpConn(NewTransport("", TransportConfig{}), &k)
		u.begin(nil, false, uptime())
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(u.Body())
		if string(body) != long+"he" || err == nil || !strings.Contains(err.Error(), ErrBodyCut.Error()) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		u.Close()
	})
}

// After a lull the request's head reads as before, out of a smaller buffer, and what came behind it is served.
func TestLullKeepsRequest(t *testing.T) {
	for _, row := range []struct {
		name, method, fields, body string
		room, table                int
	}{
		{name: "small", method: "GET", room: headSize, table: messageFields},
		{name: "with a body", method: "POST", fields: "Content-Length: 3000\r\n", body: strings.Repeat("b", 3000), room: headSize, table: messageFields},
		{name: "with chunks", method: "POST", fields: "Transfer-Encoding: chunked\r\n", body: "3\r\nabc\r\n0\r\n\r\n", room: headSize, table: messageFields},
		{name: "long", method: "GET", fields: "Cookie: " + strings.Repeat("c", 2000) + "\r\n", room: slowSize, table: messageFields},
		{name: "many fields", method: "GET", fields: strings.Repeat("X-F: 1\r\n", messageFields), room: headSize, table: defaultMaxFields},
		{name: "huge", method: "GET", fields: "Cookie: " + strings.Repeat("c", 5000) + "\r\n", room: inSize, table: messageFields},
	} {
		t.Run(row.name, func(t *testing.T) {
			more := make(chan bool)
			addr := script(t, func(nc *client) {
				for {
					head, err := nc.readHead()
					if err != nil {
						return
					}
					if strings.Contains(head, " /second ") {
						nc.send(okBody("second"))
						continue
					}
					if _, err := io.CopyN(io.Discard, nc.r, int64(len(row.body))); err != nil {
						return
					}
					nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
					<-more
					nc.send("3\r\ntwo\r\n0\r\n\r\n")
				}
			})
			_, h := startRelay(t, addr)
			seen := func(c *Conn) string {
				head := c.Head()
				return fmt.Sprintf("%s %s %s %s %d %s", head.Method(), head.Path(), head.Query(), head.Host(), c.BytesIn()-c.Body().read.Load(), head.Get("Last"))
			}
			before, after := make(chan string, 2), make(chan string, 2)
			held := make(chan [2]int, 2)
			h.prepared = func(c *Conn) { before <- seen(c) }
			c := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
				h.Handle(c)
				held <- [2]int{len(c.in.b), cap(c.head.fields)}
				after <- seen(c)
			})}).dial(t)
			c.send(row.method + " /first?q=1 HTTP/1.1\r\nHost: www.example.com\r\n" + row.fields + "Last: yes\r\n\r\n" + row.body + "GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
			line := make([]byte, 512)
			for got := ""; !strings.HasSuffix(got, "one\r\n"); {
				n, err := c.r.Read(line)
				if err != nil {
					t.Fatal(err)
				}
				got += string(line[:n])
			}
			more <- true
			if was, is := <-before, <-after; was != is || !strings.HasSuffix(is, " yes") {
				t.Errorf("%q before the lull, %q after it", was, is)
			}
			if got := <-held; got != [2]int{row.room, row.table} {
				t.Errorf("%d bytes and %d fields were held, not %d and %d", got[0], got[1], row.room, row.table)
			}
			rest := ""
			for !strings.HasSuffix(rest, "second") {
				n, err := c.r.Read(line)
				if err != nil {
					t.Fatalf("%q, %v", rest, err)
				}
				rest += string(line[:n])
			}
			if !strings.HasPrefix(rest, "3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200 ") {
				t.Errorf("%q came after the lull", rest)
			}
		})
	}
}
