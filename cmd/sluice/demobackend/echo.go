package demobackend

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"
)

// hashedEcho is the largest body of known length that /echo reads whole, so that its hash can stand in the head.
const hashedEcho = 64 << 10

// requestBody is the body as a stream; empty when there is none.
func requestBody(ctx *fasthttp.RequestCtx) io.Reader {
	if r := ctx.RequestBodyStream(); r != nil {
		return r
	}
	return bytes.NewReader(ctx.Request.Body())
}

// echo gives the body back. A large or chunked one is sent on as it comes, in constant memory: the client must
// read while it writes.
func (s *server) echo(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Response.Header
	h.SetBytesV("X-Echo-Method", ctx.Method())
	h.SetBytesV("X-Echo-Target", ctx.RequestURI())
	if ct := ctx.Request.Header.ContentType(); len(ct) > 0 {
		h.SetContentTypeBytes(ct)
	} else {
		h.SetContentType("application/octet-stream")
	}
	n := ctx.Request.Header.ContentLength()
	if n > hashedEcho || n == -1 {
		ctx.Response.ImmediateHeaderFlush = true
		ctx.SetBodyStream(&heldBody{requestBody(ctx), s}, n)
		return true
	}
	body, err := io.ReadAll(requestBody(ctx))
	if err != nil {
		hangUp(ctx)
		return false
	}
	sum := sha256.Sum256(body)
	h.Set("X-Body-Sha256", hex.EncodeToString(sum[:]))
	ctx.SetBody(body)
	return false
}

// heldBody is a response body that holds a slot until it is closed, which fasthttp does once.
type heldBody struct {
	io.Reader
	s *server
}

func (b *heldBody) Close() error {
	b.s.release(true)
	return nil
}

// headers describes the request as it was received, with the names of its fields as they were written.
func (s *server) headers(ctx *fasthttp.RequestCtx) bool {
	sum := sha256.New()
	n, err := io.Copy(sum, requestBody(ctx))
	if err != nil {
		hangUp(ctx)
		return false
	}
	fields := [][2]string{}
	for line := range strings.SplitSeq(string(ctx.Request.Header.RawHeaders()), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields = append(fields, [2]string{name, strings.Trim(value, " \t")})
		}
	}
	answerJSON(ctx, struct {
		Method  string      `json:"method"`
		Target  string      `json:"target"`
		Headers [][2]string `json:"headers"`
		Bytes   int64       `json:"body_bytes"`
		SHA256  string      `json:"body_sha256"`
		Backend string      `json:"backend"`
	}{string(ctx.Method()), string(ctx.RequestURI()), fields, n, hex.EncodeToString(sum.Sum(nil)), s.opts.id})
	return false
}

var upgrader = websocket.FastHTTPUpgrader{CheckOrigin: func(*fasthttp.RequestCtx) bool { return true }}

// sockets are the open WebSockets.
type sockets struct {
	mu    sync.Mutex
	conns map[*websocket.Conn]struct{} // guarded by mu
	over  bool                         // guarded by mu: draining, new ones are told to go away at once
}

// webSocket echoes messages. It takes no slot: an open socket is not work.
func (s *server) webSocket(ctx *fasthttp.RequestCtx) {
	// On error the upgrader has written the answer.
	_ = upgrader.Upgrade(ctx, func(c *websocket.Conn) {
		s.sockets.add(c)
		defer s.sockets.remove(c)
		for {
			kind, msg, err := c.ReadMessage()
			if err != nil {
				break
			}
			if c.WriteMessage(kind, msg) != nil {
				break
			}
		}
		c.Close()
	})
}

func (s *sockets) add(c *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = map[*websocket.Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	if s.over {
		sayGoodbye(c)
	}
}

func (s *sockets) remove(c *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// goAway closes every socket with 1001 and gives its client a second to answer.
func (s *sockets) goAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for c := range s.conns {
		sayGoodbye(c)
	}
}

func sayGoodbye(c *websocket.Conn) {
	deadline := time.Now().Add(time.Second)
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), deadline)
	_ = c.SetReadDeadline(deadline)
}
