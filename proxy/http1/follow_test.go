package http1

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"

// framedEvent is an event as it goes over the wire.
func framedEvent(framing string, i int) string {
	event := fmt.Sprintf("data: %d\n\n", i)
	if framing == "chunked" {
		return fmt.Sprintf("%x\r\n%s\r\n", len(event), event)
	}
	return event
}

func streamHeadOf(framing string) string {
	if framing == "chunked" {
		return streamHead + "Transfer-Encoding: chunked\r\n\r\n"
	}
	return streamHead + "\r\n"
}

// Each event is passed on as it comes, and each end of a stream is found at once, also one that comes along with its last event: a
// FIN then makes no edge of its own.
func TestFollowFindsEachEnd(t *testing.T) {
	for _, framing := range []string{"chunked", "close"} {
		for _, end := range []string{"with the last event", "after it", "whole"} {
			if framing == "close" && end == "whole" {
				continue
			}
			t.Run(framing+", "+end, func(t *testing.T) {
				next, leave := make(chan int, 1), make(chan bool)
				f, _ := startRelay(t, script(t, func(nc *client) {
					if _, err := nc.readHead(); err != nil {
						return
					}
					nc.send(streamHeadOf(framing))
					for i := range next {
						if i < 0 {
							break
						}
						nc.send(framedEvent(framing, i))
					}
					switch end {
					case "with the last event":
						nc.send(framedEvent(framing, 99))
					case "after it":
						nc.send(framedEvent(framing, 99))
						time.Sleep(5 * time.Millisecond)
					case "whole":
						nc.send(framedEvent(framing, 99) + "0\r\n\r\n")
						<-leave // the connection stays open
					}
				}))
				for range 60 {
					c := f.dial(t)
					c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
					for i := range 8 {
						next <- i
						for line := ""; line != fmt.Sprintf("data: %d", i); {
							s, err := c.r.ReadString('\n')
							if err != nil {
								t.Fatal(err)
							}
							line = strings.TrimSpace(s)
						}
					}
					begun := time.Now()
					next <- -1
					rest, err := io.ReadAll(c.r)
					if whole := framing == "close" || end == "whole"; (err == nil) != whole {
						t.Fatalf("%q, %v", rest, err)
					}
					if !strings.Contains(string(rest), "data: 99\n") && err == nil {
						t.Fatalf("the last event is lost: %q", rest)
					}
					if took := time.Since(begun); took > time.Second {
						t.Fatalf("the end is seen after %v", took)
					}
					if end == "whole" {
						leave <- true
					}
				}
			})
		}
	}
}

// A followed stream ends when its server is silent for too long, and when its client leaves.
func TestFollowedStreamEnds(t *testing.T) {
	for _, how := range []string{"silence", "client"} {
		t.Run(how, func(t *testing.T) {
			told := make(chan error, 1)
			f, h := startRelay(t, script(t, func(nc *client) {
				if _, err := nc.readHead(); err != nil {
					return
				}
				nc.send(streamHeadOf("chunked"))
				for i := range 6 {
					nc.send(framedEvent("chunked", i))
					time.Sleep(10 * time.Millisecond)
				}
				_, err := nc.r.ReadByte()
				told <- err
			}))
			if how == "silence" {
				h.idle = 300 * time.Millisecond
			}
			c := f.dial(t)
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			for line := ""; line != "data: 5\n"; {
				var err error
				if line, err = c.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			begun := time.Now()
			if how == "client" {
				_ = c.Close()
			}
			<-told
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("after %v", took)
			}
			want := ErrCanceled
			if how == "silence" {
				want = ErrIdleTimeout
			}
			eventually(t, "the exchange is over", func() bool { return errors.Is(h.last(), want) })
		})
	}
}

