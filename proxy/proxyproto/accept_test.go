package proxyproto

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/proxy/http1"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// teller answers with who the client is, on what kind of connection, and what it sent.
type teller struct{}

func (h *teller) Handle(c *http1.Conn) {
	body, err := io.ReadAll(c.Body())
	if err != nil {
		c.Abort()
		return
	}
	text := fmt.Sprintf("%s to %s, TLS %v, %s", c.RemoteAddr(), c.LocalAddr(), c.TLS(), body)
	_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), int64(len(text)))
	_, _ = io.WriteString(writer{c}, text)
	_ = c.Finish(nil)
}

type writer struct{ c *http1.Conn }

func (w writer) Write(p []byte) (int, error) { return w.c.Write(p) }

type front struct {
	t      *testing.T
	accept *Acceptor
	server *http1.Server
	addr   net.Addr
	log    lockedBuffer
	kinds  chan string // of the connections that open gave, by type
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves connections that the Acceptor and then next make ready.
func start(t *testing.T, network string, from []netip.Prefix, timeout time.Duration, next http1.Opener) *front {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, addr: l.Addr(), kinds: make(chan string, 100)}
	f.accept = &Acceptor{Log: slog.New(slog.NewTextHandler(&f.log, nil))}
	f.accept.Configure(from, timeout)
	open := f.accept.Opener(next)
	f.server = &http1.Server{Handler: &teller{}, HeaderTimeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = f.server.Serve(http1.NamedListener{Listener: l, Name: "front", Open: func(nc net.Conn, o *http1.Origin) (net.Conn, error) {
			opened, err := open(nc, o)
			f.kinds <- fmt.Sprintf("%T", opened)
			return opened, err
		}})
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_ = f.server.Shutdown(ctx)
		<-served
	})
	return f
}

func (f *front) dial() net.Conn {
	f.t.Helper()
	nc, err := net.Dial(f.addr.Network(), f.addr.String())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	return nc
}

// ask sends text and reads one answer; "" when the connection was closed without.
func ask(t *testing.T, nc net.Conn, text string) (status int, body string) {
	t.Helper()
	if _, err := io.WriteString(nc, text); err != nil {
		return 0, ""
	}
	return answer(t, bufio.NewReader(nc))
}

func answer(t *testing.T, r *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		if strings.Contains(err.Error(), "timeout") {
			t.Error(err)
		}
		return 0, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestListedPeerTellsItsClient(t *testing.T) {
	f := start(t, "tcp", loopback, time.Second, nil)
	for name, c := range good {
		want := fmt.Sprintf("%s to %s, TLS false, ", c.want.Source, c.want.Destination)
		nc := f.dial()
		if c.want.Local {
			want = fmt.Sprintf("%s to %s, TLS false, ", nc.LocalAddr(), nc.RemoteAddr())
		}
		status, body := ask(t, nc, c.text+get)
		if status != 200 || body != want {
			t.Errorf("%s: %d %q, not %q", name, status, body, want)
		}
		// It holds for the connection, and there is no second header.
		if status, again := ask(t, nc, get); status != 200 || again != want {
			t.Errorf("%s, again: %d %q", name, status, again)
		}
		if kind := <-f.kinds; kind != "*net.TCPConn" {
			t.Errorf("served from %s", kind)
		}
	}
	if f.log.String() != "" {
		t.Errorf("logged: %s", &f.log)
	}
}

func TestListedPeerWithoutHeaderIsClosed(t *testing.T) {
	f := start(t, "tcp", loopback, time.Second, nil)
	for name, c := range bad {
		if status, body := ask(t, f.dial(), c.text); status != 0 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if n := strings.Count(f.log.String(), "\n"); n != 1 || !strings.Contains(f.log.String(), "proxy_protocol") {
		t.Errorf("logged once, within ten seconds: %s", &f.log)
	}
}

// Who only looks whether the port is open makes no noise.
func TestConnectAndCloseIsSilent(t *testing.T) {
	f := start(t, "tcp", loopback, time.Second, nil)
	for _, text := range []string{"", "PROX"} {
		nc := f.dial()
		_, _ = io.WriteString(nc, text)
		_ = nc.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		<-f.kinds
	}
	if f.log.String() != "" {
		t.Errorf("logged: %s", &f.log)
	}
}

func TestForgedHeaderIsABadRequest(t *testing.T) {
	f := start(t, "tcp", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), {}}, time.Second, nil)
	for _, header := range []string{"PROXY TCP4 10.1.2.3 10.0.0.1 1 2\r\n", string(Append(nil, 2, told("10.1.2.3:1", "10.0.0.1:2")))} {
		if status, body := ask(t, f.dial(), header+get); status != 400 {
			t.Errorf("%q: %d %s", header, status, body)
		}
	}
	if status, body := ask(t, f.dial(), get); status != 200 || !strings.HasPrefix(body, "127.0.0.1:") {
		t.Errorf("without: %d %s", status, body)
	}
}

