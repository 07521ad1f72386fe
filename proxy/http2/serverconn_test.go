package http2

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

func itoa(n uint32) string { return strconv.Itoa(int(n)) }

func TestLargeFields(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, hello))
	big := strings.Repeat("b", 8<<10)
	c.headers(1, true, get("/", "a", big)...)
	c.await("HEADERS 1 :status=200")
}

func TestTooLargeAnswered(t *testing.T) {
	for _, end := range []bool{true, false} {
		c := dialRaw(t, startServer(t, Settings{}, nil, responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
		piece := strings.Repeat("b", 10<<10)
		block := c.block(get("/", "a", piece, "b", piece, "c", piece, "d", piece, "e", "late")...)
		c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: end, BlockFragment: block[:10000]}))
		c.must(c.fr.WriteContinuation(1, false, block[10000:20000]))
		c.must(c.fr.WriteContinuation(1, true, block[20000:]))
		c.want("HEADERS 1 end :status=431 x-sluice-reason=header_too_large content-length=0")
		if !end {
			c.must(c.fr.WriteData(1, true, []byte("body")))
		}
		c.headers(3, true, get("/", "e", "late")...) // refers to what came behind the limit
		c.want("HEADERS 3 end :status=200 content-length=0")
	}
}

func TestMalformedIsReset(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
	c.headers(1, true, get("/ HTTP/1.1\r\nx: y")...)
	c.want("RST_STREAM 1 PROTOCOL_ERROR")
	c.headers(3, true, get("/")...)
	c.want("HEADERS 3 end :status=200 content-length=0")
}

func TestTooManyStreams(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{MaxStreams: 2}, nil, untilGone))
	for id := uint32(1); id <= 5; id += 2 {
		c.headers(id, true, get("/")...)
	}
	c.want("RST_STREAM 5 REFUSED_STREAM")
	c.must(c.fr.WriteRSTStream(1, h2.ErrCodeCancel))
	c.headers(7, true, get("/")...)
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.want("PING 0 ack")
}

// A handler may end later than its stream: the client, which does not know, is not refused for that.
func TestHandlersBehindTheirStreams(t *testing.T) {
	var handlers gauge
	c := dialRaw(t, startServer(t, Settings{MaxStreams: 2}, nil, handlers.around(func(s *Stream) {
		responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(s)
		time.Sleep(20 * time.Millisecond)
	})))
	for i := range uint32(10) {
		c.headers(2*i+1, true, get("/")...)
		c.want("HEADERS " + itoa(2*i+1) + " end :status=200 content-length=0")
	}
	if most := handlers.most.Load(); most > 2 {
		t.Errorf("%d handlers", most)
	}
}

// A request that was reset while it waited for another's handler to end is not begun.
func TestResetWhileWaiting(t *testing.T) {
	called, proceed := make(chan uint32, 10), make(chan struct{})
	c := dialRaw(t, startServer(t, Settings{MaxStreams: 1}, nil, func(s *Stream) {
		defer s.Close()
		called <- s.ID()
		<-proceed
	}))
	for id := uint32(1); id <= 3; id += 2 {
		c.headers(id, true, get("/")...)
		c.must(c.fr.WriteRSTStream(id, h2.ErrCodeCancel))
	}
	c.headers(5, true, get("/")...)
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.want("PING 0 ack")
	close(proceed)
	if first, second := pass(t, called, "a handler"), pass(t, called, "a handler"); first != 1 || second != 5 {
		t.Errorf("called for %d, then for %d", first, second)
	}
}

// However many are reset while they wait, no more are kept than may be open.
func TestWaitingIsBounded(t *testing.T) {
	nc, other := net.Pipe()
	defer nc.Close()
	defer other.Close()
	c := newServerConn(new(Server), nc, Settings{MaxStreams: 10}.filled(), nil)
	c.running = 10
	for id := range uint32(1000) {
		s := c.newStream(2*id + 1)
		c.begin(s)
		s.gone = ErrReset
	}
	if n := len(c.pending); n > 10 {
		t.Errorf("%d are kept", n)
	}
}

