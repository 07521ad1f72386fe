package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// GOAWAY: what is above its last stream was not processed, what is not goes on, new requests go elsewhere.
func TestClientGoAway(t *testing.T) {
	var finish = make(chan bool)
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
		first := f.request()
		if f.n > 0 {
			f.head(first, true, ":status=204")
			f.drain()
			return
		}
		f.request()
		_ = f.fr.WriteGoAway(first, h2.ErrCodeNo, nil)
		f.head(first, false, ":status=200")
		<-finish
		_ = f.fr.WriteData(first, true, []byte("whole"))
		f.drain()
	})
	one, two := dialStream(t, c), dialStream(t, c)
	defer one.Close()
	defer two.Close()
	_, _ = io.WriteString(one, getA)
	_, _ = io.WriteString(two, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
	if _, _, _, err := answer(two, "POST"); !errors.Is(err, ErrUnprocessed) || !unprocessed(two) {
		t.Errorf("the second: %v", err)
	}
	if _, res, _, err := ask(t, c, getA); err != nil || res.StatusCode != 204 {
		t.Errorf("the third: %v", err)
	}
	close(finish)
	if _, _, body, err := answer(one, "GET"); err != nil || body != "whole" || unprocessed(one) {
		t.Errorf("the first: %q, %v", body, err)
	}
}

// A stream that was given out and not used yet when GOAWAY came was not processed either.
func TestClientGoAwayBeforeTheRequest(t *testing.T) {
	taken, told := make(chan bool), make(chan bool)
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
		<-taken
		_ = f.fr.WriteGoAway(0, h2.ErrCodeNo, nil)
		_ = f.fr.WritePing(false, [8]byte{})
		f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.PingFrame); return ok })
		close(told)
		f.drain()
	})
	s := dialStream(t, c)
	defer s.Close()
	close(taken)
	<-told
	if _, err := io.WriteString(s, getA); !errors.Is(err, ErrUnprocessed) || !unprocessed(s) {
		t.Error(err)
	}
}

// A server that lets no request come to begin with is an error of Single, which says why, and no stream.
func TestSingleWithoutRoom(t *testing.T) {
	for _, row := range []struct {
		name  string
		most  uint32
		serve func(f *fake)
		want  error // nil: either comes first, the request or the end
	}{
		{"no stream at once", 0, (*fake).drain, errFull},
		{"one", 1, (*fake).drain, nil},
		{"GOAWAY", 1, func(f *fake) { _ = f.fr.WriteGoAway(0, h2.ErrCodeNo, nil); f.drain() }, nil},
		{"closed", 1, func(f *fake) {}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := fakeServer(t, ClientSettings{}, []h2.Setting{{ID: h2.SettingMaxConcurrentStreams, Val: row.most}}, row.serve)
			for range 50 {
				nc, err := c.dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				s, err := Single(t.Context(), nc, ClientSettings{})
				if row.want != nil && !errors.Is(err, row.want) {
					t.Fatal(err)
				}
				if err == nil {
					_ = s.Close()
				} else if s != nil {
					t.Fatalf("%T with %v", s, err)
				}
			}
		})
	}
}

// A connection at its end says why it gives out no stream.
func TestReserveSaysWhy(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(f *fake)
		want error
	}{
		{"GOAWAY", func(f *fake) { _ = f.fr.WriteGoAway(1, h2.ErrCodeNo, nil) }, errLeaving},
		{"closed", func(f *fake) { _ = f.nc.Close() }, ErrGone},
	} {
		end := make(chan bool)
		c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
			f.request()
			<-end
			row.end(f)
			f.drain()
		})
		s := dialStream(t, c)
		_, _ = io.WriteString(s, getA)
		conn := s.(*clientStream).conn
		close(end)
		for stop := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			more, err := conn.reserve()
			if errors.Is(err, row.want) {
				break
			}
			if err == nil {
				_ = more.Close()
			}
			if time.Now().After(stop) {
				t.Fatalf("%s: %v", row.name, err)
			}
		}
		_ = s.Close()
	}
}

