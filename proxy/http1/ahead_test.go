package http1

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// narrow makes the buffers of a socket small, so that a client that does not read is noticed early.
func narrow(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4096)
	})
}

// dialNarrow gives a connection through which little fits.
func (f *front) dialNarrow(t testing.TB) *client {
	t.Helper()
	return f.dialNarrowTo(t, nil)
}

// dialNarrowTo is dialNarrow to a listener with an Opener.
func (f *front) dialNarrowTo(t testing.TB, open Opener) *client {
	t.Helper()
	listen := net.ListenConfig{Control: narrow}
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = f.Serve(NamedListener{Listener: l, Open: open, Encrypted: open != nil}) }()
	dial := net.Dialer{Control: narrow}
	nc, err := dial.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = nc.Close()
		_ = l.Close()
	})
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, TCPConn: nc.(*net.TCPConn), r: bufio.NewReaderSize(nc, 4096)}
}

// allRoomIsBack fails unless everything that was read ahead was given back.
func allRoomIsBack(t testing.TB) {
	t.Helper()
	eventually(t, "the room is given back", func() bool { return aheadUsed.Load() == 0 })
}

// framed is body with the framing of a response.
func framed(framing string, body []byte) []byte {
	var b bytes.Buffer
	switch framing {
	case "length":
		fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	case "chunked":
		b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(20_000))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n\r\n")
	case "close":
		fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s", body)
	}
	return b.Bytes()
}

// Whatever the pieces and the pauses of both sides, a client that reads slowly gets each byte once and in order, and
// the next answer too.
func TestReadAheadLosesNothing(t *testing.T) {
	for _, framing := range []string{"length", "chunked", "close"} {
		for seed := range uint64(8) {
			random := rand.New(rand.NewPCG(seed, 7))
			body := randomBytes(1 + random.IntN(3<<20>>random.IntN(8)))
			f, h := startRelay(t, script(t, func(nc *client) {
				for {
					if _, err := nc.readHead(); err != nil {
						return
					}
					pieces := rand.New(rand.NewPCG(seed, 8))
					for rest := framed(framing, body); len(rest) > 0; {
						n := min(len(rest), 1+pieces.IntN(300_000))
						if _, err := nc.Write(rest[:n]); err != nil {
							return
						}
						if rest = rest[n:]; pieces.IntN(3) == 0 {
							time.Sleep(time.Duration(pieces.IntN(20)) * time.Millisecond)
						}
					}
					if framing == "close" {
						return
					}
				}
			}))
			c := f.dialNarrow(t)
			for range 2 {
				c.send(getRoot)
				resp, err := http.ReadResponse(c.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				for err == nil {
					if random.IntN(4) == 0 {
						time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
					}
					_, err = io.CopyN(&got, resp.Body, int64(1+random.IntN(len(body)/4+1)))
				}
				if err != io.EOF || sha256.Sum256(got.Bytes()) != sha256.Sum256(body) {
					t.Fatalf("%s, seed %d: %d of %d bytes, %v, %v", framing, seed, got.Len(), len(body), err, h.last())
				}
			}
			if h.failures() != 0 {
				t.Errorf("%s, seed %d: %v", framing, seed, h.last())
			}
		}
	}
	allRoomIsBack(t)
}

// What all connections together read ahead is bounded: beyond that servers wait for the clients, and nothing is lost.
func TestReadAheadIsBounded(t *testing.T) {
	const size, fit, clients = 600 << 10, 3, 8
	kept := aheadTotal - fit*(size+bigSize)
	if !takeAhead(kept) {
		t.Fatal("no room")
	}
	giveBack := sync.OnceFunc(func() { giveAhead(kept) })
	defer giveBack()
	body := randomBytes(size)
	f, h := startRelay(t, script(t, func(nc *client) {
		for {
			if _, err := nc.readHead(); err != nil {
				return
			}
			_, _ = nc.Write(framed("length", body))
		}
	}))
	held := func() int { return h.t.Live() - h.t.Idle() }
	var all []*client
	for range clients {
		c := f.dialNarrow(t)
		c.send(getRoot)
		all = append(all, c)
	}
	eventually(t, "all were asked", func() bool { _, active := f.Conns(); return active == clients })
	eventually(t, "some servers are free", func() bool { return held() == clients-fit })
	time.Sleep(100 * time.Millisecond)
	if n, used := held(), aheadUsed.Load(); n != clients-fit || used > aheadTotal {
		t.Errorf("%d servers are held, %d bytes are reserved", n, used)
	}
	for _, c := range all {
		if _, got := c.response("GET"); got != string(body) {
			t.Errorf("%d bytes", len(got))
		}
	}
	giveBack()
	allRoomIsBack(t)
}

// A client that leaves while its response is read ahead, be it behind unread bytes, ends the exchange with the server
// and the writer.
func TestClientLeavesWhileReadAhead(t *testing.T) {
	for _, framing := range []string{"length", "chunked", "long"} {
		for _, leave := range []string{"close", "half"} {
			size := map[string]int{"length": 1 << 20, "chunked": 1 << 20, "long": 8 << 20}[framing]
			sent, closed := make(chan bool, 1), make(chan bool)
			f, _ := startRelay(t, script(t, func(nc *client) {
				if _, err := nc.readHead(); err != nil {
					return
				}
				if framing == "chunked" {
					_, _ = nc.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
				} else {
					_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				}
				half := randomBytes(size / 2)
				if framing == "chunked" {
					half = []byte(fmt.Sprintf("%x\r\n%s\r\n", len(half), half))
				}
				go func() { // not all of it may fit
					time.Sleep(100 * time.Millisecond)
					sent <- true
				}()
				_, _ = nc.Write(half)
				_, _ = io.Copy(io.Discard, nc)
				close(closed)
			}))
			c := f.dialNarrow(t)
			c.send(getRoot)
			<-sent
			begun := time.Now()
			if leave == "half" {
				_ = c.CloseWrite()
			} else {
				_ = c.Close()
			}
			<-closed
			eventually(t, "the connection is over", func() bool { open, _ := f.Conns(); return open == 0 })
			if d := time.Since(begun); d > time.Second { // four times what is promised, for a busy machine
				t.Errorf("%s, %s: the server is told after %v", framing, leave, d)
			}
			_ = c.Close()
			allRoomIsBack(t)
		}
	}
}

// A client that takes nothing of what was read ahead for it is cut when it was silent for too long; the server has long
// been free.
func TestReadAheadTimesOut(t *testing.T) {
	whole := framed("length", randomBytes(500<<10))
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err == nil {
			_, _ = nc.Write(whole)
			_, _ = nc.readHead()
		}
	}))
	f.Configure(Settings{HeaderTimeout: 5 * time.Second, BodyTimeout: 400 * time.Millisecond})
	c := f.dialNarrow(t)
	begun := time.Now()
	c.send(getRoot)
	eventually(t, "the server is free", func() bool { return h.t.Idle() == 1 })
	if h.failures() != 0 {
		t.Error(h.last())
	}
	eventually(t, "the client is cut", func() bool { open, _ := f.Conns(); return open == 0 })
	if d := time.Since(begun); d < 400*time.Millisecond || !errors.Is(h.last(), ErrIdleTimeout) {
		t.Errorf("after %v: %v", d, h.last())
	}
	if got, err := io.ReadAll(c.r); !isReset(err) || !bytes.HasPrefix(whole, got) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	allRoomIsBack(t)
}