func TestDrain(t *testing.T) {
	drain, proceed := make(chan struct{}), make(chan struct{})
	c := dialRaw(t, startServer(t, Settings{}, drain, func(s *Stream) {
		<-proceed
		responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(s)
	}))
	c.headers(1, true, get("/")...)
	close(drain)
	c.want("GOAWAY 0 2147483647 NO_ERROR ", "PING 0")
	c.headers(3, true, get("/")...) // was on its way
	c.must(c.fr.WritePing(true, drainPing))
	time.Sleep(50 * time.Millisecond)
	c.headers(5, true, get("/")...) // from another thread, which was about to
	c.want("GOAWAY 0 5 NO_ERROR ")
	c.headers(7, false, post("/")...) // too late: ignored with all that follows, for the client to send elsewhere
	c.must(c.fr.WriteData(7, false, []byte("late")))
	c.must(c.fr.WriteWindowUpdate(7, 1))
	c.must(c.fr.WriteRSTStream(7, h2.ErrCodeCancel))
	c.headers(9, false, post("/")...)
	c.must(c.fr.WriteData(9, true, []byte("late")))
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.want("PING 0 ack")
	got := ""
	for range 3 {
		proceed <- struct{}{}
	}
	for range 3 {
		got += c.next() + ", "
	}
	if !strings.Contains(got, "HEADERS 1 end") || !strings.Contains(got, "HEADERS 3 end") || !strings.Contains(got, "HEADERS 5 end") {
		t.Error(got)
	}
	if got := c.closedWithin(time.Second); got != "closed" {
		t.Error(got)
	}
}

// A client that connects while the server drains is told at once, and its first request is served.
func TestDrainServesNewClient(t *testing.T) {
	drain := make(chan struct{})
	close(drain)
	c := dialRaw(t, startServer(t, Settings{}, drain, responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")))
	c.want("GOAWAY 0 2147483647 NO_ERROR ", "PING 0")
	c.must(c.fr.WritePing(true, drainPing))
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.await("PING 0 ack") // it has seen the answer
	c.headers(1, true, get("/")...)
	c.want("HEADERS 1 end :status=200 content-length=0")
	if got := c.closedWithin(pingWait + time.Second); got != "GOAWAY 0 1 NO_ERROR " {
		t.Error(got)
	}
}

// A client that never answers PING is not waited for without end.
func TestDrainWithoutAnswer(t *testing.T) {
	drain := make(chan struct{})
	c := dialRaw(t, startServer(t, Settings{}, drain, hello))
	c.want()
	close(drain)
	if got := c.closedWithin(pingWait + time.Second); got != "GOAWAY 0 0 NO_ERROR " {
		t.Error(got)
	}
}

// The end of a drained connection does not cut what a slow client still has to read.
func TestDrainWaitsForSlowClient(t *testing.T) {
	const size = 40 << 10
	client, server := net.Pipe() // which holds nothing
	defer client.Close()
	drain, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		(&Server{}).Serve(server, drain, responding("HTTP/1.1 200 OK\r\nContent-Length: 40960\r\n\r\n"+strings.Repeat("x", size)))
	}()
	c := &rawClient{t: t, nc: client, fr: h2.NewFramer(client, client)}
	c.enc = newTestEncoder(&c.buf)
	_ = client.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(client, h2.ClientPreface)
	c.must(err)
	c.must(c.fr.WriteSettings())
	c.headers(1, true, get("/")...)
	close(drain)
	time.Sleep(pingWait + 2*lastWrite)
	got := 0
	for f, err := c.fr.ReadFrame(); err == nil; f, err = c.fr.ReadFrame() {
		if d, ok := f.(*h2.DataFrame); ok {
			got += len(d.Data())
		}
	}
	if got != size {
		t.Errorf("%d bytes of %d", got, size)
	}
	pass(t, ended, "the end of the connection")
}

func TestIdle(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{IdleTimeout: 150 * time.Millisecond}, nil, func(s *Stream) {
		time.Sleep(300 * time.Millisecond)
		responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(s)
	}))
	c.headers(1, true, get("/")...)
	c.want("HEADERS 1 end :status=200 content-length=0", "GOAWAY 0 1 NO_ERROR ")
	if got := c.closedWithin(time.Second); got != "closed" {
		t.Error(got)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	addr := startServer(t, Settings{HandshakeTimeout: 100 * time.Millisecond}, nil, hello)
	for _, said := range []string{"", "PRI * HT", h2.ClientPreface} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, said)
		_ = nc.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.Copy(io.Discard, nc); err != nil {
			t.Errorf("after %q: %v", said, err)
		}
	}
	c := dialRaw(t, addr) // a header block that never ends
	c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(get("/")...)}))
	c.closedWithin(2 * time.Second)
}

