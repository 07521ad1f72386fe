package http1

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

type prologueKey struct{}

// WithPrologue makes Connect begin the connection with p; nil is nothing.
func WithPrologue(ctx context.Context, p []byte) context.Context {
	if len(p) == 0 {
		return ctx
	}
	return context.WithValue(ctx, prologueKey{}, p)
}

// Connect makes a connection to a server, "host:port" or "unix:/path", within timeout (0 = no bound), and writes what WithPrologue gave:
// it comes before all else, a handshake too.
func Connect(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
	network, address := Network(addr)
	d := net.Dialer{Timeout: timeout}
	nc, err := d.DialContext(ctx, network, address)
	if errors.Is(err, syscall.EAGAIN) && network == "unix" {
		nc, err = connectAgain(ctx, address, timeout)
	}
	if p, _ := ctx.Value(prologueKey{}).([]byte); err == nil && len(p) > 0 {
		if err = writePrologue(nc, p, timeout); err != nil {
			_ = nc.Close()
			return nil, err
		}
	}
	return nc, err
}

// tells that the connection began with a prologue, and serves nobody else.
func (u *UpConn) tells() bool { return len(u.prologue) > 0 }

// writePrologue is small and the first: the kernel takes it at once.
func writePrologue(nc net.Conn, p []byte, timeout time.Duration) error {
	if timeout > 0 {
		_ = nc.SetWriteDeadline(time.Now().Add(timeout))
		defer nc.SetWriteDeadline(time.Time{})
	}
	_, err := nc.Write(p)
	return err
}

// The pauses between two attempts.
const (
	firstAgainPause = time.Millisecond
	lastAgainPause  = 50 * time.Millisecond
)

// connectAgain goes on trying while the backlog of a Unix socket is full: where TCP would wait, connect(2) fails with EAGAIN.
func connectAgain(ctx context.Context, path string, timeout time.Duration) (net.Conn, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	var d net.Dialer
	for pause := firstAgainPause; ; pause = min(2*pause, lastAgainPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "unix", Err: ctx.Err()}
		}
		nc, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return nc, err
		}
	}
}
