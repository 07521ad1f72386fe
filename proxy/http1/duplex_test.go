package http1

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Each event reaches the client before the server makes the next.
func TestEventsPassOneByOne(t *testing.T) {
	next := make(chan struct{})
	for _, framing := range []string{"chunked", "close", "length"} {
		addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			switch framing {
			case "close":
				w.Header().Set("Connection", "close")
				w.Header().Set("Transfer-Encoding", "identity")
			case "length":
				w.Header().Set("Content-Length", strconv.Itoa(5*len("data: 0\n\n")))
			}
			for i := range 5 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
				<-next
			}
		}))
		f, _ := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			event := make([]byte, len("data: 0\n\n"))
			if _, err := io.ReadFull(resp.Body, event); err != nil || string(event) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("%s: %q, %v", framing, event, err)
			}
			next <- struct{}{}
		}
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("%s: %q, %v", framing, rest, err)
		}
	}
}

// The server answers and goes on reading: both directions stream at once.
func TestFullDuplex(t *testing.T) {
	addr := script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			size, err := nc.r.ReadString('\n')
			if err != nil {
				return
			}
			n, _ := strconv.ParseInt(strings.TrimSpace(size), 16, 32)
			data := make([]byte, n+2)
			_, _ = io.ReadFull(nc.r, data)
			nc.send(size + string(data))
			if n == 0 {
				return
			}
		}
	})
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		say := fmt.Sprintf("say %d", i)
		c.send(fmt.Sprintf("%x\r\n%s\r\n", len(say), say))
		echo := make([]byte, len(say))
		if _, err := io.ReadFull(resp.Body, echo); err != nil || string(echo) != say {
			t.Fatalf("%q, %v", echo, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	c.send(getRoot) // the client's connection lives on
	_, _ = http.ReadResponse(c.r, nil)
	_ = h
}

// A server that answers without taking the body: its answer reaches the client, which is still sending.
func TestEarlyResponse(t *testing.T) {
	for _, closes := range []bool{false, true} {
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err != nil {
				return
			}
			nc.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
			if closes {
				_ = nc.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, nc.r)
		})
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
		c.send(strings.Repeat("x", 100<<10))
		if resp, body := c.response("POST"); resp.StatusCode != 413 || body != "big" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
		eventually(t, "server connection closed", func() bool { return h.t.Live() == 0 })
	}
}

func TestExpectThroughRelay(t *testing.T) {
	addr := script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		if strings.Contains(head, "Expect") {
			t.Error("Expect was forwarded")
		}
		body := make([]byte, 5)
		_, _ = io.ReadFull(nc.r, body)
		nc.send(okBody(string(body)))
	})
	f, _ := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q", line)
	}
	_, _ = c.r.ReadString('\n')
	c.send("hello")
	if _, body := c.response("POST"); body != "hello" {
		t.Errorf("%q", body)
	}
}
