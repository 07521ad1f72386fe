package http2

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long tests wait for what must come.
const patience = 10 * time.Second

// startServer serves connections until the test ends, and fails it when they do not end then.
func startServer(t testing.TB, set Settings, drain <-chan struct{}, handle func(*Stream)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &Server{Log: slog.New(slog.DiscardHandler)}
	server.Configure(set)
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, nc)
			mu.Unlock()
			serving.Go(func() { server.Serve(nc, drain, handle) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, nc := range open {
			nc.Close()
		}
		mu.Unlock()
		ended := make(chan struct{})
		go func() { serving.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Serve has not returned")
		}
	})
	return ln.Addr().String()
}

// answering runs h on the request of a stream, as net/http reads it.
func answering(h http.HandlerFunc) func(*Stream) {
	return func(s *Stream) {
		defer s.Close()
		r, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h(w, r)
		resp := w.Result()
		resp.Request = r
		if resp.ContentLength < 0 {
			resp.ContentLength = int64(w.Body.Len())
		}
		var text bytes.Buffer
		_ = resp.Write(&text)
		_, _ = s.Write(text.Bytes())
	}
}

// hello answers everything.
var hello = answering(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(w, "hello")
})

// rawClient writes frames one by one.
type rawClient struct {
	t   testing.TB
	nc  net.Conn
	fr  *h2.Framer
	buf bytes.Buffer
	enc *hpack.Encoder
	dec *hpack.Decoder
}

// dialRaw connects and exchanges the prefaces; whatever the server says further is for next.
func dialRaw(t testing.TB, addr string, settings ...h2.Setting) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &rawClient{t: t, nc: nc, fr: h2.NewFramer(nc, nc)}
	c.fr.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.buf)
	c.dec = hpack.NewDecoder(4096, nil)
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(nc, h2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c.must(c.fr.WriteSettings(settings...))
	return c
}

func (c *rawClient) must(err error) {
	if err != nil {
		c.t.Helper()
		c.t.Fatal(err)
	}
}

// block encodes name, value, name, value, ….
func (c *rawClient) block(fields ...string) []byte {
	c.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.must(c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(c.buf.Bytes())
}

// encoded is the first block of a connection.
func encoded(fields ...string) []byte {
	c := new(rawClient)
	c.enc = newTestEncoder(&c.buf)
	return c.block(fields...)
}

func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", path}, more...)
}

func post(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", path}, more...)
}

func (c *rawClient) headers(id uint32, end bool, fields ...string) {
	c.t.Helper()
	c.must(c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: c.block(fields...)}))
}

// next reads one frame, shown as text: "HEADERS 1 end :status=200 …", "DATA 1 end "hello"", "RST_STREAM 1 CANCEL".
func (c *rawClient) next() string {
	c.t.Helper()
	f, err := c.fr.ReadFrame()
	if err != nil {
		return "error: " + err.Error()
	}
	return c.show(f)
}

func (c *rawClient) show(f h2.Frame) string {
	h := f.Header()
	parts := []string{h.Type.String(), strconv.Itoa(int(h.StreamID))}
	switch f := f.(type) {
	case *h2.DataFrame:
		if f.StreamEnded() {
			parts = append(parts, "end")
		}
		if len(f.Data()) > 40 {
			parts = append(parts, strconv.Itoa(len(f.Data())))
		} else {
			parts = append(parts, strconv.Quote(string(f.Data())))
		}
	case *h2.HeadersFrame:
		if f.StreamEnded() {
			parts = append(parts, "end")
		}
		fields, err := c.dec.DecodeFull(f.HeaderBlockFragment())
		c.must(err)
		for _, f := range fields {
			parts = append(parts, f.Name+"="+f.Value)
		}
	case *h2.RSTStreamFrame:
		parts = append(parts, f.ErrCode.String())
	case *h2.GoAwayFrame:
		parts = append(parts, strconv.Itoa(int(f.LastStreamID)), f.ErrCode.String(), string(f.DebugData()))
	case *h2.WindowUpdateFrame:
		parts = append(parts, strconv.Itoa(int(f.Increment)))
	case *h2.SettingsFrame:
		if f.IsAck() {
			parts = append(parts, "ack")
		}
	case *h2.PingFrame:
		if f.IsAck() {
			parts = append(parts, "ack")
		}
	}
	return strings.Join(parts, " ")
}

// await reads on to the first frame whose text begins so.
func (c *rawClient) await(prefix string) string {
	c.t.Helper()
	for {
		got := c.next()
		if strings.HasPrefix(got, prefix) {
			return got
		}
		if strings.HasPrefix(got, "error") || strings.HasPrefix(got, "GOAWAY") || strings.HasPrefix(got, "RST") {
			c.t.Fatalf("waited for %q, got %q", prefix, got)
		}
	}
}

// want reads on past SETTINGS and WINDOW_UPDATE and compares.
func (c *rawClient) want(frames ...string) {
	c.t.Helper()
	for _, want := range frames {
		got := c.next()
		for strings.HasPrefix(got, "SETTINGS") || strings.HasPrefix(got, "WINDOW_UPDATE") {
			got = c.next()
		}
		if got != want {
			c.t.Fatalf("got frame %q, want %q", got, want)
		}
	}
}

// closedWithin reads until the connection is closed, and returns how it was ended: the GOAWAY, or "closed".
func (c *rawClient) closedWithin(d time.Duration) string {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	last := "closed"
	for {
		f, err := c.fr.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("still open after %v; last GOAWAY: %s", d, last)
		}
		if err != nil {
			return last
		}
		if g, ok := f.(*h2.GoAwayFrame); ok {
			last = c.show(g)
		}
	}
}

// pass waits for something that another goroutine does.
func pass[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("%s has not happened", what)
	}
	return v
}

func newTestEncoder(b *bytes.Buffer) *hpack.Encoder { return hpack.NewEncoder(b) }
func newTestDecoder() *hpack.Decoder                { return hpack.NewDecoder(4096, nil) }

// newClient is net/http's, with HTTP/2 in cleartext.
func newClient() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport}
}
