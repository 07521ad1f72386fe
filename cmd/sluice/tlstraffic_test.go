package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

func TestTLSBodies(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if n, err := io.Copy(sum, r.Body); err != nil || r.ContentLength >= 0 && n != r.ContentLength {
			t.Errorf("%d bytes came, %v", n, err)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
		random := rand.New(rand.NewSource(7))
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", fmt.Sprint(30<<20))
		}
		_, _ = io.CopyN(w, random, 30<<20)
	})))
	up := make([]byte, 20<<20)
	_, _ = rand.New(rand.NewSource(3)).Read(up)
	sum := sha256.New()
	_, _ = io.CopyN(sum, rand.New(rand.NewSource(7)), 30<<20)
	client := s.client(&tls.Config{}, false)
	for _, path := range []string{"/sized", "/chunked", "/sized"} {
		var body io.Reader = bytes.NewReader(up)
		if path == "/chunked" {
			body = io.MultiReader(body) // of no known length
		}
		resp, err := client.Post("https://a.example"+path, "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, resp.Body)
		resp.Body.Close()
		if err != nil || n != 30<<20 || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) || resp.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(up)) {
			t.Errorf("%s: %d bytes, %v, %v", path, n, err, resp.Header)
		}
	}
}

func TestTLSWebSocket(t *testing.T) {
	t.Parallel()
	up := websocket.Upgrader{}
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, p) != nil {
				return
			}
		}
	})))
	dialer := websocket.Dialer{
		TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool},
		NetDial:         func(network, _ string) (net.Conn, error) { return net.Dial(network, s.tls) },
	}
	c, _, err := dialer.Dial("wss://a.example/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for _, size := range []int{0, 1, 100, 100 << 10, 1 << 20} {
		sent := bytes.Repeat([]byte("x"), size)
		if err := c.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.ReadMessage(); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d, %v", len(got), size, err)
		}
	}
	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 4321) {
		t.Errorf("%v", err)
	}
}

// A client that leaves over TLS, in order or not, frees its slot at once.
func TestTLSClientThatLeaves(t *testing.T) {
	t.Parallel()
	entered, left := make(chan bool), make(chan time.Time, 1)
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-r.Context().Done()
		left <- time.Now()
	})))
	for how, leave := range map[string]func(*tls.Conn){
		"close_notify and FIN": func(c *tls.Conn) { c.Close() },
		"FIN":                  func(c *tls.Conn) { c.NetConn().Close() },
		"reset": func(c *tls.Conn) {
			_ = c.NetConn().(*net.TCPConn).SetLinger(0)
			c.NetConn().Close()
		},
	} {
		c := s.dial()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-entered
		if n := s.upstream("u").InFlight; n != 1 {
			t.Errorf("%d in flight", n)
		}
		begun := time.Now()
		leave(c)
		select {
		case at := <-left:
			if took := at.Sub(begun); took > 250*time.Millisecond {
				t.Errorf("%s: the server was left after %s", how, took)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the server still works", how)
		}
		within(t, time.Second, "the slot free", func() bool { return s.upstream("u").InFlight == 0 })
	}
}

// A kept connection serves requests in a row, pipelined ones too, and says when it ends.
func TestTLSKeepAlive(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", "[[route]]\nrespond = \"all\"\n")
	c := s.dial()
	r := bufio.NewReader(c)
	const get = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
	for _, n := range []int{1, 3, 1} {
		if _, err := io.WriteString(c, strings.Repeat(get, n)); err != nil {
			t.Fatal(err)
		}
		for range n {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "all" {
				t.Fatalf("%q, %v", body, err)
			}
		}
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(rest), "all") { // an end without close_notify would be an error
		t.Errorf("%q, %v", rest, err)
	}
}