func TestClientResets(t *testing.T) {
	for _, row := range []struct {
		name        string
		serve       func(f *fake, id uint32)
		unprocessed bool
	}{
		{"refused", func(f *fake, id uint32) { _ = f.fr.WriteRSTStream(id, h2.ErrCodeRefusedStream) }, true},
		{"canceled", func(f *fake, id uint32) { _ = f.fr.WriteRSTStream(id, h2.ErrCodeCancel) }, false},
		{"in the middle", func(f *fake, id uint32) {
			f.head(id, false, ":status=200")
			_ = f.fr.WriteData(id, false, []byte("abc"))
			_ = f.fr.WriteRSTStream(id, h2.ErrCodeInternal)
		}, false},
		{"in the middle, with NO_ERROR", func(f *fake, id uint32) {
			f.head(id, false, ":status=200", "content-length=4")
			_ = f.fr.WriteData(id, false, []byte("abc"))
			_ = f.fr.WriteRSTStream(id, h2.ErrCodeNo)
		}, false},
		{"refused behind a head", func(f *fake, id uint32) {
			f.head(id, false, ":status=200")
			_ = f.fr.WriteRSTStream(id, h2.ErrCodeRefusedStream)
		}, false},
		{"refused behind an interim head", func(f *fake, id uint32) {
			f.head(id, false, ":status=103")
			_ = f.fr.WriteRSTStream(id, h2.ErrCodeRefusedStream)
		}, false},
		{"GOAWAY without it behind an interim head", func(f *fake, id uint32) {
			f.head(id, false, ":status=103")
			_ = f.fr.WriteGoAway(id-1, h2.ErrCodeNo, nil)
			_ = f.nc.Close()
		}, false},
		{"the connection", func(f *fake, id uint32) { _ = f.nc.Close() }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
				if id := f.request(); id != 0 {
					row.serve(f, id)
				}
				f.drain()
			})
			s, res, body, err := ask(t, c, getA)
			if err == nil || err == io.EOF || unprocessed(s) != row.unprocessed {
				t.Errorf("%v %q, %v, unprocessed %v", res, body, err, unprocessed(s))
			}
		})
	}
}

// A response that is whole stays so when the server wants no more of the request, or ends the connection.
func TestClientWholeBeforeTheRequest(t *testing.T) {
	for _, closes := range []bool{false, true} {
		done := make(chan bool)
		c := fakeServer(t, ClientSettings{}, []h2.Setting{{ID: h2.SettingInitialWindowSize, Val: 10}}, func(f *fake) {
			id := f.request()
			f.head(id, false, ":status=413")
			_ = f.fr.WriteData(id, true, []byte("too much"))
			if !closes {
				_ = f.fr.WriteRSTStream(id, h2.ErrCodeNo)
				_ = f.fr.WritePing(false, [8]byte{})
				f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.PingFrame); return ok })
			} else {
				_ = f.nc.(*net.TCPConn).CloseWrite()
			}
			close(done)
			f.drain()
		})
		s := dialStream(t, c)
		_, err := io.WriteString(s, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"+strings.Repeat("x", 100))
		if err == nil {
			t.Error("all was taken")
		}
		<-done
		if _, res, body, err := answer(s, "POST"); err != nil || res.StatusCode != 413 || body != "too much" {
			t.Errorf("closes %v: %v %q, %v", closes, res, body, err)
		}
		_ = s.Close()
	}
}

