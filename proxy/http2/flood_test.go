package http2

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// gauge counts handlers that run.
type gauge struct{ now, most, calls atomic.Int64 }

func (g *gauge) around(handle func(*Stream)) func(*Stream) {
	return func(s *Stream) {
		n := g.now.Add(1)
		defer g.now.Add(-1)
		g.calls.Add(1)
		for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
		}
		handle(s)
	}
}

// untilGone is a handler that waits for its client.
func untilGone(s *Stream) {
	defer s.Close()
	gone := make(chan struct{})
	s.WhenGone(func() { close(gone) })
	<-gone
}

// stubborn is one that does not end with its client, but a little later.
func stubborn(s *Stream) {
	defer s.Close()
	time.Sleep(200 * time.Millisecond)
}

// Promise 33: each of these floods ends the connection within a second, with bounded handlers and memory.
func TestFloods(t *testing.T) {
	none := func(*rawClient) {}
	tests := []struct {
		name   string
		handle func(*Stream)
		before func(c *rawClient)
		flood  func(c *rawClient, i int) error
		want   string
	}{
		{"rapid reset (CVE-2023-44487)", untilGone, none, func(c *rawClient, i int) error {
			id := uint32(2*i + 1)
			c.buf.Reset()
			if err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)}); err != nil {
				return err
			}
			return c.fr.WriteRSTStream(id, h2.ErrCodeCancel)
		}, "ENHANCE_YOUR_CALM"},
		{"rapid reset of handlers that go on", stubborn, none, func(c *rawClient, i int) error {
			id := uint32(2*i + 1)
			if err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)}); err != nil {
				return err
			}
			return c.fr.WriteRSTStream(id, h2.ErrCodeCancel)
		}, "ENHANCE_YOUR_CALM"},
		{"resets that are provoked (CVE-2025-8671), by DATA behind the end", untilGone, none, func(c *rawClient, i int) error {
			id := uint32(2*i + 1)
			if err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)}); err != nil {
				return err
			}
			return c.fr.WriteData(id, true, nil)
		}, "ENHANCE_YOUR_CALM"},
		{"resets that are provoked, by WINDOW_UPDATE of 0", untilGone, none, func(c *rawClient, i int) error {
			id := uint32(2*i + 1)
			if err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)}); err != nil {
				return err
			}
			return c.fr.WriteWindowUpdate(id, 0)
		}, "ENHANCE_YOUR_CALM"},
		{"resets that are provoked, by windows that overflow", untilGone, none, func(c *rawClient, i int) error {
			id := uint32(2*i + 1)
			if err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)}); err != nil {
				return err
			}
			return c.fr.WriteWindowUpdate(id, maxWindow)
		}, "ENHANCE_YOUR_CALM"},
		{"malformed requests", untilGone, none, func(c *rawClient, i int) error {
			return c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/", "", "x")...)})
		}, "ENHANCE_YOUR_CALM"},
		{"more streams than are allowed", untilGone, none, func(c *rawClient, i int) error {
			return c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 1), EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)})
		}, "ENHANCE_YOUR_CALM"},
		{"CONTINUATION", hello, func(c *rawClient) {
			c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(get("/")...)}))
		}, func(c *rawClient, i int) error {
			return c.fr.WriteContinuation(1, false, c.block("a", strings.Repeat("b", 1000)))
		}, "ENHANCE_YOUR_CALM"},
		{"empty CONTINUATION", hello, func(c *rawClient) {
			c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(get("/")...)}))
		}, func(c *rawClient, i int) error { return c.fr.WriteContinuation(1, false, nil) }, "ENHANCE_YOUR_CALM"},
		{"one endless field", hello, func(c *rawClient) {
			c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'a', 0x7f, 0xff, 0xff, 0x7f}}))
		}, func(c *rawClient, i int) error { return c.fr.WriteContinuation(1, false, make([]byte, 1000)) }, "ENHANCE_YOUR_CALM"},
		{"fields that are too large, again and again", hello, func(c *rawClient) {
			c.headers(1, true, get("/", "a", strings.Repeat("b", 2000))...)
		}, func(c *rawClient, i int) error {
			block := make([]byte, 16<<10) // each byte is the field of 2000 bytes
			for i := range block {
				block[i] = 0x80 | 62
			}
			return c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: uint32(2*i + 3), EndStream: true, EndHeaders: true, BlockFragment: block})
		}, "ENHANCE_YOUR_CALM"},
		{"SETTINGS (CVE-2019-9515)", hello, none, func(c *rawClient, i int) error {
			return c.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: uint32(i)})
		}, "ENHANCE_YOUR_CALM"},
		{"SETTINGS ack", hello, none, func(c *rawClient, i int) error { return c.fr.WriteSettingsAck() }, "ENHANCE_YOUR_CALM"},
		{"PING (CVE-2019-9512)", hello, none, func(c *rawClient, i int) error { return c.fr.WritePing(false, [8]byte{}) }, "ENHANCE_YOUR_CALM"},
		{"PING ack", hello, none, func(c *rawClient, i int) error { return c.fr.WritePing(true, [8]byte{}) }, "ENHANCE_YOUR_CALM"},
		{"empty DATA (CVE-2019-9518)", untilGone, func(c *rawClient) { c.headers(1, false, post("/")...) },
			func(c *rawClient, i int) error { return c.fr.WriteData(1, false, nil) }, "ENHANCE_YOUR_CALM"},
		{"padded DATA without payload", untilGone, func(c *rawClient) { c.headers(1, false, post("/")...) },
			func(c *rawClient, i int) error { return c.fr.WriteDataPadded(1, false, nil, make([]byte, 10)) }, "ENHANCE_YOUR_CALM"},
		{"PRIORITY (CVE-2019-9513)", hello, none, func(c *rawClient, i int) error {
			return c.fr.WritePriority(uint32(2*i+1), h2.PriorityParam{StreamDep: uint32(2*i + 3)})
		}, "ENHANCE_YOUR_CALM"},
		{"WINDOW_UPDATE", untilGone, func(c *rawClient) { c.headers(1, false, post("/")...) },
			func(c *rawClient, i int) error { return c.fr.WriteWindowUpdate(1, 1) }, "ENHANCE_YOUR_CALM"},
		{"WINDOW_UPDATE of the connection", untilGone, none, func(c *rawClient, i int) error { return c.fr.WriteWindowUpdate(0, 1) }, "ENHANCE_YOUR_CALM"},
		{"RST_STREAM of streams that have ended", hello, func(c *rawClient) {
			c.headers(1, true, get("/")...)
			c.await("DATA 1 end")
		}, func(c *rawClient, i int) error { return c.fr.WriteRSTStream(1, h2.ErrCodeCancel) }, "ENHANCE_YOUR_CALM"},
		{"unknown frames", hello, none, func(c *rawClient, i int) error { return c.fr.WriteRawFrame(0x42, 0, 0, nil) }, "ENHANCE_YOUR_CALM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var handlers gauge
			c := dialRaw(t, startServer(t, Settings{}, nil, handlers.around(test.handle)))
			test.before(c)
			start := time.Now()
			how := make(chan string, 1)
			go func() { how <- c.closedWithin(patience) }()
			before := heap()
			stop := make(chan struct{})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if test.flood(c, i) != nil {
						return
					}
				}
			}()
			got := pass(t, how, "the end of the connection")
			took := time.Since(start)
			close(stop)
			c.nc.Close()
			<-sent
			if took > time.Second || !strings.Contains(got, test.want) {
				t.Errorf("%q after %v, want %s within a second", got, took, test.want)
			}
			if most := handlers.most.Load(); most > 250 {
				t.Errorf("%d handlers at the same time", most)
			}
			if calls := handlers.calls.Load(); calls > 1000 {
				t.Errorf("%d handlers", calls)
			}
			if grown := heap() - before; grown > 16<<20 {
				t.Errorf("%d KiB more", grown>>10)
			}
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A client that provokes answers and does not read them: what waits for it is bounded, however much else it asks for.
func TestAnswersNotTaken(t *testing.T) {
	client, server := net.Pipe() // which holds nothing: the first write waits
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		(&Server{Log: slog.New(slog.DiscardHandler)}).Serve(server, nil, untilGone)
	}()
	defer client.Close()
	c := &rawClient{t: t, nc: client, fr: h2.NewFramer(client, client)}
	c.enc = newTestEncoder(&c.buf)
	_ = client.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(client, h2.ClientPreface)
	c.must(err)
	c.must(c.fr.WriteSettings())
	pings := 0
	for id := uint32(1); err == nil && id < 499; id += 2 {
		err = c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.block(get("/")...)})
		for range 9 {
			if err == nil {
				err = c.fr.WritePing(false, [8]byte{})
				pings++
			}
		}
	}
	if err == nil || pings > 2*maxControls+300 { // being written, waiting, and read ahead
		t.Errorf("%v after %d answers that were not taken", err, pings)
	}
	pass(t, ended, "the end of the connection")
}

