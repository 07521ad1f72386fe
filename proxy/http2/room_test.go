package http2_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"sluice/proxy/http1"
)

// A connection that waits for its next request makes room for a new client, one that has a request does not.
func TestIdleConnectionMakesRoom(t *testing.T) {
	entered, release := make(chan bool, 1), make(chan bool)
	front, addr, _ := startFront(t, func(c *http1.Conn) {
		if string(c.Head().Target()) == "/work" {
			entered <- true
			<-release
		}
		respond(c, 200, "ok")
	})
	front.Configure(http1.Settings{MaxConns: 2, HeaderTimeout: time.Minute, BodyTimeout: time.Minute, KeepAlive: time.Minute})
	// get asks until it is answered: a client knows the end of its response a moment before the server counts it as idle.
	get := func(client *http.Client, path string) int {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			resp, err := client.Get("http://" + addr + path)
			if err != nil {
				if time.Now().After(end) {
					t.Error(path, err)
					return 0
				}
				continue
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
	}
	works := make(chan int)
	go func() { works <- get(newClient(t), "/work") }()
	<-entered
	idle := newClient(t)
	get(idle, "/")
	for range 3 { // each displaces the one before
		client := newClient(t)
		if status := get(client, "/"); status != 200 {
			t.Errorf("a new client gets %d", status)
		}
	}
	if status := get(idle, "/"); status != 200 {
		t.Errorf("the one that has made room gets %d", status)
	}
	close(release)
	if status := <-works; status != 200 {
		t.Errorf("the one that had a request gets %d", status)
	}
}
