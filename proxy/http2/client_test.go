package http2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fake is the server's end of a connection, which does as a test says.
type fake struct {
	t   *testing.T
	nc  net.Conn
	fr  *h2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
	n   int // of the connection, from 0
}

// fakeServer is a Client whose connections end in serve.
func fakeServer(t *testing.T, set ClientSettings, settings []h2.Setting, serve func(f *fake)) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
				f := &fake{t: t, nc: nc, fr: h2.NewFramer(nc, nc), n: n}
				f.fr.AllowIllegalWrites = true
				f.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				f.enc = hpack.NewEncoder(&f.buf)
				var got [len(preface)]byte
				if _, err := io.ReadFull(nc, got[:]); err != nil || string(got[:]) != preface {
					return
				}
				_ = f.fr.WriteSettings(settings...)
				serve(f)
			})
		}
	})
	c := NewClient(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}, set)
	t.Cleanup(func() {
		c.Close()
		_ = l.Close()
		wg.Wait()
	})
	return c
}

// await reads frames until one that is wanted; nil at the end of the connection.
func (f *fake) await(wanted func(h2.Frame) bool) h2.Frame {
	for {
		fr, err := f.fr.ReadFrame()
		if err != nil {
			return nil
		}
		if s, ok := fr.(*h2.SettingsFrame); ok && !s.IsAck() {
			_ = f.fr.WriteSettingsAck()
		}
		if wanted(fr) {
			return fr
		}
	}
}

// request waits for the head of a request; 0 at the end of the connection.
func (f *fake) request() uint32 {
	if fr := f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.MetaHeadersFrame); return ok }); fr != nil {
		return fr.Header().StreamID
	}
	return 0
}

// reset waits for a RST_STREAM and gives its code.
func (f *fake) reset() (code h2.ErrCode, ok bool) {
	fr := f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.RSTStreamFrame); return ok })
	if fr == nil {
		return 0, false
	}
	return fr.(*h2.RSTStreamFrame).ErrCode, true
}

// drain reads until the connection ends.
func (f *fake) drain() { f.await(func(h2.Frame) bool { return false }) }

// block encodes "name=value" fields.
func (f *fake) block(fields ...string) []byte {
	f.buf.Reset()
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "=")
		_ = f.enc.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return bytes.Clone(f.buf.Bytes())
}

func (f *fake) head(id uint32, end bool, fields ...string) {
	_ = f.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(fields...), EndHeaders: true, EndStream: end})
}

func dialStream(t *testing.T, c *Client) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := c.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	return s
}

const getA = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// ask sends a request and reads the whole answer.
func ask(t *testing.T, c *Client, request string) (net.Conn, *http.Response, string, error) {
	t.Helper()
	s := dialStream(t, c)
	t.Cleanup(func() { _ = s.Close() })
	if _, err := io.WriteString(s, request); err != nil {
		return s, nil, "", err
	}
	method, _, _ := strings.Cut(request, " ")
	return answer(s, method)
}

func answer(s net.Conn, method string) (net.Conn, *http.Response, string, error) {
	r := bufio.NewReader(s)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return s, nil, "", err
		}
		if res.StatusCode >= 200 {
			b, err := io.ReadAll(res.Body)
			return s, res, string(b), err
		}
	}
}

func unprocessed(s net.Conn) bool { return s.(interface{ Unprocessed() bool }).Unprocessed() }

