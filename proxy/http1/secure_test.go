package http1

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

func ownCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// securePair is a Transport's connection and the server's end of it.
func securePair(t testing.TB) (*secureConn, *tls.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := make(chan *tls.Conn, 1)
	cfg := &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}
	go func() {
		nc, err := l.Accept()
		if err != nil {
			close(server)
			return
		}
		c := tls.Server(nc, cfg)
		_ = c.Handshake()
		server <- c
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Secure(t.Context(), nc, &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(1)})
	if err != nil {
		t.Fatal(err)
	}
	peer := <-server
	t.Cleanup(func() {
		_ = s.Close()
		_ = peer.NetConn().Close()
	})
	return s.(*secureConn), peer
}

// arrives waits until there is something to be read on the wire.
func arrives(t testing.TB, s *secureConn) {
	t.Helper()
	eventually(t, "bytes on the wire", func() bool { return peek(s.wire.raw) != peekQuiet })
}

// A ticket for resuming the session is no answer; it is taken in, and the connection can be used on.
func TestLookTakesTickets(t *testing.T) {
	s, peer := securePair(t)
	arrives(t, s) // the server sends it behind the handshake (RFC 8446 §4.6.1)
	for range 3 {
		if got := s.look(); got != peekQuiet {
			t.Fatalf("found %v", got)
		}
	}
	go func() {
		b := make([]byte, 4)
		_, _ = io.ReadFull(peer, b)
		_, _ = peer.Write(b)
	}()
	_, _ = io.WriteString(s, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(s, b); err != nil || string(b) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLookFindsWhatNobodyAskedFor(t *testing.T) {
	for name, send := range map[string]func(s *secureConn, peer *tls.Conn){
		"payload": func(_ *secureConn, peer *tls.Conn) { _, _ = io.WriteString(peer, "x") },
		"payload behind what was read": func(s *secureConn, peer *tls.Conn) {
			_, _ = io.WriteString(peer, "xy")
			_, _ = s.Read(make([]byte, 1))
			_, _ = peer.NetConn().Write(nil)
		},
		"a header":             func(_ *secureConn, peer *tls.Conn) { _, _ = peer.NetConn().Write([]byte{23, 3, 3}) },
		"a part of a record":   func(_ *secureConn, peer *tls.Conn) { _, _ = peer.NetConn().Write([]byte{23, 3, 3, 0, 9, 1, 2}) },
		"the end":              func(_ *secureConn, peer *tls.Conn) { _ = peer.Close() },
		"the end of the wire":  func(_ *secureConn, peer *tls.Conn) { _ = peer.NetConn().Close() },
		"a record that is bad": func(_ *secureConn, peer *tls.Conn) { _, _ = peer.NetConn().Write([]byte{23, 3, 3, 0, 1, 1}) },
	} {
		s, peer := securePair(t)
		arrives(t, s)
		if s.look() != peekQuiet {
			t.Fatal("not quiet to begin with")
		}
		send(s, peer)
		eventually(t, name, func() bool { return s.look() != peekQuiet })
	}
}

// Closing tells the server, and waits for nothing.
func TestCloseOfSecureConnections(t *testing.T) {
	s, peer := securePair(t)
	_ = s.Close()
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the server was not told: %v", err)
	}
	s, _ = securePair(t)
	_ = s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for { // until the wire takes no more
		if _, err := s.wire.Conn.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	begun := time.Now()
	_ = s.Close()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("waited %v for a server that takes nothing", took)
	}
}

// A handshake that does not come to an end is given up with its context, one that fails says so.
func TestSecureErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Secure(ctx, dial(), &tls.Config{ServerName: "x"}); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrHandshake) {
		t.Error(err)
	}
	go func() {
		_, _ = l.Accept() // the first one
		nc, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(nc, "SSH-2.0-OpenSSH\r\n")
		}
	}()
	if _, err := Secure(t.Context(), dial(), &tls.Config{ServerName: "x"}); !errors.Is(err, ErrHandshake) {
		t.Error(err)
	}
}

// Under TLS too a request that ran into an orderly close can be sent again when the server's kernel took nothing of it, and cannot when
// it did.
func TestDeliveredUnderTLS(t *testing.T) {
	cfg := &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}
	answered := make(chan *tls.Conn, 1)
	addr := script(t, func(nc *client) {
		c := tls.Server(nc.TCPConn, cfg)
		r := bufio.NewReader(c)
		for line, err := r.ReadString('\n'); err == nil && line != "\r\n"; line, err = r.ReadString('\n') {
		}
		_, _ = io.WriteString(c, okEmpty)
		answered <- c
		_, _ = io.Copy(io.Discard, r)
	})
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	tr := NewTransport(addr, TransportConfig{KeepAlive: time.Minute, Dial: func(ctx context.Context) (net.Conn, error) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		return Secure(ctx, nc, &tls.Config{InsecureSkipVerify: true})
	}})
	defer tr.Close()
	u := exchange(t, tr, nil, post)
	if _, err := u.ReadHead([]byte("POST")); err != nil {
		t.Fatal(err)
	}
	u.Release(time.Now())
	server := <-answered
	u, err := tr.Get(nil, time.Now())
	if err != nil || !u.Reused() {
		t.Fatalf("not kept: %v", err)
	}
	if err := u.Send([]byte(post), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "acknowledged", func() bool {
		acked, ok := bytesAcked(u.nc.(*secureConn).wire.raw)
		return !ok || acked >= u.nc.(*secureConn).wire.written.Load()
	})
	_ = server.CloseWrite()
	if _, err := u.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) || !u.Delivered() || u.Stale() {
		t.Errorf("%v, delivered %v", err, u.Delivered())
	}
	u.Close()
}
