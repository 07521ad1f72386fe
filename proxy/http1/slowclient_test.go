package http1

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/proxy/http2"
)

// slowClient takes nothing that it does not read; little fits in between.
type slowClient struct {
	nc   net.Conn // encrypted or not
	tcp  *client
	http *bufio.Reader // of HTTP/1.1
	h2   *h2Client     // of HTTP/2
}

// dialOver gives a client of f, which has not served yet.
func dialOver(t testing.TB, f *front, over string) *slowClient {
	t.Helper()
	streams := &http2.Server{Log: slog.New(slog.DiscardHandler)}
	streams.Configure(http2.Settings{WriteTimeout: f.settings().BodyTimeout})
	f.HTTP2 = func(nc net.Conn, o Origin, drain <-chan struct{}) {
		o.HTTP2 = true
		streams.Serve(nc, drain, func(s *http2.Stream) { f.ServeStream(s, o) })
	}
	var open Opener
	proto := "http/1.1"
	if over != "TLS" {
		proto = "h2"
	}
	cert, trust := selfSigned(t)
	trust.ServerName, trust.NextProtos = "127.0.0.1", []string{proto}
	encrypted := over == "TLS" || over == "HTTP/2 over TLS"
	if encrypted {
		open = handshake(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{proto}, DynamicRecordSizingDisabled: true})
	}
	c := &slowClient{tcp: f.dialNarrowTo(t, open)}
	if c.nc = c.tcp.TCPConn; encrypted {
		c.nc = tls.Client(c.tcp.TCPConn, trust)
	}
	if proto == "h2" {
		window := uint32(1000)
		if over == "HTTP/2, wide windows" {
			window = 1 << 30
		}
		c.h2 = newH2Client(t, c.nc, window)
	} else {
		c.http = bufio.NewReaderSize(c.nc, 4096)
	}
	return c
}

// get asks for /.
func (c *slowClient) get(t testing.TB) {
	t.Helper()
	if c.h2 != nil {
		c.h2.get(t)
	} else if _, err := io.WriteString(c.nc, getRoot); err != nil {
		t.Fatal(err)
	}
}

// answer reads the head. Of the trailers something is known when the body has been read.
func (c *slowClient) answer(t testing.TB) (body io.Reader, trailer func(name string) string) {
	t.Helper()
	if c.h2 != nil {
		return c.h2, func(name string) string { return c.h2.trailers[http.CanonicalHeaderKey(name)] }
	}
	resp, err := http.ReadResponse(c.http, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Body, func(name string) string { return resp.Trailer.Get(name) }
}

// leave ends the connection, or what of it serves the request.
func (c *slowClient) leave(t testing.TB, how string) {
	t.Helper()
	var err error
	switch {
	case how == "reset" && c.h2 != nil:
		err = c.h2.fr.WriteRSTStream(c.h2.stream, h2.ErrCodeCancel)
	case how == "half":
		err = c.tcp.CloseWrite()
	case how == "reset":
		_ = c.tcp.SetLinger(0)
		err = c.tcp.TCPConn.Close()
	default:
		err = c.tcp.TCPConn.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// h2Grant is what a client of HTTP/2 with small windows lets come at a time.
const h2Grant = 4000

// h2Client reads the body of one stream at a time, and gives windows only for what it is about to read.
type h2Client struct {
	nc       net.Conn
	fr       *h2.Framer
	enc      *hpack.Encoder
	block    bytes.Buffer
	stream   uint32
	initial  uint32
	window   int64 // of the stream: what may still come
	conn     int64 // and of the connection
	unread   []byte
	ended    bool
	trailers map[string]string
	heads    int
}

func newH2Client(t testing.TB, nc net.Conn, window uint32) *h2Client {
	t.Helper()
	c := &h2Client{nc: nc, fr: h2.NewFramer(nc, nc), initial: window, conn: 65535, stream: 1<<32 - 1}
	c.enc = hpack.NewEncoder(&c.block)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(nc, h2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	err := c.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: window})
	if err == nil && window > 1<<20 {
		err = c.fr.WriteWindowUpdate(0, 1<<30)
		c.conn += 1 << 30
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *h2Client) get(t testing.TB) {
	t.Helper()
	c.stream += 2
	c.window, c.ended, c.heads, c.trailers = int64(c.initial), false, 0, map[string]string{}
	c.block.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
		if err := c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	err := c.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: c.stream, EndHeaders: true, EndStream: true, BlockFragment: c.block.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
}

// Read gives bytes of the body.
func (c *h2Client) Read(p []byte) (int, error) {
	for len(c.unread) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if c.window == 0 {
			if err := c.fr.WriteWindowUpdate(c.stream, h2Grant); err != nil {
				return 0, err
			}
			c.window += h2Grant
		}
		if c.conn == 0 {
			if err := c.fr.WriteWindowUpdate(0, 50_000); err != nil {
				return 0, err
			}
			c.conn += 50_000
		}
		f, err := c.fr.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *h2.DataFrame:
			c.unread, c.ended = bytes.Clone(f.Data()), f.StreamEnded()
			c.window -= int64(len(c.unread))
			c.conn -= int64(len(c.unread))
		case *h2.MetaHeadersFrame:
			if c.heads++; c.heads > 1 {
				for _, field := range f.Fields {
					c.trailers[http.CanonicalHeaderKey(field.Name)] = field.Value
				}
			}
			c.ended = f.StreamEnded()
		case *h2.SettingsFrame:
			if !f.IsAck() {
				err = c.fr.WriteSettingsAck()
			}
		case *h2.RSTStreamFrame:
			err = h2.StreamError{StreamID: f.StreamID, Code: f.ErrCode}
		case *h2.GoAwayFrame:
			err = fmt.Errorf("GOAWAY: %v, %s", f.ErrCode, f.DebugData())
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// repeats is a server that answers each request with whole, in pieces; asked is told of each.
func repeats(t testing.TB, whole []byte, asked chan<- bool) string {
	return script(t, func(nc *client) {
		for {
			if _, err := nc.readHead(); err != nil {
				return
			}
			asked <- true
			if _, err := nc.Write(whole); err != nil {
				return
			}
			if bytes.Contains(whole[:60], []byte("Connection: close")) {
				return
			}
		}
	})
}