// What breaks RFC 9113 is never an answer; the server is told.
func TestClientRefusesMalformedResponses(t *testing.T) {
	const ok = ":status=200"
	many := make([]string, 0, 400)
	for i := range 400 {
		many = append(many, fmt.Sprintf("x-%d=%s", i, strings.Repeat("v", 200)))
	}
	for _, row := range []struct {
		name, method string
		serve        func(f *fake, id uint32)
	}{
		{"no status", "GET", func(f *fake, id uint32) { f.head(id, true, "a=b") }},
		{"status twice", "GET", func(f *fake, id uint32) { f.head(id, true, ok, ok) }},
		{"status of two digits", "GET", func(f *fake, id uint32) { f.head(id, true, ":status=20") }},
		{"status 101", "GET", func(f *fake, id uint32) { f.head(id, true, ":status=101") }},
		{"status 999", "GET", func(f *fake, id uint32) { f.head(id, true, ":status=999") }},
		{"request field", "GET", func(f *fake, id uint32) { f.head(id, true, ok, ":path=/") }},
		{"pseudo behind", "GET", func(f *fake, id uint32) { f.head(id, true, "a=b", ok) }},
		{"upper case", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "Abc=b") }},
		{"name with space", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "a b=c") }},
		{"empty name", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "=c") }},
		{"line break", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "a=b\r\nset-cookie: x") }},
		{"NUL", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "a=b\x00") }},
		{"blank around", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "a= b") }},
		{"connection", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "connection=close") }},
		{"transfer-encoding", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "transfer-encoding=chunked") }},
		{"upgrade", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "upgrade=x") }},
		{"bad length", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "content-length=+1") }},
		{"two lengths", "GET", func(f *fake, id uint32) { f.head(id, false, ok, "content-length=1", "content-length=2") }},
		{"length without data", "GET", func(f *fake, id uint32) { f.head(id, true, ok, "content-length=1") }},
		{"less than declared", "GET", func(f *fake, id uint32) {
			f.head(id, false, ok, "content-length=5")
			_ = f.fr.WriteData(id, true, []byte("abc"))
		}},
		{"more than declared", "GET", func(f *fake, id uint32) {
			f.head(id, false, ok, "content-length=2")
			_ = f.fr.WriteData(id, true, []byte("abc"))
		}},
		{"less than declared, with trailers", "GET", func(f *fake, id uint32) {
			f.head(id, false, ok, "content-length=5", "trailer=a")
			_ = f.fr.WriteData(id, false, []byte("abc"))
			f.head(id, true, "a=b")
		}},
		{"data before the head", "GET", func(f *fake, id uint32) { _ = f.fr.WriteData(id, true, []byte("abc")) }},
		{"pseudo in trailers", "GET", func(f *fake, id uint32) { f.head(id, false, ok); f.head(id, true, ok) }},
		{"head without end in the middle", "GET", func(f *fake, id uint32) { f.head(id, false, ok); f.head(id, false, "a=b") }},
		{"interim with end", "GET", func(f *fake, id uint32) { f.head(id, true, ":status=103") }},
		{"interim flood", "GET", func(f *fake, id uint32) {
			for range 50 {
				f.head(id, false, ":status=103")
			}
		}},
		{"large list", "GET", func(f *fake, id uint32) {
			block := f.block(append([]string{ok}, many...)...)
			_ = f.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: block[:16000], EndStream: true})
			for block = block[16000:]; len(block) > 0; {
				n := min(len(block), 16000)
				_ = f.fr.WriteContinuation(id, n == len(block), block[:n])
				block = block[n:]
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			codes := make(chan h2.ErrCode, 1)
			c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
				if id := f.request(); id != 0 {
					row.serve(f, id)
					code, _ := f.reset()
					codes <- code
				}
				f.drain()
			})
			s, res, body, err := ask(t, c, row.method+" / HTTP/1.1\r\nHost: a\r\n\r\n")
			if err == nil {
				t.Fatalf("%v %q", res, body)
			}
			if _, ok := errors.AsType[*BadResponse](err); !ok || unprocessed(s) {
				t.Errorf("%v, unprocessed %v", err, unprocessed(s))
			}
			if code := <-codes; code == h2.ErrCodeNo || code == h2.ErrCodeCancel {
				t.Errorf("reset with %v", code)
			}
			if c.Conns() != 1 {
				t.Error("the connection, of which nothing is wrong, ended")
			}
		})
	}
}

// A response without a body stands, whatever comes behind its head and before it is read. That ends the stream and goes nowhere.
func TestClientSurplusBehindAWholeResponse(t *testing.T) {
	surplus := map[string]func(f *fake, id uint32){
		"end":  func(f *fake, id uint32) { _ = f.fr.WriteData(id, true, nil) },
		"DATA": func(f *fake, id uint32) { _ = f.fr.WriteData(id, true, []byte("abc")) },
		"more DATA": func(f *fake, id uint32) {
			_ = f.fr.WriteData(id, false, []byte("abc"))
			_ = f.fr.WriteData(id, true, nil)
		},
		"another head":   func(f *fake, id uint32) { f.head(id, false, ":status=200") },
		"bad trailers":   func(f *fake, id uint32) { f.head(id, true, "connection=close") },
		"reset":          func(f *fake, id uint32) { _ = f.fr.WriteRSTStream(id, h2.ErrCodeInternal) },
		"a broken frame": func(f *fake, id uint32) { _ = f.fr.WriteData(id+1, false, nil) },
	}
	for what, send := range surplus {
		for _, row := range []struct{ method, status, length string }{
			{"HEAD", "200", "3"}, {"GET", "204", ""}, {"GET", "304", "3"}, {"GET", "200", "0"},
			{"POST", "204", ""}, // whose request is not whole
		} {
			t.Run(what+" behind "+row.method+" "+row.status, func(t *testing.T) {
				sent := make(chan bool)
				c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
					id := f.request()
					fields := []string{":status=" + row.status}
					if row.length != "" {
						fields = append(fields, "content-length="+row.length)
					}
					f.head(id, false, fields...)
					send(f, id)
					_ = f.fr.WritePing(false, [8]byte{})
					f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.PingFrame); return ok })
					close(sent)
					f.drain()
				})
				request := row.method + " / HTTP/1.1\r\nHost: a\r\n"
				if row.method == "POST" {
					request += "Content-Length: 3\r\n"
				}
				s := dialStream(t, c)
				defer s.Close()
				_, _ = io.WriteString(s, request+"\r\n")
				pass(t, sent, "the answer")
				_, res, body, err := answer(s, row.method)
				if err != nil || fmt.Sprint(res.StatusCode) != row.status || body != "" || res.Header.Get("Content-Length") != row.length {
					t.Errorf("%v %q, %v", res, body, err)
				}
				_ = s.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
				if n, err := s.Read(make([]byte, 10)); n > 0 || !isTimeout(err) {
					t.Errorf("%d bytes more, %v", n, err)
				}
			})
		}
	}
}