// More requests than a server lets one connection have go on another, as long as there may be one, and wait then.
func TestClientMaxStreams(t *testing.T) {
	c := fakeServer(t, ClientSettings{MaxConns: 2}, []h2.Setting{{ID: h2.SettingMaxConcurrentStreams, Val: 1}}, func(f *fake) { f.drain() })
	one, two := dialStream(t, c), dialStream(t, c)
	defer two.Close()
	if c.Conns() != 2 {
		t.Errorf("%d connections", c.Conns())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := c.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a third: %v", err)
	}
	got := make(chan net.Conn)
	go func() {
		s, _ := c.Dial(context.Background())
		got <- s
	}()
	time.Sleep(10 * time.Millisecond)
	_ = one.Close()
	if s := <-got; s == nil {
		t.Error("none after one was given back")
	} else {
		_ = s.Close()
	}
}

// Many that come at once share the connection that is being made.
func TestClientDialsOnce(t *testing.T) {
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) { f.drain() })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if s, err := c.Dial(t.Context()); err != nil {
				t.Error(err)
			} else {
				defer s.Close()
			}
		})
	}
	wg.Wait()
	if n := c.Conns(); n > 1 {
		t.Errorf("%d connections", n)
	}
}

// A server that is silent is asked; one that does not even answer that is gone.
func TestClientPings(t *testing.T) {
	set := ClientSettings{PingAfter: 20 * time.Millisecond, PingTimeout: 200 * time.Millisecond}
	for _, answers := range []bool{true, false} {
		pinged := make(chan bool)
		c := fakeServer(t, set, nil, func(f *fake) {
			id := f.request()
			p := f.await(func(fr h2.Frame) bool { _, ok := fr.(*h2.PingFrame); return ok })
			close(pinged)
			if answers && p != nil {
				_ = f.fr.WritePing(true, p.(*h2.PingFrame).Data)
				time.Sleep(300 * time.Millisecond)
				f.head(id, true, ":status=204")
				f.drain()
				return
			}
			_, _ = io.Copy(io.Discard, f.nc)
		})
		s, res, _, err := ask(t, c, getA)
		<-pinged
		if answers && (err != nil || res.StatusCode != 204) || !answers && (!errors.Is(err, errNoPong) || unprocessed(s)) {
			t.Errorf("answers %v: %v, %v", answers, res, err)
		}
	}
}

// The server hears of a request that is given up, and of no reset where it has nothing left to do.
func TestClientCancels(t *testing.T) {
	codes := make(chan h2.ErrCode, 2)
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
		id := f.request()
		f.head(id, true, ":status=204")
		f.request()
		for {
			code, ok := f.reset()
			if !ok {
				return
			}
			codes <- code
		}
	})
	s, _, _, err := ask(t, c, getA)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if err := s.Close(); err == nil {
		t.Error("closed twice")
	}
	unused := dialStream(t, c)
	_ = unused.Close() // of which the server knows nothing
	s = dialStream(t, c)
	_, _ = io.WriteString(s, getA)
	_ = s.Close()
	if code := <-codes; code != h2.ErrCodeCancel {
		t.Error(code)
	}
	c.Close()
	if len(codes) != 0 {
		t.Error("more than one reset")
	}
}

