package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// overs are the ways of a client to whom nothing is written by descriptor.
var overs = []string{"TLS", "HTTP/2", "HTTP/2 over TLS", "HTTP/2, wide windows"}

// A client that takes nothing for now holds no server, however it is connected, and gets the rest when it goes on.
func TestReadAheadOver(t *testing.T) {
	for _, over := range overs {
		for _, row := range []struct {
			framing string
			size    int
		}{{"length", 30 << 10}, {"length", 200 << 10}, {"length", 1 << 20}, {"chunked", 20 << 10}, {"chunked", 240 << 10}, {"close", 240 << 10}} {
			t.Run(fmt.Sprint(over, " ", row.framing, " ", row.size), func(t *testing.T) {
				body := randomBytes(row.size)
				asked := make(chan bool, 10)
				f, h := startRelay(t, repeats(t, framed(row.framing, body), asked))
				c := dialOver(t, f, over)
				for range 2 {
					c.get(t)
					<-asked
					eventually(t, "the server is given up", func() bool { return h.t.Live() == h.t.Idle() })
					if row.size > 100<<10 && aheadUsed.Load() < int64(row.size)/3 { // sockets have the others
						t.Errorf("%d bytes are held for the client", aheadUsed.Load())
					}
					from, _ := c.answer(t)
					if got, err := io.ReadAll(from); err != nil || !bytes.Equal(got, body) {
						t.Fatalf("%d bytes, %v; %v", len(got), err, h.last())
					}
				}
				if h.failures() != 0 {
					t.Error(h.last())
				}
				allRoomIsBack(t)
			})
		}
	}
}

// Of a response that is larger than what may be read ahead, the server is held until the client has taken all but that.
func TestReadAheadOverOfLargeResponses(t *testing.T) {
	for _, over := range overs {
		t.Run(over, func(t *testing.T) {
			const size = 3 << 20
			body := randomBytes(size)
			asked := make(chan bool, 1)
			f, h := startRelay(t, repeats(t, framed("length", body), asked))
			c := dialOver(t, f, over)
			c.get(t)
			<-asked
			from, _ := c.answer(t)
			got := make([]byte, size)
			if _, err := io.ReadFull(from, got[:size/3]); err != nil {
				t.Fatal(err)
			}
			if h.t.Live() == h.t.Idle() {
				t.Error("all was read ahead")
			}
			if _, err := io.ReadFull(from, got[size/3:size-900<<10]); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the server is given up", func() bool { return h.t.Live() == h.t.Idle() })
			if _, err := io.ReadFull(from, got[size-900<<10:]); err != nil || !bytes.Equal(got, body) {
				t.Error(err, h.last())
			}
			if n, err := from.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Error(n, err)
			}
			allRoomIsBack(t)
		})
	}
}

// Whatever the pieces and the pauses of both sides, each byte comes once and in order, and so do the trailers.
func TestReadAheadOverLosesNothing(t *testing.T) {
	for _, over := range overs {
		for _, framing := range []string{"length", "chunked", "trailers"} {
			for seed := range uint64(4) {
				random := rand.New(rand.NewPCG(seed, 9))
				body := randomBytes(1 + random.IntN(3<<20>>random.IntN(8)))
				whole := framed("chunked", body)
				switch framing {
				case "length":
					whole = framed("length", body)
				case "trailers":
					whole = bytes.Replace(whole[:len(whole)-2], []byte("\r\n"), []byte("\r\nTrailer: X-Sum\r\n"), 1)
					whole = append(whole, "X-Sum: 7\r\n\r\n"...)
				}
				f, h := startRelay(t, script(t, func(nc *client) {
					for {
						if _, err := nc.readHead(); err != nil {
							return
						}
						pieces := rand.New(rand.NewPCG(seed, 8))
						for rest := whole; len(rest) > 0; {
							n := min(len(rest), 1+pieces.IntN(300_000))
							if _, err := nc.Write(rest[:n]); err != nil {
								return
							}
							if rest = rest[n:]; pieces.IntN(3) == 0 {
								time.Sleep(time.Duration(pieces.IntN(20)) * time.Millisecond)
							}
						}
					}
				}))
				c := dialOver(t, f, over)
				for range 2 {
					c.get(t)
					from, trailer := c.answer(t)
					var got bytes.Buffer
					var err error
					for err == nil {
						if random.IntN(4) == 0 {
							time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
						}
						_, err = io.CopyN(&got, from, int64(1+random.IntN(len(body)/4+1)))
					}
					if err != io.EOF || !bytes.Equal(got.Bytes(), body) {
						t.Fatalf("%s, %s, seed %d: %d of %d bytes, %v, %v", over, framing, seed, got.Len(), len(body), err, h.last())
					}
					if framing == "trailers" && trailer("X-Sum") != "7" {
						t.Errorf("%s, %s, seed %d: the trailer is %q", over, framing, seed, trailer("X-Sum"))
					}
				}
				if h.failures() != 0 {
					t.Errorf("%s, %s, seed %d: %v", over, framing, seed, h.last())
				}
			}
		}
	}
	allRoomIsBack(t)
}

