package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// requireInterop gives the client and the server that gRPC's implementations are tested against each other with. Without them
// the test is skipped, or fails where SLUICE_TEST_REQUIRE names grpc.
func requireInterop(t *testing.T) (client, server string) {
	t.Helper()
	var paths [2]string
	for i, name := range []string{"grpc_interop_client", "grpc_interop_server"} {
		path, err := exec.LookPath(name)
		if err != nil {
			if slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "grpc") {
				t.Fatal(err)
			}
			t.Skipf("%v: go install google.golang.org/grpc/interop/{client,server}", err)
		}
		paths[i] = path
	}
	return paths[0], paths[1]
}

// interopCases are those that need no credentials of a cloud.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
}

// Every kind of call passes as if the client spoke to the server itself.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	client, server := requireInterop(t)
	cert, key := selfSigned(t)
	overTLS := fmt.Sprintf("protocol = \"h2\"\ntls = { ca = %q, server_name = \"grpc.test\" }", cert)
	serverTLS := []string{"--use_tls", "--tls_cert_file", cert, "--tls_key_file", key}
	for _, c := range []struct {
		name, upstream string
		server, client []string
	}{
		{"h2c", `protocol = "h2c"`, nil, nil},
		{"tls", overTLS, serverTLS, []string{"--use_tls", "--use_test_ca", "--ca_file", cert, "--server_host_override", "grpc.test"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addrs := freeAddrs(t, 2)
			addr, secure := addrs[0], addrs[1]
			_, port, _ := net.SplitHostPort(addr)
			runServer(t, server, append([]string{"--port", port}, c.server...)...)
			s := start(t, fmt.Sprintf("tls = { listen = [%q], certificates = [{ cert = %q, key = %q }] }\n[[route]]\nupstream = \"grpc\"\n"+
				"[upstream.grpc]\nservers = [%q]\n%s\n", secure, cert, key, addr, c.upstream))
			s.waitReplicas("grpc", 1, 10*time.Second)
			_, front, _ := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
			if c.client != nil {
				_, front, _ = net.SplitHostPort(secure)
			}
			for _, name := range interopCases {
				t.Run(name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					out, err := exec.CommandContext(ctx, client,
						append([]string{"--server_host", "127.0.0.1", "--server_port", front, "--test_case", name}, c.client...)...).CombinedOutput()
					if err != nil {
						t.Errorf("%v\n%s", err, out)
					}
				})
			}
			within(t, 5*time.Second, "nothing is in flight", func() bool { return s.upstream("grpc").InFlight == 0 })
		})
	}
}

// runServer runs a program until the test ends.
func runServer(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, out)
		}
	})
}

// selfSigned makes the files of a certificate for grpc.test, which is its own authority, and of its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "grpc.test"}, DNSNames: []string{"grpc.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}