// A header that comes byte by byte, and a body behind it in the same bytes: none is lost.
func TestHeaderInPieces(t *testing.T) {
	f := start(t, "tcp", loopback, 5*time.Second, nil)
	body := strings.Repeat("0123456789", 20_000)
	for _, version := range []int{1, 2} {
		header := string(Append(nil, version, told("192.0.2.7:7", "192.0.2.1:80")))
		request := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		want := "192.0.2.7:7 to 192.0.2.1:80, TLS false, " + body
		nc := f.dial()
		for i := range len(header) {
			_, _ = io.WriteString(nc, header[i:i+1])
			time.Sleep(time.Millisecond)
		}
		if status, got := ask(t, nc, request); status != 200 || got != want {
			t.Errorf("version %d, byte by byte: %d, %d bytes", version, status, len(got))
		}
		if status, got := ask(t, f.dial(), header+request); status != 200 || got != want {
			t.Errorf("version %d, at once: %d, %d bytes", version, status, len(got))
		}
	}
}

// One that is slow holds nobody up, and is cut at the deadline.
func TestSlowHeader(t *testing.T) {
	const timeout = 300 * time.Millisecond
	f := start(t, "tcp", loopback, timeout, nil)
	began := time.Now()
	slow := make([]net.Conn, 20)
	for i := range slow {
		slow[i] = f.dial()
		_, _ = io.WriteString(slow[i], "PROXY TCP4 192.0."[:i%17])
	}
	if status, _ := ask(t, f.dial(), "PROXY UNKNOWN\r\n"+get); status != 200 || time.Since(began) > timeout {
		t.Errorf("held up: %d after %s", status, time.Since(began))
	}
	for _, nc := range slow {
		if b, err := io.ReadAll(nc); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q, %v", b, err)
		}
	}
	if d := time.Since(began); d < timeout || d > 20*timeout {
		t.Errorf("cut after %s", d)
	}
}

func TestUnixPeers(t *testing.T) {
	f := start(t, "unix", []netip.Prefix{{}}, time.Second, nil)
	if status, body := ask(t, f.dial(), "PROXY TCP4 192.0.2.7 192.0.2.1 7 80\r\n"+get); status != 200 || body != "192.0.2.7:7 to 192.0.2.1:80, TLS false, " {
		t.Errorf("%d %s", status, body)
	}
	if kind := <-f.kinds; kind != "*net.UnixConn" {
		t.Errorf("served from %s", kind)
	}
	if status, _ := ask(t, f.dial(), get); status != 0 {
		t.Errorf("without: %d", status)
	}
	f.accept.Configure(loopback, 0)
	if status, body := ask(t, f.dial(), get); status != 200 || !strings.HasPrefix(body, "invalid") {
		t.Errorf("not listed any more: %d %s", status, body)
	}
}

// The header comes before the handshake, and not a byte of that is lost either.
func TestBeforeTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
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
	f := start(t, "tcp", loopback, time.Second, func(nc net.Conn, o *http1.Origin) (net.Conn, error) {
		conn := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
		if err := conn.Handshake(); err != nil {
			return nil, err
		}
		state := conn.ConnectionState()
		o.TLS = &state
		return conn, nil
	})
	for _, version := range []int{1, 2} {
		nc := f.dial()
		_, _ = nc.Write(Append(nil, version, told("192.0.2.7:7", "192.0.2.1:443")))
		status, body := ask(t, tls.Client(nc, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}), get)
		if status != 200 || body != "192.0.2.7:7 to 192.0.2.1:443, TLS true, " {
			t.Errorf("version %d: %d %s", version, status, body)
		}
	}
}

// The zone of an address says on which link a peer is, not who it is.
func TestListedPeerWithZone(t *testing.T) {
	var a Acceptor
	a.Configure([]netip.Prefix{netip.MustParsePrefix("fe80::/10")}, time.Second)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = theirs.Write(Append(nil, 1, told("192.0.2.7:7", "192.0.2.1:80"))) }()
	o := http1.Origin{Remote: netip.MustParseAddrPort("[fe80::1%eth0]:1")}
	nc, err := a.Opener(nil)(ours, &o)
	if err != nil || nc != ours || o.Remote != netip.MustParseAddrPort("192.0.2.7:7") || o.Local != netip.MustParseAddrPort("192.0.2.1:80") {
		t.Errorf("%+v, %v", o, err)
	}
}
