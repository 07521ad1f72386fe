package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refusedBy is what an address says to somebody who is not the API server.
func refusedBy(addr string) string { return askedOf(addr, "/apis") }

// askedOf is what an address says to a user of whoever has the certificates.
func askedOf(addr, path string, certs ...tls.Certificate) string {
	config := &tls.Config{InsecureSkipVerify: true, Certificates: certs} //nolint:gosec // it shows one of its own making
	cli := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequest(http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("X-Remote-User", "ann")
	resp, err := cli.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body), err)
}

// clusterOf answers what sluice asks an API server for, and sets $KUBECONFIG to it: everybody may everything, and the
// front proxy is whoever has the certificate that it returns.
func clusterOf(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "front"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]any{
		"/version": map[string]string{"gitVersion": "v1.37.2"},
		"/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication": map[string]any{"kind": "ConfigMap", "apiVersion": "v1", "data": map[string]string{
			"requestheader-client-ca-file": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "requestheader-username-headers": `["X-Remote-User"]`,
		}},
		"/apis/authorization.k8s.io/v1/subjectaccessreviews": map[string]any{"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": map[string]bool{"allowed": true}},
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(api.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + api.URL + "'}}]\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n"
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestMetricsAPIOutlivesReloadAndUpgrade: it moves with a reload, and its socket is handed to a successor.
func TestMetricsAPIOutlivesReloadAndUpgrade(t *testing.T) {
	clusterOf(t)
	addrs := freeAddrs(t, 2)
	s := start(t, fmt.Sprintf("engine.kind = \"kubernetes\"\n[metrics_api]\nlisten = %q\n[[route]]\nupstream = \"127.0.0.1:1\"\n", addrs[0]))
	const refusal = `401 {"kind":"Status","apiVersion":"v1"`
	if got := refusedBy(addrs[0]); !strings.HasPrefix(got, refusal) {
		t.Fatal(got)
	}
	s.edit(addrs[0], addrs[1])
	s.signal(syscall.SIGHUP)
	within(t, 20*time.Second, "it listens on the other address", func() bool { return strings.HasPrefix(refusedBy(addrs[1]), refusal) })
	within(t, 20*time.Second, "it no longer listens on the old one", func() bool { return strings.Contains(refusedBy(addrs[0]), "refused") })

	s.upgrade()
	if got := refusedBy(addrs[1]); !strings.HasPrefix(got, refusal) {
		t.Errorf("after the upgrade: %s", got)
	}
}

// TestMetricsAPIElsewhere: one file serves on several engines, and where the engine is another one nothing listens.
func TestMetricsAPIElsewhere(t *testing.T) {
	addr := freeAddrs(t, 1)[0]
	s := start(t, fmt.Sprintf("engine = { kind = \"auto\", socket = \"unix:///nowhere\" }\n[metrics_api]\nlisten = %q\n[[route]]\nupstream = \"127.0.0.1:1\"\n", addr))
	if got := refusedBy(addr); !strings.Contains(got, "refused") || strings.Contains(got, "401") {
		t.Error(got)
	}
	if !strings.Contains(s.log.String(), "the metrics API is off") {
		t.Errorf("the log does not say so:\n%s", s.log)
	}
}

// TestMetricsAPITellsTheSum: of two gateways that are peers each tells what both have.
func TestMetricsAPITellsTheSum(t *testing.T) {
	front := clusterOf(t)
	release := make(chan struct{})
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer backend.Close()
	defer close(release)
	addrs := freeAddrs(t, 2)
	dir := peersFolder(t)
	gateway := func(addr string) *running {
		return start(t, fmt.Sprintf("engine.kind = \"kubernetes\"\npeers = { dir = %q }\n[metrics_api]\nlisten = %q\nwindow = \"1s\"\n[[route]]\nupstream = \"slow\"\n[upstream.slow]\nservers = [%q]\nmax_conns = 4\n",
			dir, addr, strings.TrimPrefix(backend.URL, "http://")))
	}
	one, other := gateway(addrs[0]), gateway(addrs[1])
	for range 6 {
		go func() { _, _, _ = fetch(one.url) }()
	}
	for range 5 {
		go func() { _, _, _ = fetch(other.url) }()
	}
	for _, addr := range addrs {
		for metric, want := range map[string]string{"sluice_upstream_concurrency": "11", "sluice_upstream_in_flight": "4", "ai_agent_queue_depth": "7"} {
			within(t, 30*time.Second, metric+" of both is "+want, func() bool {
				got := askedOf(addr, "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/"+metric+"?labelSelector=upstream%3Dslow", front)
				return strings.Contains(got, `"value":"`+want+`"`)
			})
		}
	}
}