// A client that leaves while its response is read ahead ends the exchange with the server, and nothing stays held for it.
func TestClientLeavesWhileReadAheadOver(t *testing.T) {
	for _, over := range overs {
		for _, leave := range []string{"close", "half", "reset"} {
			for _, size := range []int{600 << 10, 8 << 20} {
				t.Run(fmt.Sprint(over, " ", leave, " ", size), func(t *testing.T) {
					asked, closed := make(chan bool), make(chan bool)
					f, h := startRelay(t, script(t, func(nc *client) {
						if _, err := nc.readHead(); err != nil {
							return
						}
						_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
						go func() { // not all of it may fit
							time.Sleep(100 * time.Millisecond)
							close(asked)
						}()
						_, _ = nc.Write(randomBytes(size / 2))
						_, _ = io.Copy(io.Discard, nc)
						close(closed)
					}))
					c := dialOver(t, f, over)
					c.get(t)
					<-asked
					if size < 1<<20 {
						eventually(t, "it is read ahead", func() bool { return aheadUsed.Load() > 0 })
					}
					begun := time.Now()
					c.leave(t, leave)
					<-closed
					eventually(t, "the room is given back", func() bool { return aheadUsed.Load() == 0 })
					if d := time.Since(begun); d > 2*time.Second { // eight times what is promised, for a busy machine
						t.Errorf("the server is told after %v", d)
					}
					eventually(t, "the exchange is over", func() bool { return h.failures() == 1 && h.t.Live() == 0 })
				})
			}
		}
	}
}

// A client that leaves when the server has long been free leaves nothing held.
func TestClientLeavesAfterReadAheadOver(t *testing.T) {
	for _, over := range overs {
		for _, leave := range []string{"close", "reset"} {
			t.Run(over+" "+leave, func(t *testing.T) {
				asked := make(chan bool, 1)
				f, h := startRelay(t, repeats(t, framed("length", randomBytes(1<<20)), asked))
				c := dialOver(t, f, over)
				c.get(t)
				<-asked
				eventually(t, "the server is given up", func() bool { return h.t.Idle() == 1 })
				c.leave(t, leave)
				eventually(t, "the exchange is over", func() bool { return h.failures() == 1 && errors.As(h.last(), new(ErrClient)) })
				if h.t.Idle() != 1 {
					t.Error("the server's connection was not kept")
				}
				allRoomIsBack(t)
			})
		}
	}
}

// A client that takes nothing of what was read ahead for it is cut when it was silent for too long.
func TestReadAheadOverTimesOut(t *testing.T) {
	for _, over := range overs {
		t.Run(over, func(t *testing.T) {
			body := randomBytes(500 << 10)
			asked := make(chan bool, 1)
			f, h := startRelay(t, repeats(t, framed("length", body), asked))
			f.Configure(Settings{HeaderTimeout: 5 * time.Second, BodyTimeout: 400 * time.Millisecond})
			c := dialOver(t, f, over)
			begun := time.Now()
			c.get(t)
			<-asked
			eventually(t, "the server is given up", func() bool { return h.t.Idle() == 1 })
			if h.failures() != 0 {
				t.Error(h.last())
			}
			eventually(t, "the client is cut", func() bool { return h.failures() == 1 })
			if d := time.Since(begun); d < 400*time.Millisecond || !errors.As(h.last(), new(ErrClient)) {
				t.Errorf("after %v: %v", d, h.last())
			}
			wantCut(t, c, body)
			allRoomIsBack(t)
		})
	}
}