// A client that takes nothing of a response is let go of.
func TestNothingTaken(t *testing.T) {
	result := make(chan error, 1)
	c := dialRaw(t, startServer(t, Settings{WriteTimeout: 200 * time.Millisecond}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		piece := make([]byte, 64<<10)
		for {
			if _, err := s.Write(piece); err != nil {
				result <- err
				return
			}
		}
	}), h2.Setting{ID: h2.SettingInitialWindowSize, Val: maxWindow})
	c.must(c.fr.WriteWindowUpdate(0, maxWindow-defaultWindow))
	c.headers(1, true, get("/")...)
	if err := pass(t, result, "the end of the write"); err == nil {
		t.Error("no error")
	}
}

// What honest clients do a lot of is no flood.
func TestBusyClientsAreNoFlood(t *testing.T) {
	addr := startServer(t, Settings{}, nil, answering(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	c := dialRaw(t, addr)
	c.must(c.fr.WriteWindowUpdate(0, 1<<30))
	for i := range 3000 {
		id := uint32(2*i + 1)
		c.headers(id, false, post("/")...)
		c.must(c.fr.WriteData(id, true, []byte("hello")))
		c.must(c.fr.WriteWindowUpdate(0, 5))
		c.must(c.fr.WritePing(false, [8]byte{}))
		if i%2 == 0 {
			c.await("DATA " + itoa(id) + " end")
		} else {
			c.must(c.fr.WriteRSTStream(id, h2.ErrCodeCancel))
		}
	}
}

// Nor is a client that answers each frame of a long response with two WINDOW_UPDATE, as some do.
func TestManyWindowUpdates(t *testing.T) {
	const size = 40 << 20
	c := dialRaw(t, startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(size)+"\r\n\r\n")
		piece := make([]byte, 16<<10)
		for range size / len(piece) {
			if _, err := s.Write(piece); err != nil {
				return
			}
		}
	}))
	c.headers(1, true, get("/")...)
	for got := 0; got < size; {
		f, err := c.fr.ReadFrame()
		c.must(err)
		if d, ok := f.(*h2.DataFrame); ok {
			got += len(d.Data())
			c.must(c.fr.WriteWindowUpdate(0, uint32(len(d.Data()))))
			c.must(c.fr.WriteWindowUpdate(1, uint32(len(d.Data()))))
		}
	}
}

// A client that resets all that it may have under way is no flood either.
func TestResetAllOnce(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, untilGone))
	for i := range uint32(250) {
		c.headers(2*i+1, true, get("/")...)
	}
	for i := range uint32(250) {
		c.must(c.fr.WriteRSTStream(2*i+1, h2.ErrCodeCancel))
	}
	for i := range uint32(250) {
		c.headers(501+2*i, true, get("/")...)
	}
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.want("PING 0 ack")
}
