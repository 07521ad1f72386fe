package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

// Certificates change, and so does the configuration, while clients come: nothing is lost.
func TestTLSReloadUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})))
	var sent, failed atomic.Int64
	var mu sync.Mutex
	var first error
	stop := make(chan bool)
	var clients sync.WaitGroup
	for i := range 6 {
		client := s.client(&tls.Config{}, i%2 == 0)
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := fmt.Sprintf("%d of %d", n, i)
				sent.Add(1)
				resp, err := client.Post("https://a.example/", "text/plain", strings.NewReader(body))
				if err == nil {
					var got []byte
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if err == nil && (resp.StatusCode != 200 || string(got) != body) {
						err = fmt.Errorf("%d %q", resp.StatusCode, got)
					}
				}
				if err != nil {
					failed.Add(1)
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for i := range 10 {
		s.ca.Write(s.folder, "a", certstest.Want{Hosts: []string{"a.example", fmt.Sprintf("n%d.example", i)}})
		s.signal(syscall.SIGHUP)
		within(t, 10*time.Second, "the certificate in force", func() bool {
			resp, _, err := s.get(&tls.Config{}, fmt.Sprintf("https://n%d.example/", i))
			return err == nil && resp.StatusCode == 200
		})
	}
	within(t, 30*time.Second, "300 requests", func() bool { return sent.Load() >= 300 })
	close(stop)
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed: %v", failed.Load(), sent.Load(), first)
	}
	if n := s.status().Config.Generation; n < 11 {
		t.Errorf("generation %d", n)
	}
}

// Without a reload: a new file is in force within a few seconds, a broken one leaves the old, and a reload with it is refused.
func TestTLSFilesAreFollowed(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(http.ResponseWriter, *http.Request) {})))
	s.ca.Write(s.folder, "a", certstest.Want{Hosts: []string{"new.example"}})
	shows := func(host string) func() bool {
		return func() bool {
			_, _, err := s.get(&tls.Config{}, "https://"+host+"/")
			return err == nil
		}
	}
	within(t, 15*time.Second, "the new certificate", shows("new.example"))
	cert, _ := s.ca.Make(certstest.Want{Hosts: []string{"broken.example"}})
	if err := os.WriteFile(filepath.Join(s.folder, "a.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, 15*time.Second, "told in the metrics", func() bool { return strings.Contains(s.metrics(), "sluice_certificate_files_broken 1") })
	if !strings.Contains(s.log.String(), "a certificate that has changed cannot be used, the old one stays") {
		t.Error("it is not in the log")
	}
	if code, _, errs := commandOutput(t, "reload", "-c", s.file); code != exitConfig || !strings.Contains(errs, "a.key: the key does not belong to the certificate") || !strings.Contains(errs, "config.toml:") {
		t.Errorf("reload: %d %s", code, errs)
	}
	if !strings.Contains(s.metrics(), "sluice_config_reload_success 0") || !shows("new.example")() {
		t.Error("the old certificate does not serve on")
	}
}

// An address changes from cleartext to TLS and back by a reload, and the TLS listener goes away.
func TestListenerBeginsToSpeakTLS(t *testing.T) {
	t.Parallel()
	extra := freeAddrs(t, 1)[0]
	s := startTLS(t, "redirect = false", "[[route]]\nrespond = \"all\"\n[[route]]\nlisten = \""+extra+"\"\nrespond = \"extra\"\n")
	secure := *s
	secure.tls = extra
	over := func(want string) func() bool {
		return func() bool {
			_, body, err := secure.get(&tls.Config{}, "https://a.example/")
			return err == nil && body == want
		}
	}
	clear := func() bool {
		_, body, err := fetch("http://" + extra + "/")
		return err == nil && body == "extra"
	}
	reload := func() {
		t.Helper()
		if code, _, errs := commandOutput(t, "reload", "-c", s.file); code != exitOK {
			t.Fatal(errs)
		}
	}
	if !clear() {
		t.Fatal("the address of a route is not served")
	}
	both, alone := fmt.Sprintf("listen = [%q, %q]\ncertificates", s.tls, extra), fmt.Sprintf("listen = [%q]\ncertificates", s.tls)
	s.edit(alone, both)
	reload()
	if !over("extra")() || clear() {
		t.Error("the address of a route does not speak TLS")
	}
	s.edit(both, alone)
	reload()
	if over("extra")() || !clear() {
		t.Error("it still speaks TLS")
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "[tls]")
	s.write(before + "[[route]]\nrespond = \"all\"\n")
	reload()
	if _, err := net.DialTimeout("tcp", s.tls, time.Second); err == nil {
		t.Error("the TLS listener is still open")
	}
}

func TestTLSUpgradeLosesNothing(t *testing.T) {
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })))
	stop := make(chan bool)
	var sent, failed atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		client := s.client(&tls.Config{}, i%2 == 0)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				resp, err := client.Post("https://a.example/", "text/plain", strings.NewReader("x"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	s.upgrade()
	after := sent.Load()
	within(t, 20*time.Second, "requests to the successor", func() bool { return sent.Load() > after+50 || failed.Load() > 0 })
	close(stop)
	clients.Wait()
	if failed.Load() > 0 || !strings.Contains(s.metrics(), `sluice_tls_handshakes_total{result="ok",version="1.3"}`) {
		t.Errorf("%d of %d failed", failed.Load(), sent.Load())
	}
}
