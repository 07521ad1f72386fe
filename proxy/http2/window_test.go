package http2

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// The client may send what the window grants and no more, however long nobody reads; then as much as was read.
func TestBackpressure(t *testing.T) {
	proceed := make(chan int)
	result := make(chan error, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		in, r, err := readHead(s)
		_ = in
		for err == nil {
			n, ok := <-proceed
			if !ok {
				break
			}
			_, err = io.CopyN(io.Discard, r.Body, int64(n))
		}
		result <- err
	})
	c := dialRaw(t, addr)
	c.headers(1, false, post("/", "content-length", "1000000")...)
	payload := make([]byte, 16<<10)
	for range 4 {
		c.must(c.fr.WriteData(1, false, payload))
	}
	proceed <- 40 << 10
	got := c.await("WINDOW_UPDATE 1")
	var more int
	if _, err := fmt.Sscanf(got, "WINDOW_UPDATE 1 %d", &more); err != nil || more < 32<<10 || more > 64<<10 {
		t.Fatal(got, err)
	}
	for left := more; left > 0; left -= len(payload) {
		c.must(c.fr.WriteData(1, false, payload[:min(left, len(payload))]))
	}
	c.must(c.fr.WriteData(1, false, payload)) // more than was granted
	if got := c.await("RST_STREAM 1"); got != "RST_STREAM 1 FLOW_CONTROL_ERROR" {
		t.Error(got)
	}
	close(proceed)
	pass(t, result, "the handler")
}

// All streams together may not fill more than the connection's window.
func TestConnectionWindow(t *testing.T) {
	addr := startServer(t, Settings{ConnWindow: 128 << 10}, nil, func(s *Stream) {
		defer s.Close()
		gone := make(chan struct{})
		s.WhenGone(func() { close(gone) })
		<-gone
	})
	c := dialRaw(t, addr)
	payload := make([]byte, 16<<10)
	for id := uint32(1); id <= 5; id += 2 {
		c.headers(id, false, post("/")...)
		for range 4 {
			if err := c.fr.WriteData(id, false, payload); err != nil {
				break
			}
		}
	}
	if got := c.closedWithin(time.Second); !strings.Contains(got, "FLOW_CONTROL_ERROR") {
		t.Error(got)
	}
}

// The connection's window does not run dry: neither by bytes that are read nor by those that nobody wants.
func TestWindowComesBack(t *testing.T) {
	for name, handle := range map[string]func(*Stream){
		"read": hello, "not read": responding("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "reset": func(s *Stream) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, startServer(t, Settings{ConnWindow: 128 << 10}, nil, handle))
			window := defaultWindow
			payload := make([]byte, 15<<10)
			for id := uint32(1); id < 40; id += 2 {
				c.headers(id, false, post("/")...)
				for i := range 4 {
					for window < len(payload) {
						f, err := c.fr.ReadFrame()
						c.must(err)
						if w, ok := f.(*h2.WindowUpdateFrame); ok && w.StreamID == 0 {
							window += int(w.Increment)
						}
					}
					c.must(c.fr.WriteDataPadded(id, i == 3, payload, make([]byte, 100)))
					window -= len(payload) + 101
				}
			}
		})
	}
}

// Streams that wait for the connection's window take turns, a frame each.
func TestTurnsOnTheWire(t *testing.T) {
	c := dialRaw(t, startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		_, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		_, _ = s.Write(make([]byte, 1000000))
	}), h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
	for id := uint32(1); id <= 5; id += 2 {
		c.headers(id, true, get("/")...)
	}
	for left := defaultWindow; left > 0; { // what the connection's first window lets through
		if f, err := c.fr.ReadFrame(); err != nil {
			t.Fatal(err)
		} else if d, ok := f.(*h2.DataFrame); ok {
			left -= len(d.Data())
		}
	}
	c.must(c.fr.WritePing(false, [8]byte{}))
	for f, _ := c.fr.ReadFrame(); f.Header().Type != h2.FramePing; f, _ = c.fr.ReadFrame() {
	}
	time.Sleep(50 * time.Millisecond) // all three wait now, surely
	for range 15 {
		c.must(c.fr.WriteWindowUpdate(0, 3*maxFrame))
		var from []uint32
		for got := 0; got < 3*maxFrame; {
			f, err := c.fr.ReadFrame()
			c.must(err)
			if d, ok := f.(*h2.DataFrame); ok {
				got += len(d.Data())
				from = append(from, d.StreamID)
			}
		}
		if slices.Sort(from); !slices.Equal(from, []uint32{1, 3, 5}) {
			t.Fatalf("three frames are of the streams %d", from)
		}
	}
}