// What a client does not take at once of a followed stream is not lost, and neither is what comes in pieces.
func TestFollowLosesNothing(t *testing.T) {
	for _, framing := range []string{"chunked", "close"} {
		t.Run(framing, func(t *testing.T) {
			body := randomBytes(2 << 20)
			f, h := startRelay(t, script(t, func(nc *client) {
				if _, err := nc.readHead(); err != nil {
					return
				}
				nc.send(streamHeadOf(framing))
				for at, size := 0, 1; at < len(body); size = size*5/3 + 1 {
					if size > 100_000 {
						size = 1
					}
					piece := body[at:min(at+size, len(body))]
					at += len(piece)
					if framing == "chunked" {
						whole := fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
						cut := len(whole) * 2 / 3 // also within the chunk's frame
						nc.send(whole[:cut])
						time.Sleep(time.Millisecond)
						nc.send(whole[cut:])
					} else {
						nc.send(string(piece))
					}
					time.Sleep(time.Millisecond)
				}
				if framing == "chunked" {
					nc.send("0\r\n\r\n")
				}
			}))
			c := f.dialNarrow(t)
			c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			for i := 0; i < 3; i++ { // takes nothing, now and then
				time.Sleep(50 * time.Millisecond)
				if _, err := c.r.Peek(1); err != nil {
					t.Fatal(err)
				}
			}
			if _, got := c.response("GET"); got != string(body) {
				t.Errorf("%d bytes of %d are not what was sent; %v", len(got), len(body), h.last())
			}
		})
	}
}

// Silence counts from the last bytes, also when they filled the buffer to the last byte.
func TestFollowedStreamOfFullBuffers(t *testing.T) {
	const events = 12
	event := strings.Repeat("x", inSize)
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(streamHeadOf("close"))
		for range events {
			nc.send(event)
			time.Sleep(100 * time.Millisecond)
		}
	}))
	h.idle = 400 * time.Millisecond
	c := f.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != events*inSize || err != nil {
		t.Errorf("%d bytes of %d, %v; %v", n, events*inSize, err, h.last())
	}
}

// Whoever cancels is not held up by what the goroutine that follows is at.
func TestCancelDoesNotWaitForFollow(t *testing.T) {
	a, _ := pair(t)
	u := newUpConn(NewTransport("", TransportConfig{}), a)
	u.begin(nil, false, uptime())
	u.setFollowed(true)
	inside, leave, left := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(left)
		_ = u.in.raw.Read(func(uintptr) bool {
			close(inside)
			<-leave
			return true
		})
	}()
	<-inside
	canceled := make(chan bool)
	go func() {
		u.Cancel()
		close(canceled)
	}()
	select {
	case <-canceled:
	case <-time.After(5 * time.Second):
		t.Error("Cancel waits")
	}
	close(leave)
	<-left
}

// A client that leaves while its stream floods is noticed, and so are others.
func TestFollowedFloodIsCanceled(t *testing.T) {
	over := make(chan bool, 1)
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(streamHeadOf("close"))
		for i := range 4 { // until it is followed
			nc.send(framedEvent("close", i))
			time.Sleep(5 * time.Millisecond)
		}
		flood := make([]byte, 1<<20)
		for begun := time.Now(); time.Since(begun) < 10*time.Second; {
			if _, err := nc.Write(flood); err != nil {
				break
			}
		}
		over <- true
	}))
	c := f.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := io.CopyN(io.Discard, c.r, 16<<20); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_ = c.CloseWrite()
	go func() { _, _ = io.Copy(io.Discard, c.r) }() // it still takes all
	<-over
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the server is told after %v", took)
	}
	eventually(t, "the exchange is over", func() bool { return h.failures() == 1 }) // canceled, or stopped where the client stalled
}

func TestMoreFieldsTakesOnlyForKnownTables(t *testing.T) {
	for _, size := range []int{1, 2, 64} {
		f := make([]field, size)
		if more := moreFields(f); &more[0] != &f[0] {
			t.Errorf("a table of %d is replaced", size)
		}
	}
	if more := moreFields(make([]field, messageFields)); cap(more) != defaultMaxFields || len(more) != messageFields {
		t.Errorf("%d of %d", len(more), cap(more))
	}
}