// A frame that has begun has to come, however often a byte of it does and whatever else is under way; DATA may take its time.
func TestFrameThatNeverEnds(t *testing.T) {
	addr := startServer(t, Settings{HandshakeTimeout: 200 * time.Millisecond}, nil, hello)
	headers := appendFrameHeader(nil, 100, h2.FrameHeaders, h2.FlagHeadersEndHeaders|h2.FlagHeadersEndStream, 3)
	for _, row := range []struct {
		name, begun, more string
		closes            bool
	}{
		{"header of a frame", string(headers[:4]), "", true},
		{"HEADERS", string(headers), "x", true},
		{"SETTINGS", string(appendFrameHeader(nil, 600, h2.FrameSettings, 0, 0)), "x", true},
		{"DATA", string(appendFrameHeader(nil, 100, h2.FrameData, 0, 1)), "x", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, addr)
			c.headers(1, false, post("/")...)
			_, err := io.WriteString(c.nc, row.begun)
			c.must(err)
			closed := make(chan bool, 1)
			_ = c.nc.SetReadDeadline(time.Now().Add(time.Second))
			go func() {
				_, err := io.Copy(io.Discard, c.nc)
				closed <- !errors.Is(err, os.ErrDeadlineExceeded)
			}()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case got := <-closed:
					if got != row.closes {
						t.Errorf("closed: %v", got)
					}
					return
				case <-tick.C:
					_, _ = io.WriteString(c.nc, row.more) // fails once it is closed
				}
			}
		})
	}
}

// Faults of a connection end it with their code; each is one frame too many or wrong.
func TestConnectionFaults(t *testing.T) {
	tests := []struct {
		name string
		send func(c *rawClient) error
		want string
	}{
		{"even stream", func(c *rawClient) error { c.headers(2, true, get("/")...); return nil }, "PROTOCOL_ERROR"},
		{"closed stream", func(c *rawClient) error {
			c.headers(5, true, get("/")...)
			c.await("DATA 5 end")
			c.headers(3, true, get("/")...)
			return nil
		}, "STREAM_CLOSED"},
		{"DATA on an idle stream", func(c *rawClient) error { return c.fr.WriteData(1, true, nil) }, "PROTOCOL_ERROR"},
		{"RST_STREAM on an idle stream", func(c *rawClient) error { return c.fr.WriteRSTStream(1, 0) }, "PROTOCOL_ERROR"},
		{"WINDOW_UPDATE on an idle stream", func(c *rawClient) error { return c.fr.WriteWindowUpdate(1, 1) }, "PROTOCOL_ERROR"},
		{"window overflow", func(c *rawClient) error { return c.fr.WriteWindowUpdate(0, maxWindow) }, "FLOW_CONTROL_ERROR"},
		{"PUSH_PROMISE", func(c *rawClient) error {
			return c.fr.WritePushPromise(h2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true, BlockFragment: c.block(get("/")...)})
		}, "PROTOCOL_ERROR"},
		{"header block that cannot be decoded", func(c *rawClient) error {
			return c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0xff, 0xff, 0xff}})
		}, "COMPRESSION_ERROR"},
		{"header block interrupted", func(c *rawClient) error {
			c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(get("/")...)}))
			return c.fr.WritePing(false, [8]byte{})
		}, "PROTOCOL_ERROR"},
		{"padding beyond HEADERS", func(c *rawClient) error {
			return c.fr.WriteRawFrame(h2.FrameHeaders, h2.FlagHeadersPadded|h2.FlagHeadersEndHeaders, 1, []byte{9, 0x82})
		}, "PROTOCOL_ERROR"},
		{"frame too large", func(c *rawClient) error { return c.fr.WriteRawFrame(0x42, 0, 0, make([]byte, maxFrame+1)) }, "FRAME_SIZE_ERROR"},
		{"frame too short", func(c *rawClient) error { return c.fr.WriteRawFrame(h2.FramePing, 0, 0, make([]byte, 7)) }, "FRAME_SIZE_ERROR"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, startServer(t, Settings{}, nil, hello))
			c.must(test.send(c))
			if got := c.closedWithin(time.Second); !strings.Contains(got, test.want) {
				t.Errorf("%q, want %s", got, test.want)
			}
		})
	}
}

