package https

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/proxy/certs"
	"sluice/proxy/certs/certstest"
	"sluice/proxy/http1"
)

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a Front with a certificate for a.example, on a listener that answers with a byte after the handshake.
type world struct {
	t      *testing.T
	ca     *certstest.Authority
	folder string
	cfg    *Config
	front  *Front
	log    *logBuffer
	addr   string
	states chan *tls.ConnectionState // of those that were let in
}

func newWorld(t *testing.T, change func(w *world)) *world {
	t.Helper()
	w := &world{t: t, ca: certstest.New(t), folder: t.TempDir(), cfg: &Config{}, log: &logBuffer{}, states: make(chan *tls.ConnectionState, 100)}
	w.cfg.SetDefaults()
	cert, key := w.ca.Write(w.folder, "a", certstest.Want{Hosts: []string{"a.example"}})
	w.cfg.Certificates = []certs.Files{{Cert: cert, Key: key}}
	w.front = New(slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if change != nil {
		change(w)
	}
	w.apply()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				o := http1.Origin{Listener: w.addr, Remote: netip.MustParseAddrPort(nc.RemoteAddr().String())}
				c, err := w.front.Open(nc, &o)
				if err != nil {
					return
				}
				w.states <- o.TLS
				_, _ = c.Write([]byte("."))
				_ = c.Close()
			}()
		}
	}()
	return w
}

func (w *world) apply() {
	w.t.Helper()
	change, err := w.front.Prepare(w.cfg, true)
	if err != nil {
		w.t.Fatal(err)
	}
	change.Commit()
}

// dial shakes hands and reads the byte, which in TLS 1.3 is the first sign that the client was let in.
func (w *world) dial(cfg *tls.Config) (tls.ConnectionState, error) {
	w.t.Helper()
	if cfg.ServerName == "" {
		cfg.ServerName = "a.example"
	}
	cfg.RootCAs = w.ca.Pool
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(nc, cfg)
	n, err := c.Read(make([]byte, 1))
	if n == 1 { // the end may come with it
		err = nil
	}
	return c.ConnectionState(), err
}

// counted waits until a result was counted.
func (w *world) counted(version, result string) { w.countedTimes(version, result, 1) }

// countedTimes waits until a result was counted n times: a client may know of it before it is counted.
func (w *world) countedTimes(version, result string, n uint64) {
	w.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, h := range w.front.Stats().Handshakes {
			if h.Version == version && h.Result == result && h.Count >= n {
				return
			}
		}
	}
	w.t.Errorf("not %d handshakes with %q %s: %v", n, version, result, w.front.Stats().Handshakes)
}

func TestHandshake(t *testing.T) {
	w := newWorld(t, nil)
	st, err := w.dial(&tls.Config{NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || st.Version != tls.VersionTLS13 || st.NegotiatedProtocol != "h2" || st.CurveID != tls.X25519MLKEM768 {
		t.Errorf("%s, %q, %s, %v", tls.VersionName(st.Version), st.NegotiatedProtocol, st.CurveID, err)
	}
	if inside := <-w.states; inside == nil || inside.Version != tls.VersionTLS13 || inside.ServerName != "a.example" {
		t.Errorf("the origin has %v", inside)
	}
	w.counted("1.3", "ok")
	if st, err = w.dial(&tls.Config{MaxVersion: tls.VersionTLS12}); err != nil || st.Version != tls.VersionTLS12 || st.NegotiatedProtocol != "" {
		t.Errorf("%s, %q, %v", tls.VersionName(st.Version), st.NegotiatedProtocol, err)
	}
	w.counted("1.2", "ok")
	change, err := w.front.Prepare(w.cfg, false)
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	if st, err = w.dial(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || st.NegotiatedProtocol != "http/1.1" {
		t.Errorf("without HTTP/2: %q, %v", st.NegotiatedProtocol, err)
	}
}

// Only Mozilla's intermediate suites are there, unless the configuration says others.
func TestVersionsAndCiphers(t *testing.T) {
	w := newWorld(t, nil)
	if _, err := w.dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	w.counted("", "version")
	try := func(suite uint16) error {
		_, err := w.dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		return err
	}
	if err := try(tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA); err == nil {
		t.Error("CBC is spoken")
	}
	w.counted("", "cipher")
	if err := try(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256); err != nil {
		t.Error(err)
	}
	w.cfg.Ciphers = []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}
	w.apply()
	if err := try(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256); err == nil {
		t.Error("a suite that was left out is spoken")
	}
	if err := try(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384); err != nil {
		t.Error(err)
	}
	w.cfg.MinVersion = "1.3"
	w.apply()
	if err := try(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
}

// A handshake has 5 s as a whole, however its client spends them.
func TestHandshakeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(slog.New(slog.DiscardHandler))
		cfg := &Config{}
		cfg.SetDefaults()
		change, err := f.Prepare(cfg, false)
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
		server, client := net.Pipe()
		defer client.Close()
		begun := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := f.Open(server, &http1.Origin{})
			done <- err
		}()
		var slow sync.WaitGroup
		slow.Go(func() { // a client that sends a byte a second moves no deadline
			for _, b := range []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3} {
				if _, err := client.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != handshakeTimeout {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		if h := f.Stats().Handshakes; len(h) != 1 || h[0] != (Handshakes{"", "timeout", 1}) {
			t.Errorf("counted %v", h)
		}
		server.Close()
		slow.Wait()
	})
}

// TestComposes shakes hands over what another Opener has made.
func TestComposes(t *testing.T) {
	w := newWorld(t, nil)
	server, client := net.Pipe()
	defer client.Close()
	go func() {
		c := tls.Client(client, &tls.Config{RootCAs: w.ca.Pool, ServerName: "a.example"})
		_, _ = c.Write([]byte("hello"))
	}()
	o := http1.Origin{Remote: netip.MustParseAddrPort("192.0.2.1:7")}
	c, err := w.front.Open(server, &o)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" || o.TLS == nil || o.Remote.Port() != 7 {
		t.Errorf("%q, %v, %v", b, o, err)
	}
	server.Close()
}

func TestRunLooksAtFiles(t *testing.T) {
	w := newWorld(t, nil)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan bool)
		go func() {
			w.front.Run(ctx)
			close(done)
		}()
		w.ca.Write(w.folder, "a", certstest.Want{Hosts: []string{"b.example"}})
		time.Sleep(refreshEvery + time.Millisecond)
		synctest.Wait()
		if !w.front.Certs.Covers([]byte("b.example")) {
			t.Error("the new file was not read")
		}
		cancel()
		<-done
	})
}

func TestHSTSField(t *testing.T) {
	for want, h := range map[string]*HSTSConfig{
		"": nil, "max-age=0": {}, "max-age=60": {MaxAge: time.Minute},
		"max-age=31536000; includeSubDomains; preload": {MaxAge: 365 * 24 * time.Hour, IncludeSubdomains: true, Preload: true},
	} {
		if got := h.Field(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
