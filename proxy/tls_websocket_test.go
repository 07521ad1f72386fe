package proxy

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"sluice/balancer"
)

// A WebSocket passes to a server over TLS, both ways at once, and its end too.
func TestWebSocketToAServerOverTLS(t *testing.T) {
	upgrader := websocket.Upgrader{}
	closed := make(chan int, 1)
	s := startTLS(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			kind, message, err := c.ReadMessage()
			if err != nil {
				closed <- closeCode(err)
				return
			}
			_ = c.WriteMessage(kind, message)
		}
	}, false, nil)
	g := newGateway(t, balancer.DefaultConfig(), overTLS(t, s), one(RouteConfig{}), s.Listener.Addr().String())
	c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const messages = 200
	sent := bytes.Repeat([]byte("x"), 10_000)
	go func() {
		for range messages {
			_ = c.WriteMessage(websocket.BinaryMessage, sent)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for i := range messages {
		if _, got, err := c.ReadMessage(); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4002, ""), time.Now().Add(5*time.Second))
	if code := <-closed; code != 4002 {
		t.Errorf("the server saw %d", code)
	}
	_ = c.Close()
	g.eventually("nothing in flight", func() bool { return g.ups["a"].InFlight() == 0 })
}
