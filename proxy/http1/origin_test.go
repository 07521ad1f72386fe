package http1

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// openedFront serves connections that an Opener makes ready.
func openedFront(t *testing.T, s *Server, open Opener) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, NamedListener{Listener: l, Name: "front", Open: open})
}

// selfSigned is a certificate for 127.0.0.1 and the client configuration that trusts it.
func selfSigned(t testing.TB) (tls.Certificate, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, &tls.Config{RootCAs: roots}
}

// handshake is an Opener for TLS.
func handshake(cfg *tls.Config) Opener {
	return func(nc net.Conn, o *Origin) (net.Conn, error) {
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		conn := tls.Server(nc, cfg)
		if err := conn.Handshake(); err != nil {
			return nil, err
		}
		_ = nc.SetDeadline(time.Time{})
		state := conn.ConnectionState()
		o.TLS = &state
		return conn, nil
	}
}

func TestOpenerCorrectsTheOrigin(t *testing.T) {
	true4 := netip.MustParseAddrPort("192.0.2.1:7")
	f := openedFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		reply(c, c.Listener()+" "+c.RemoteAddr().String())
	})}, func(nc net.Conn, o *Origin) (net.Conn, error) {
		o.Remote = true4
		return nc, nil
	})
	c := f.dial(t)
	for range 2 {
		c.send(getRoot)
		if _, body := c.response("GET"); body != "front 192.0.2.1:7" {
			t.Errorf("%q", body)
		}
	}
}

func TestOpenerRefuses(t *testing.T) {
	f := openedFront(t, &Server{Handler: handlerFunc(func(c *Conn) { t.Error("served") })}, func(net.Conn, *Origin) (net.Conn, error) {
		return nil, errors.New("no")
	})
	c := f.dial(t)
	c.wantClosed()
}

// Over TLS: bodies both ways on one connection, and the client that leaves is noticed while its request waits.
func TestEncrypted(t *testing.T) {
	cert, trust := selfSigned(t)
	waits, left := make(chan struct{}), make(chan struct{})
	f := openedFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/wait" {
			c.SetGone(func() { close(left) })
			close(waits)
			select {
			case <-left:
			case <-time.After(10 * time.Second):
				t.Error("the client's end was not noticed")
			}
			c.Abort()
			return
		}
		if !c.TLS() || c.Origin().TLS.Version != tls.VersionTLS13 {
			t.Error("the origin does not tell of TLS")
		}
		b, err := io.ReadAll(c.Body())
		if err != nil {
			t.Error(err)
		}
		reply(c, string(b))
	})}, handshake(&tls.Config{Certificates: []tls.Certificate{cert}}))
	trust.ServerName = "127.0.0.1"
	client := tls.Client(f.dial(t).TCPConn, trust)
	r := bufio.NewReader(client)
	body := make([]byte, 300<<10)
	for i := range body {
		body[i] = byte('a' + i%26)
	}
	for range 3 {
		go func() {
			_, _ = client.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 307200\r\n\r\n"))
			_, _ = client.Write(body)
		}()
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != string(body) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if _, err := client.Write([]byte("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	<-waits
	client.Close()
	<-left
}

// An aborted response ends the connection of TLS without the alert that would make the cut look like an end.
func TestEncryptedAbort(t *testing.T) {
	cert, trust := selfSigned(t)
	f := openedFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), BodyChunked)
		_, _ = c.Write([]byte("half"))
		c.Abort()
	})}, handshake(&tls.Config{Certificates: []tls.Certificate{cert}}))
	trust.ServerName = "127.0.0.1"
	client := tls.Client(f.dial(t).TCPConn, trust)
	if _, err := client.Write([]byte(getRoot)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(client); err == nil {
		t.Errorf("%q ended in order", b)
	}
}

// HTTP/2 is found by its first bytes, however they come, and by what TLS agreed on; streams are served as requests.
func TestHTTP2IsHandedOver(t *testing.T) {
	cert, trust := selfSigned(t)
	trust.ServerName, trust.NextProtos = "127.0.0.1", []string{"h2"}
	s := &Server{Handler: handlerFunc(func(c *Conn) {
		if !c.Origin().HTTP2 {
			t.Error("the origin does not tell of HTTP/2")
		}
		reply(c, "from a stream")
	})}
	s.HTTP2 = func(nc net.Conn, o Origin, drain <-chan struct{}) {
		got := make([]byte, len(preface))
		if _, err := io.ReadFull(nc, got); err != nil || string(got) != preface {
			t.Errorf("%q, %v", got, err)
		}
		ours, theirs := net.Pipe()
		o.HTTP2 = true
		go s.ServeStream(ours, o)
		_, _ = theirs.Write([]byte(getRoot))
		resp, err := http.ReadResponse(bufio.NewReader(theirs), nil)
		if err != nil {
			t.Error(err)
			return
		}
		b, _ := io.ReadAll(resp.Body)
		_, _ = nc.Write(b)
		_ = nc.Close()
	}
	plain := startFront(t, s)
	for name, parts := range map[string][]string{"whole": {preface}, "in two": {preface[:5], preface[5:]}, "from its first byte": {preface[:1], preface[1:]}} {
		t.Run(name, func(t *testing.T) {
			c := plain.dial(t)
			for _, p := range parts {
				c.send(p)
				time.Sleep(10 * time.Millisecond)
			}
			if got, err := c.rest(); got != "from a stream" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("agreed on", func(t *testing.T) {
		encrypted := openedFront(t, &Server{Handler: s.Handler, HTTP2: s.HTTP2}, handshake(&tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
		}))
		c := tls.Client(encrypted.dial(t).TCPConn, trust)
		if _, err := c.Write([]byte(preface)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != "from a stream" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("not after a request", func(t *testing.T) {
		plain := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "") }), HTTP2: s.HTTP2})
		c := plain.dial(t)
		c.send(getRoot)
		c.response("GET")
		c.send(preface)
		if resp, _ := c.response("GET"); resp.StatusCode != 505 {
			t.Errorf("%d", resp.StatusCode)
		}
	})
}

// Shutdown tells connections of HTTP/2 and waits for them.
func TestShutdownDrainsHTTP2(t *testing.T) {
	begun, told := make(chan struct{}), make(chan struct{})
	f := startFront(t, &Server{Grace: 50 * time.Millisecond, HTTP2: func(_ net.Conn, _ Origin, drain <-chan struct{}) {
		close(begun)
		<-drain
		close(told)
	}})
	c := f.dial(t)
	c.send(preface)
	<-begun
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case <-told:
	default:
		t.Error("Shutdown did not wait")
	}
}
