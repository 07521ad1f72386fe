package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// startSpill gives a spill into whose socket little fits, and the other end.
func startSpill(t *testing.T) (*spill, *client) {
	t.Helper()
	got := make(chan *spill, 1)
	end := make(chan struct{})
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		got <- newSpill(c.nc, c.raw)
		<-end
		c.Abort()
	})})
	c := f.dialNarrow(t)
	t.Cleanup(func() { close(end) })
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n") // which is not served inside of a read
	s := <-got
	t.Cleanup(s.release)
	return s, c
}

// fillSpill writes eagerly until something is kept.
func fillSpill(t *testing.T, s *spill) (sent []byte) {
	t.Helper()
	s.setEager(true)
	defer s.setEager(false)
	for !s.kept() {
		p := randomBytes(16 << 10)
		if n, err := s.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		sent = append(sent, p...)
	}
	return sent
}

func wantNext(t *testing.T, c *client, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, the right ones: %v; %v", n, len(want), bytes.Equal(got, want), err)
	}
}

// What an eager write did not get rid of goes out before what is written later, be it eagerly.
func TestSpillKeepsTheOrder(t *testing.T) {
	for _, how := range []string{"flush", "write", "more than fits"} {
		t.Run(how, func(t *testing.T) {
			s, c := startSpill(t)
			sent := fillSpill(t, s)
			if used := aheadUsed.Load(); used != bigSize {
				t.Errorf("%d bytes are reserved", used)
			}
			later := randomBytes(30 << 10)
			done := make(chan error, 1)
			go func() {
				var err error
				switch how {
				case "flush":
					if _, err = s.flush(); err == nil {
						_, err = s.Write(later)
					}
				case "write":
					_, err = s.Write(later)
				default:
					s.setEager(true)
					for rest := later; len(rest) > 0 && err == nil; rest = rest[1<<10:] {
						_, err = s.Write(rest[:1<<10])
					}
					for range 2 {
						_, _ = s.Write(later)
					}
					s.setEager(false)
					_, _ = s.flush()
				}
				done <- err
			}()
			wantNext(t, c, append(sent, later...))
			if how == "more than fits" {
				wantNext(t, c, append(bytes.Clone(later), later...))
			}
			if err := <-done; err != nil || s.kept() {
				t.Error(err, s.kept())
			}
			allRoomIsBack(t)
		})
	}
}

// Where the room of the process is used up nothing is kept: an eager write waits.
func TestSpillKeepsNothingWithoutRoom(t *testing.T) {
	if !takeAhead(aheadTotal) {
		t.Fatal("no room")
	}
	defer giveAhead(aheadTotal)
	s, c := startSpill(t)
	s.setEager(true)
	body := randomBytes(1 << 20)
	done := make(chan error, 1)
	go func() {
		_, err := s.Write(body)
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	wantNext(t, c, body)
	if err := <-done; err != nil || s.kept() || aheadUsed.Load() != aheadTotal {
		t.Error(err, s.kept(), aheadUsed.Load())
	}
}

// A flush that does not end in time can be repeated, and nothing is sent twice. A release gives the room back.
func TestSpillAfterADeadline(t *testing.T) {
	s, c := startSpill(t)
	sent := fillSpill(t, s)
	for range 3 {
		_ = s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := s.flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		wantNext(t, c, sent[:100])
		sent = sent[100:]
	}
	_ = s.SetWriteDeadline(time.Time{})
	done := make(chan error, 1)
	go func() {
		_, err := s.flush()
		done <- err
	}()
	wantNext(t, c, sent)
	if err := <-done; err != nil || s.kept() {
		t.Error(err, s.kept())
	}
	fillSpill(t, s)
	s.release()
	allRoomIsBack(t)
}

// asIs is an encrypted connection whose records are what is written.
type asIs struct{ *spill }

// Bytes count as written when the kernel has all of their record, and a client that takes a few of them in time is not silent.
func TestOutputOverSpill(t *testing.T) {
	s, c := startSpill(t)
	const timeout = 300 * time.Millisecond
	o := &output{timeout: timeout}
	o.init(asIs{s}, nil)
	o.spill, o.eager = s, true
	var sent []byte
	for !o.stalled() {
		p := randomBytes(recordSize)
		if err := o.write(p); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, p...)
	}
	if n := partsLen(&o.parts); n != 0 || o.written.Load() != int64(len(sent)-recordSize) {
		t.Errorf("%d of %d bytes are written, %d not taken", o.written.Load(), len(sent), n)
	}
	if err := o.write([]byte("more")); err != nil || partsLen(&o.parts) != 4 {
		t.Errorf("%v, %d bytes are not taken", err, partsLen(&o.parts))
	}
	o.eager = false
	done := make(chan error, 1)
	begun := time.Now()
	go func() { done <- o.write([]byte("more")) }()
	var got []byte
	for len(got) < len(sent)+4 {
		p := make([]byte, 300)
		n, err := c.r.Read(p)
		if err != nil {
			t.Fatalf("%v after %d of %d bytes", err, len(got), len(sent))
		}
		got = append(got, p[:n]...)
		if time.Since(begun) < 4*timeout {
			time.Sleep(timeout / 8)
		}
	}
	if err := <-done; err != nil || string(got) != string(sent)+"more" || o.written.Load() != int64(len(got)) {
		t.Errorf("%v, %d of %d bytes are written", err, o.written.Load(), len(got))
	}
	if o.stalled() {
		t.Error("stalled")
	}
	allRoomIsBack(t)
}

// A kept-alive request over TLS, whose client takes what comes, costs what crypto/tls allocates and nothing more.
func TestEncryptedRequestAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	cert, trust := selfSigned(t)
	trust.ServerName = "127.0.0.1"
	for size, most := range map[int]float64{100: 2, 12 << 10: 2, 60 << 10: 3} {
		answer := okBody(strings.Repeat("x", size))
		f, h := startRelay(t, echoServer(t, answer))
		l, err := Listen(context.Background(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		open := handshake(&tls.Config{Certificates: []tls.Certificate{cert}})
		go func() { _ = f.Serve(NamedListener{Listener: l, Open: open, Encrypted: true}) }()
		f.addr = l.Addr().String()
		c := tls.Client(f.dial(t).TCPConn, trust)
		request, buf := []byte(getRoot), make([]byte, 64<<10)
		once := func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(answer); {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}
		for range 200 {
			once()
		}
		const rounds = 2000
		old := debug.SetGCPercent(-1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			once()
		}
		runtime.ReadMemStats(&after)
		debug.SetGCPercent(old)
		if n := float64(after.Mallocs-before.Mallocs) / rounds; n > most+0.5 { // reading ahead would cost three more
			t.Errorf("%d bytes: %.2f allocations", size, n)
		}
		if h.failures() > 0 {
			t.Error(h.last())
		}
		_ = c.Close()
		_ = l.Close()
	}
	allRoomIsBack(t)
}
