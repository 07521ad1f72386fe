package docker

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/client"
)

// front is an engine's socket in front of the real one; what it does with calls can be changed.
type front struct {
	socket string
	deaf   atomic.Bool   // event streams are refused
	cut    chan struct{} // closed to end the event streams
	hung   atomic.Bool   // calls get no answer before resume is closed
	resume chan struct{}
	garble atomic.Bool // event streams are made of what came before: each event twice, and every two in the wrong order
}

func newFront(t *testing.T, cli *client.Client) *front {
	t.Helper()
	dir, err := os.MkdirTemp("", "front")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{socket: filepath.Join(dir, "engine.sock"), cut: make(chan struct{}), resume: make(chan struct{})}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return cli.Dialer()(ctx) }}
	proxy.FlushInterval = -1
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.hung.Load() {
			select {
			case <-f.resume:
			case <-r.Context().Done():
				return
			}
		}
		if !strings.HasSuffix(r.URL.Path, "/events") {
			proxy.ServeHTTP(w, r)
			return
		}
		if f.deaf.Load() {
			http.Error(w, `{"message": "no events here"}`, http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			select {
			case <-f.cut:
				cancel()
			case <-ctx.Done():
			}
		}()
		defer func() { recover() }() // the proxy panics to cut a response
		if f.garble.Load() {
			w = &garbler{ResponseWriter: w}
		}
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})}
	go srv.Serve(l)
	t.Cleanup(func() {
		srv.Close()
		os.RemoveAll(dir)
	})
	return f
}

// garbler writes an event stream, one JSON object a line, so that no reader can rely on its order.
type garbler struct {
	http.ResponseWriter
	part []byte
	held []byte // an event that waits for the next one
}

func (g *garbler) Write(p []byte) (int, error) {
	g.part = append(g.part, p...)
	for {
		i := bytes.IndexByte(g.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := bytes.Clone(g.part[:i+1])
		g.part = g.part[i+1:]
		if g.held == nil {
			g.held = line
			continue
		}
		for _, event := range [][]byte{line, g.held, line, g.held} {
			if _, err := g.ResponseWriter.Write(event); err != nil {
				return 0, err
			}
		}
		g.held = nil
	}
}

// Unwrap lets the proxy flush.
func (g *garbler) Unwrap() http.ResponseWriter { return g.ResponseWriter }
