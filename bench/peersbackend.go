package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// answers are the lengths of the bodies that the servers behind the peers have in memory, by path.
var answers = map[string]int{"/healthz": 2, "/64": 64, "/1k": 1 << 10, "/64k": 64 << 10, "/1m": 1 << 20}

// eventInterval is the time between two events of /events, unless the query has every=MILLISECONDS.
const eventInterval = 20 * time.Millisecond

// backend is the servers behind the peers: two listeners, so that there is something to choose, and more that are only probed. It is
// fasthttp within the bench, which costs about half of what a proxy does, and is never what limits.
type backend struct {
	server fasthttp.Server
	addrs  []string
	others []string // the same on ten more, for upstreams that no request is for
	bodies map[string][]byte
	epoch  time.Time // what the times in events count from

	streams atomic.Int64 // of events, open
}

func startBackend() (*backend, error) {
	b := &backend{bodies: map[string][]byte{}, epoch: time.Now()}
	for path, n := range answers {
		b.bodies[path] = pattern(n)
	}
	b.server = fasthttp.Server{Handler: b.handle, Name: "backend", NoDefaultServerHeader: true, MaxRequestBodySize: 16 << 20, TCPKeepalive: false, CloseOnShutdown: true}
	for i := range 12 {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			b.stop()
			return nil, err
		}
		if addr := ln.Addr().String(); i < 2 {
			b.addrs = append(b.addrs, addr)
		} else {
			b.others = append(b.others, addr)
		}
		go func() { _ = b.server.Serve(ln) }() // ends with stop
	}
	return b, nil
}

// pattern is n bytes of letters.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + i%26)
	}
	return b
}

func (b *backend) handle(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain")
	if body, ok := b.bodies[string(ctx.Path())]; ok && ctx.IsGet() {
		ctx.Response.SetBodyRaw(body)
		return
	}
	switch string(ctx.Path()) {
	case "/upload":
		if n, err := strconv.Atoi(string(ctx.QueryArgs().Peek("n"))); err != nil || n != len(ctx.PostBody()) {
			ctx.SetStatusCode(400)
			return
		}
		ctx.Response.SetBodyString("received")
	case "/events":
		n, err := strconv.Atoi(string(ctx.QueryArgs().Peek("n")))
		if err != nil || n < 1 || n > 100_000 {
			ctx.SetStatusCode(400)
			return
		}
		// With every the first event comes at once: a stream that is open can be told from one that is not.
		every, first := eventInterval, false
		if ms, err := strconv.Atoi(string(ctx.QueryArgs().Peek("every"))); err == nil && ms > 0 {
			every, first = time.Duration(ms)*time.Millisecond, true
		}
		ctx.SetContentType("text/event-stream")
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) { b.events(w, n, every, first) })
	default:
		ctx.SetStatusCode(404)
	}
}

// events writes n events, each with its number and the time at which it was written. The first is written at once or after
// every, as the others after the one before.
func (b *backend) events(w *bufio.Writer, n int, every time.Duration, first bool) {
	b.streams.Add(1)
	defer b.streams.Add(-1)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range n {
		if i > 0 || !first {
			<-tick.C
		}
		fmt.Fprintf(w, "data: %d %d\n\n", i, time.Since(b.epoch).Nanoseconds())
		if w.Flush() != nil {
			return // the peer has gone
		}
	}
}

// waitSilent waits until nobody reads events any more, for d at most.
func (b *backend) waitSilent(d time.Duration) {
	for end := time.Now().Add(d); b.streams.Load() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *backend) stop() { _ = b.server.Shutdown() }