// A response that its server cuts while it is read ahead is cut for the client too.
func TestCutWhileReadAhead(t *testing.T) {
	for _, framing := range []string{"length", "chunked"} {
		body := randomBytes(200 << 10)
		whole := framed(framing, body)
		f, h := startRelay(t, script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				_, _ = nc.Write(whole[:len(whole)-1])
			}
		}))
		c := f.dialNarrow(t)
		c.send(getRoot)
		eventually(t, "the cut is seen", func() bool { return h.failures() == 1 })
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); !isReset(err) || !bytes.HasPrefix(body, got) {
			t.Errorf("%s: %d bytes, %v", framing, len(got), err)
		}
		if !errors.Is(h.last(), ErrBodyCut) {
			t.Errorf("%s: %v", framing, h.last())
		}
		allRoomIsBack(t)
	}
}

// Events pass one by one also to a client that was slow before.
func TestEventsAfterReadAhead(t *testing.T) {
	const size = 200 << 10
	next := make(chan string)
	f, _ := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", size, randomBytes(size))
		for event := range next {
			_, _ = fmt.Fprintf(nc, "%x\r\n%s\r\n", len(event), event)
		}
		_, _ = nc.Write([]byte("0\r\n\r\n"))
	}))
	c := f.dialNarrow(t)
	c.send(getRoot)
	eventually(t, "it is read ahead", func() bool { return aheadUsed.Load() > size/2 })
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, size); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		event := fmt.Sprintf("data: %d\n\n", i)
		begun := time.Now()
		next <- event
		got := make([]byte, len(event))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
			t.Fatalf("%q, %v", got, err)
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("event %d after %v", i, d)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
	allRoomIsBack(t)
}