// Deadlines can be moved, also after they have passed.
func TestClientDeadlines(t *testing.T) {
	goOn := make(chan bool)
	c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
		id := f.request()
		<-goOn
		f.head(id, true, ":status=204")
		f.drain()
	})
	s := dialStream(t, c)
	defer s.Close()
	_, _ = io.WriteString(s, getA)
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := s.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
	close(goOn)
	if _, res, _, err := answer(s, "GET"); err != nil || res.StatusCode != 204 {
		t.Error(err)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// What does not speak HTTP/2 is found out before a request is sent to it.
func TestClientMeetsAnotherProtocol(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { _ = http.Serve(l, http.NotFoundHandler()) }()
	c := NewClient(func(ctx context.Context) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, ClientSettings{})
	defer c.Close()
	if _, err := c.Dial(t.Context()); !errors.Is(err, ErrNotSpoken) {
		t.Error(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c = NewClient(func(ctx context.Context) (net.Conn, error) { return net.Dial("tcp", silent.Addr().String()) }, ClientSettings{})
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Unused connections end after their time, and a server that ends one costs nothing.
func TestClientIdle(t *testing.T) {
	ended := make(chan bool, 1)
	c := fakeServer(t, ClientSettings{IdleTimeout: 20 * time.Millisecond}, nil, func(f *fake) {
		f.head(f.request(), true, ":status=204")
		f.drain()
		ended <- true
	})
	s, _, _, err := ask(t, c, getA)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	<-ended
	for end := time.Now().Add(5 * time.Second); c.Conns() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections", c.Conns())
		}
	}
	if _, _, _, err := ask(t, c, getA); err != nil {
		t.Error(err)
	}
}

// Trailers pass when they may come, with a length or without; interim responses pass before.
func TestClientTrailersAndInterims(t *testing.T) {
	for _, fields := range [][]string{
		{":status=200", "content-type=application/grpc"},
		{":status=200", "trailer=grpc-status", "content-length=2"},
		{":status=200"},
	} {
		c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
			id := f.request()
			f.head(id, false, ":status=103", "link=</a>")
			f.head(id, false, ":status=103", "link=</b>")
			f.head(id, false, fields...)
			_ = f.fr.WriteData(id, false, []byte("hi"))
			f.head(id, true, "grpc-status=0", "grpc-message=fine")
			f.drain()
		})
		_, res, body, err := ask(t, c, getA)
		if err != nil || body != "hi" || res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "fine" {
			t.Errorf("%v: %v %q %v", fields, res, body, err)
		}
	}
}

// faulty is a connection that panics where it is told to.
type faulty struct {
	net.Conn
	where *atomic.Value
}

func (c faulty) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.where.Load() == "read" {
		panic("out of order")
	}
	return n, err
}

func (c faulty) Write(p []byte) (int, error) {
	if c.where.Load() == "write" {
		panic("out of order")
	}
	return c.Conn.Write(p)
}

// A panic on a goroutine of a connection costs this connection, and the log has it.
func TestClientSurvivesPanics(t *testing.T) {
	for _, row := range []struct{ where, first string }{
		{"dial", "dial"}, {"read", "dial"}, {"write", "dial"}, // before there is a stream
		{"read", "request"}, {"write", "request"},
	} {
		t.Run(row.where+" "+row.first, func(t *testing.T) {
			var log bytes.Buffer
			var where atomic.Value
			c := fakeServer(t, ClientSettings{}, nil, func(f *fake) {
				for id := f.request(); id != 0; id = f.request() {
					f.head(id, true, ":status=204")
				}
			})
			c.Configure(ClientSettings{Log: slog.New(slog.NewTextHandler(&log, nil))})
			connect := c.dial
			c.dial = func(ctx context.Context) (net.Conn, error) {
				if where.Load() == "dial" {
					panic("out of order")
				}
				nc, err := connect(ctx)
				return faulty{nc, &where}, err
			}
			if row.first == "dial" {
				where.Store(row.where)
				if s, err := c.Dial(t.Context()); err == nil {
					t.Errorf("got %T", s)
				}
			} else {
				s := dialStream(t, c)
				where.Store(row.where)
				_, _ = io.WriteString(s, getA)
				if _, res, _, err := answer(s, "GET"); !errors.Is(err, ErrGone) || unprocessed(s) {
					t.Errorf("%v, %v", res, err)
				}
				_ = s.Close()
			}
			where.Store("nowhere")
			for end := time.Now().Add(patience); c.Conns() != 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
			if _, res, _, err := ask(t, c, getA); err != nil || res.StatusCode != 204 {
				t.Errorf("then: %v, %v", res, err)
			}
			if text := log.String(); !strings.Contains(text, "out of order") || !strings.Contains(text, "clientlife_test.go") {
				t.Errorf("logged %q", text)
			}
		})
	}
}