// One stream's panic takes nothing else with it.
func TestPanic(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, func(s *Stream) {
		if s.ID() == 1 {
			panic("on purpose")
		}
		hello(s)
	}))
	c.headers(1, true, get("/")...)
	c.want("RST_STREAM 1 INTERNAL_ERROR")
	c.headers(3, true, get("/")...)
	c.await("DATA 3 end")
}

// No handler is called for what comes when the connection has ended already for the goroutine that writes.
func TestNoStreamBehindTheEnd(t *testing.T) {
	var s Server
	nc, other := net.Pipe()
	defer nc.Close()
	defer other.Close()
	c := newServerConn(&s, nc, Settings{}.filled(), func(*Stream) { t.Error("called") })
	c.end(ErrGone)
	block := encoded(get("/")...)
	var frames bytes.Buffer
	_ = h2.NewFramer(&frames, nil).WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true, BlockFragment: block})
	f, err := h2.NewFramer(nil, &frames).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.onHeaders(f.(*h2.HeadersFrame)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	c.handlers.Wait()
}

// A panic where frames are read or written costs the connection, not the process.
func TestPanicOfConnection(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, func(s *Stream) {
		s.WhenGone(func() { panic("on purpose") })
		_, _ = io.Copy(io.Discard, s)
	}))
	c.headers(1, true, get("/")...)
	c.must(c.fr.WritePing(false, [8]byte{}))
	c.want("PING 0 ack")
	c.must(c.fr.WriteRSTStream(1, h2.ErrCodeCancel))
	c.headers(3, true, get("/")...)
	if got := c.closedWithin(time.Second); !strings.Contains(got, "INTERNAL_ERROR") {
		t.Error(got)
	}

	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		(&Server{Log: slog.New(slog.DiscardHandler)}).Serve(panickingConn{server}, nil, hello)
	}()
	pass(t, ended, "the end of the connection")
	client.Close()
}

type panickingConn struct{ net.Conn }

func (panickingConn) Write([]byte) (int, error) { panic("on purpose") }

// Whatever a client sends, the connection ends with it, and nothing panics.
func FuzzFrames(f *testing.F) {
	frames := func(write func(fr *h2.Framer)) []byte {
		var b bytes.Buffer
		write(h2.NewFramer(&b, nil))
		return b.Bytes()
	}
	f.Add(frames(func(fr *h2.Framer) {
		_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: encoded(post("/", "content-length", "5")...)})
		_ = fr.WriteData(1, true, []byte("hello"))
		_ = fr.WriteWindowUpdate(1, 5)
		_ = fr.WritePing(false, [8]byte{})
	}))
	f.Add(frames(func(fr *h2.Framer) {
		_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: encoded(get("/")...), Priority: h2.PriorityParam{StreamDep: 3}})
		_ = fr.WriteContinuation(1, true, encoded("a", "b"))
		_ = fr.WriteRSTStream(1, h2.ErrCodeCancel)
		_ = fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1})
		_ = fr.WriteGoAway(0, 0, nil)
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		client, server := net.Pipe()
		var log bytes.Buffer
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			(&Server{Log: slog.New(slog.NewTextHandler(&log, nil))}).Serve(server, nil, hello)
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_ = client.SetWriteDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(client, h2.ClientPreface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		_, _ = client.Write(data)
		client.Close()
		pass(t, ended, "the end of the connection")
		if log.Len() > 0 {
			t.Error(log.String())
		}
	})
}

// A head that is larger than a frame goes out in several.
func TestLargeResponseHead(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	addr := startServer(t, Settings{}, nil, responding("HTTP/1.1 200 OK\r\nX-Long: "+long+"\r\nContent-Length: 2\r\n\r\nhi"))
	resp, err := newClient().Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "hi" || err != nil || resp.Header.Get("X-Long") != long {
		t.Errorf("%q, %v", b, err)
	}
}