// The server is told of DATA where none may be, and the connection goes on.
func TestClientResetsWhatIsBehindAWholeResponse(t *testing.T) {
	codes := make(chan h2.ErrCode, 1)
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
		id := f.request()
		f.head(id, false, ":status=204")
		_ = f.fr.WriteData(id, false, []byte("abc"))
		code, _ := f.reset()
		codes <- code
		_ = f.fr.WriteData(id, true, []byte("on its way already"))
		f.head(f.request(), true, ":status=204")
		f.drain()
	})
	for range 2 {
		if _, res, _, err := ask(t, c, getA); err != nil || res.StatusCode != 204 {
			t.Errorf("%v, %v", res, err)
		}
	}
	if code := pass(t, codes, "a reset"); code == h2.ErrCodeNo || c.Conns() != 1 {
		t.Errorf("%v, %d connections", code, c.Conns())
	}
}

// What breaks the connection ends all that is on it, and the next request goes on another.
func TestClientConnectionFaults(t *testing.T) {
	for _, row := range []struct {
		name  string
		serve func(f *fake, id uint32)
	}{
		{"endless CONTINUATION", func(f *fake, id uint32) {
			_ = f.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(":status=200")})
			for range 1 << 16 {
				if f.fr.WriteContinuation(id, false, nil) != nil {
					return
				}
			}
		}},
		{"interrupted block", func(f *fake, id uint32) {
			_ = f.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(":status=200")})
			_ = f.fr.WritePing(false, [8]byte{})
		}},
		{"malformed block", func(f *fake, id uint32) {
			_ = f.fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		{"more than the connection's window", func(f *fake, id uint32) {
			f.head(id, false, ":status=200")
			for range 1 << 12 {
				if f.fr.WriteData(id, false, make([]byte, 16<<10)) != nil {
					return
				}
			}
		}},
		{"PUSH_PROMISE", func(f *fake, id uint32) {
			_ = f.fr.WritePushPromise(h2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: f.block(":method=GET"), EndHeaders: true})
		}},
		{"a stream nobody opened", func(f *fake, id uint32) { f.head(id+2, true, ":status=200") }},
		{"an even stream", func(f *fake, id uint32) { _ = f.fr.WriteData(id+1, true, nil) }},
		{"window overflow", func(f *fake, _ uint32) { _ = f.fr.WriteWindowUpdate(0, 1<<31-1) }},
		{"bad SETTINGS", func(f *fake, _ uint32) {
			_ = f.fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 31})
		}},
		{"large frame", func(f *fake, id uint32) { _ = f.fr.WriteRawFrame(h2.FrameData, 0, id, make([]byte, 20<<10)) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := fakeServer(t, ClientSettings{StreamWindow: 64 << 10, MaxStreams: 2}, nil, func(f *fake) {
				id := f.request()
				if f.n == 0 {
					row.serve(f, id)
				} else {
					f.head(id, true, ":status=204")
				}
				f.drain()
			})
			if s, res, body, err := ask(t, c, getA); err == nil || unprocessed(s) {
				t.Fatalf("%v %q, %v", res, body, err)
			}
			if row.name != "more than the connection's window" { // of which the stream's comes first
				if _, res, _, err := ask(t, c, getA); err != nil || res.StatusCode != 204 {
					t.Errorf("on another connection: %v", err)
				}
			}
		})
	}
}