// A client that takes a little now and then is not silent.
func TestReadAheadOverOutlastsSlowReaders(t *testing.T) {
	for _, over := range overs {
		t.Run(over, func(t *testing.T) {
			body := randomBytes(200 << 10)
			asked := make(chan bool, 1)
			f, h := startRelay(t, repeats(t, framed("length", body), asked))
			f.Configure(Settings{HeaderTimeout: 5 * time.Second, BodyTimeout: 600 * time.Millisecond})
			c := dialOver(t, f, over)
			c.get(t)
			<-asked
			from, _ := c.answer(t)
			var got bytes.Buffer
			var err error
			for begun := time.Now(); err == nil; {
				if time.Since(begun) < 1500*time.Millisecond {
					time.Sleep(50 * time.Millisecond)
				}
				_, err = io.CopyN(&got, from, 5000) // a record in 200 ms
			}
			if err != io.EOF || !bytes.Equal(got.Bytes(), body) || h.failures() != 0 {
				t.Errorf("%d bytes, %v, %v", got.Len(), err, h.last())
			}
			allRoomIsBack(t)
		})
	}
}

// wantCut fails unless the client sees that its response is not whole.
func wantCut(t *testing.T, c *slowClient, body []byte) {
	t.Helper()
	if c.h2 != nil {
		got, err := io.ReadAll(c.h2)
		if err == nil || len(got) >= len(body) || !bytes.HasPrefix(body, got) {
			t.Errorf("%d of %d bytes, %v", len(got), len(body), err)
		}
		return
	}
	resp, err := http.ReadResponse(c.http, nil)
	if err != nil { // a reset takes away what was not read
		return
	}
	if got, err := io.ReadAll(resp.Body); err == nil || len(got) >= len(body) || !bytes.HasPrefix(body, got) {
		t.Errorf("%d of %d bytes, %v", len(got), len(body), err)
	}
}

// A response that its server cuts while it is read ahead is cut for the client too.
func TestCutWhileReadAheadOver(t *testing.T) {
	for _, over := range overs {
		for _, framing := range []string{"length", "chunked"} {
			t.Run(over+" "+framing, func(t *testing.T) {
				body := randomBytes(200 << 10)
				whole := framed(framing, body)
				f, h := startRelay(t, script(t, func(nc *client) {
					if _, err := nc.readHead(); err == nil {
						_, _ = nc.Write(whole[:len(whole)-1])
					}
				}))
				c := dialOver(t, f, over)
				c.get(t)
				eventually(t, "the cut is seen", func() bool { return h.failures() == 1 })
				if !errors.Is(h.last(), ErrBodyCut) {
					t.Error(h.last())
				}
				wantCut(t, c, append(body, 0)) // of chunks all of the body may have come, but not its end
				allRoomIsBack(t)
			})
		}
	}
}

// What has come of a response reaches a client that goes on to read while the server says no more, also when all that was not taken lies
// below TLS.
func TestEventsAfterReadAheadOver(t *testing.T) {
	for _, over := range overs {
		for _, size := range []int{10, 15_000, 40_000, 200_000} {
			t.Run(fmt.Sprint(over, " ", size), func(t *testing.T) {
				body := randomBytes(size)
				next := make(chan bool, 1)
				f, h := startRelay(t, script(t, func(nc *client) {
					if _, err := nc.readHead(); err != nil {
						return
					}
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
					for range next {
						_, _ = fmt.Fprintf(nc, "%x\r\n%s\r\n", size, body)
					}
					_, _ = io.WriteString(nc, "0\r\n\r\n")
				}))
				c := dialOver(t, f, over)
				c.get(t)
				next <- true
				from, _ := c.answer(t)
				got := make([]byte, size)
				for i := range 6 {
					if i > 0 {
						next <- true
					}
					if i%2 == 0 {
						time.Sleep(20 * time.Millisecond)
					}
					if n, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, body) {
						t.Fatalf("event %d: %d bytes, %v, %v", i, n, err, h.last())
					}
				}
				close(next)
				if rest, err := io.ReadAll(from); len(rest) > 0 || err != nil {
					t.Errorf("%q, %v", rest, err)
				}
				allRoomIsBack(t)
			})
		}
	}
}
