package http2

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tool finds a program that a test needs; the test is skipped where there is none, and fails where SLUICE_TEST_REQUIRE names it.
// An environment variable of its own may say where it is: H2SPEC for h2spec.
func tool(t testing.TB, name string) string {
	t.Helper()
	path := os.Getenv(strings.ToUpper(name))
	if path == "" {
		path = name
	}
	path, err := exec.LookPath(path)
	if err != nil {
		if slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), name) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// startTLSServer is startServer for connections on which TLS agrees on h2.
func startTLSServer(t testing.TB, handle func(*Stream)) (addr string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	server := &Server{Log: slog.New(slog.DiscardHandler)}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { server.Serve(nc, nil, handle) })
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return ln.Addr().String()
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var passed = regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`)

func TestH2Spec(t *testing.T) {
	h2spec := tool(t, "h2spec")
	body := bytes.Repeat([]byte("x"), 4096)
	handle := answering(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(body)
	})
	for name, args := range map[string][]string{
		"cleartext": {startServer(t, Settings{}, nil, handle)},
		"TLS":       {startTLSServer(t, handle), "-t", "-k"},
	} {
		t.Run(name, func(t *testing.T) { conforms(t, h2spec, "146", args[0], args[1:]...) })
	}
}

// conforms fails the test unless so many of the 146 things that h2spec tries at addr are as RFC 9113 has them, and returns what
// h2spec says.
func conforms(t *testing.T, h2spec, want, addr string, args ...string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command(h2spec, append([]string{"-h", host, "-p", port, "-o", "5", "-S"}, args...)...).CombinedOutput()
	m := passed.FindSubmatch(out)
	if m == nil || string(m[1]) != "146" || string(m[2]) != want {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}
