package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// control is a server that restarts the naive way: a new one listens on the same port, then fasthttp's own
// Shutdown ends the old one. It loses requests on kept connections, so a soak that passes against it sees nothing.
type control struct {
	addr    string
	book    *os.File
	handler fasthttp.RequestHandler

	mu   sync.Mutex
	http *fasthttp.Server // guarded by mu: the one that takes new connections
	wg   sync.WaitGroup   // servers that are shutting down
}

func startControl(dir string) (*target, error) {
	c := &control{addr: "127.0.0.1:0"}
	c.handler = c.handle
	return c.target(dir)
}

func (c *control) target(dir string) (*target, error) {
	var err error
	path := filepath.Join(dir, "delivered")
	if c.book, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	return &target{
		url: "http://" + c.addr + "/", book: path,
		faults: map[string]func(context.Context, *rand.Rand) error{"shutdown": c.restart},
		calm:   func(context.Context) error { return nil },
		stop:   c.stop,
	}, nil
}

// start lets a new server listen, next to one that already does.
func (c *control) start() error {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		cerr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	ln, err := lc.Listen(context.Background(), "tcp", c.addr)
	if err != nil {
		return err
	}
	c.addr = ln.Addr().String()
	c.http = &fasthttp.Server{Handler: c.handler, MaxRequestBodySize: 1 << 20}
	server := c.http
	go func() { _ = server.Serve(ln) }()
	return nil
}

func (c *control) restart(context.Context, *rand.Rand) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.http
	if err := c.start(); err != nil {
		return err
	}
	c.wg.Go(func() { shutdown(old) })
	return nil
}

func (c *control) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	shutdown(c.http)
	c.wg.Wait()
	return c.book.Close()
}

func shutdown(s *fasthttp.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.ShutdownWithContext(ctx) // what it leaves undone is what the soak counts
}

// handle answers as the demo backend does.
func (c *control) handle(ctx *fasthttp.RequestCtx) {
	id := ctx.Request.Header.Peek("X-Ledger-Id")
	fmt.Fprintf(c.book, "%s %s control\n", id, ctx.Method())
	ctx.Response.Header.SetBytesV("X-Ledger-Id", id)
	if string(ctx.Path()) == "/v1/chat/completions" {
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
			for range 5 {
				time.Sleep(5 * time.Millisecond)
				fmt.Fprint(w, "data: {}\n\n")
				w.Flush()
			}
			fmt.Fprint(w, "data: [DONE]\n\n")
		})
		return
	}
	time.Sleep(20 * time.Millisecond)
	ctx.SetBody(ctx.Request.Body())
}
