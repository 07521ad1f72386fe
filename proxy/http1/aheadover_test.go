package http1

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/proxy/http2"
)

// overs are the ways of a client to whom nothing is written by descriptor.
var overs = []string{"TLS", "HTTP/2", "HTTP/2 over TLS", "HTTP/2, wide windows"}

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
					if row.size > 100<<10 && aheadUsed.Load() < int64(row.size)/2 {
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
					if d := time.Since(begun); d > time.Second { // four times what is promised, for a busy machine
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
