package discovery

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// Validate reports what is wrong with the check, in words. Zero durations and counts are the defaults.
func (c HealthConfig) Validate() error {
	switch {
	case c.Path != "" && !strings.HasPrefix(c.Path, "/"):
		return fmt.Errorf("path %q does not begin with /", c.Path)
	case strings.ContainsAny(c.Path, " \t\r\n"):
		return fmt.Errorf("path %q contains white space", c.Path)
	case strings.ContainsAny(c.Host, " \t\r\n/"):
		return fmt.Errorf("host %q is not a host", c.Host)
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("port %d is not a port", c.Port)
	case c.Interval < 0 || c.Timeout < 0:
		return errors.New("interval and timeout are not negative")
	case c.Rise < 0 || c.Fall < 0:
		return errors.New("rise and fall are not negative")
	}
	if c.Status == "" {
		return nil
	}
	_, err := ParseStatus(c.Status)
	return err
}

// Layer is what lies between TCP and HTTP/1.1 on the way to a server: TLS, a stream of HTTP/2, or both. Over makes of a TCP connection
// to the server at addr one that carries one request and its answer in the form of HTTP/1.1. ctx bounds the handshakes. It closes nc
// when it fails, or with what it returns.
type Layer interface {
	Over(ctx context.Context, nc net.Conn, addr string) (net.Conn, error)
}

// check is a HealthConfig made ready for use. Immutable.
type check struct {
	HealthConfig
	layer    Layer // nil: none
	status   StatusSet
	replaced chan struct{} // closed when another check takes its place
}

func newCheck(hc HealthConfig) (*check, error) {
	err := hc.Validate()
	def := DefaultConfig().HealthCheck
	if err != nil {
		hc = def
	}
	hc.Interval = cmp.Or(hc.Interval, def.Interval)
	hc.Timeout = cmp.Or(hc.Timeout, def.Timeout)
	hc.Rise = cmp.Or(hc.Rise, def.Rise)
	hc.Fall = cmp.Or(hc.Fall, def.Fall)
	hc.Status = cmp.Or(hc.Status, def.Status)
	status, _ := ParseStatus(hc.Status) // Validate has seen it
	return &check{HealthConfig: hc, status: status, replaced: make(chan struct{})}, err
}

// limits bound one probe.
type limits struct {
	gate    gate          // to connect within; waiting for it takes no part of the times below
	connect time.Duration // to be connected
	total   time.Duration // connect included, to the head of the response
}

// errSilent marks failures by time: the server may be alive, but it said nothing.
var errSilent = errors.New("no answer")

// run probes addr once, on a connection of its own. nil is good; else what was wrong, in words.
func (c *check) run(ctx context.Context, addr string, lim limits) error {
	if c.Port != 0 {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		addr = net.JoinHostPort(host, strconv.Itoa(c.Port))
	}
	conn, deadline, err := c.connect(ctx, addr, lim)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.Path == "" && c.GRPC == "" {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if c.GRPC != "" {
		return c.askGRPC(conn, addr, lim)
	}
	code, err := c.get(conn, addr)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fasthttp.ErrTimeout):
		return fmt.Errorf("GET %s: %w within %s", c.Path, errSilent, lim.total.Round(time.Millisecond))
	case errors.Is(err, io.EOF):
		return fmt.Errorf("GET %s: closed without an answer", c.Path)
	case err != nil:
		return fmt.Errorf("GET %s: %w", c.Path, err)
	case !c.status.Contains(code):
		return fmt.Errorf("GET %s: status %d, expected %s", c.Path, code, c.Status)
	}
	return nil
}

// connect passes the gate, which it holds until it returns, and makes a connection with all that comes before the request. deadline is
// the probe's.
func (c *check) connect(ctx context.Context, addr string, lim limits) (conn net.Conn, deadline time.Time, err error) {
	if err := lim.gate.enter(ctx); err != nil {
		return nil, deadline, err
	}
	defer lim.gate.leave()
	deadline = time.Now().Add(lim.total)
	dialer := net.Dialer{Timeout: min(lim.connect, lim.total), KeepAlive: -1}
	network, address := "tcp", addr
	if path, ok := socketPath(addr); ok {
		network, address = "unix", path
	}
	conn, err = dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, deadline, connectError(addr, err)
	}
	if c.Prologue != "" && c.Port == 0 { // a few bytes, and the first: the kernel takes them at once
		if _, err := io.WriteString(conn, c.Prologue); err != nil {
			conn.Close()
			return nil, deadline, connectError(addr, err)
		}
	}
	if c.layer != nil {
		within, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if conn, err = c.layer.Over(within, conn, addr); err != nil {
			return nil, deadline, connectError(addr, err)
		}
	}
	return conn, deadline, nil
}

// socketPath is the path of a Unix socket's address, unix:/path; false for all others.
func socketPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, "unix:") }

// connectError says what kept a connection from being made, without the noise of net.OpError. A Unix socket whose backlog is full
// (EAGAIN) is as silent as a TCP server whose backlog is.
func connectError(addr string, err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("connect %s: %w", addr, errSilent)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("connect %s: %w", addr, errno)
	}
	return fmt.Errorf("connect %s: %w", addr, err)
}

// exchange is what one HTTP probe needs, kept for the next.
type exchange struct {
	r    *bufio.Reader
	w    *bufio.Writer
	req  fasthttp.Request
	head fasthttp.ResponseHeader
}

var exchanges = sync.Pool{New: func() any {
	return &exchange{r: bufio.NewReaderSize(nil, 16<<10), w: bufio.NewWriterSize(nil, 1<<10)}
}}

// politeBody is how much of a body is read, for at most politeWait, so that the server sees an
// orderly end and logs no reset.
const (
	politeBody = 64 << 10
	politeWait = 100 * time.Millisecond
)

// get sends the request and returns the status of the final response.
func (c *check) get(conn net.Conn, addr string) (int, error) {
	x := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	x.r.Reset(conn)
	x.w.Reset(conn)
	x.req.Reset()
	x.req.Header.SetMethod(fasthttp.MethodGet)
	x.req.Header.SetRequestURI(c.Path)
	if _, ok := socketPath(addr); ok {
		addr = "localhost"
	}
	x.req.Header.SetHost(cmp.Or(c.Host, addr))
	x.req.Header.SetUserAgent("sluice-health-check")
	x.req.Header.SetConnectionClose()
	if err := x.req.Header.Write(x.w); err != nil {
		return 0, err
	}
	if err := x.w.Flush(); err != nil {
		return 0, err
	}
	for {
		if err := x.head.Read(x.r); err != nil {
			return 0, err
		}
		if x.head.StatusCode() >= 200 {
			break
		}
	}
	code := x.head.StatusCode()
	if x.head.ContentLength() <= politeBody {
		_ = conn.SetReadDeadline(time.Now().Add(politeWait))
		_, _ = io.CopyN(io.Discard, x.r, politeBody) // the status is known; the body says nothing
	}
	return code, nil
}
