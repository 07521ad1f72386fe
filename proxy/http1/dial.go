package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// connect makes a connection as cfg says.
func (t *Transport) connect(ctx context.Context, cfg *TransportConfig) (net.Conn, error) {
	if cfg.Dial == nil {
		return Connect(ctx, t.addr, cfg.Connect)
	}
	if cfg.Connect > 0 {
		bounded, cancel := context.WithTimeout(ctx, cfg.Connect)
		defer cancel()
		ctx = bounded
	}
	return cfg.Dial(ctx)
}

// Renew is called after SetConfig when servers are to be reached in another way: connections made before it end with the exchange that
// they are in, and unused ones at once.
func (t *Transport) Renew() {
	t.era.Add(1)
	t.CloseIdle()
}

func dialError(err error, c *Cancel) error {
	var timeout net.Error
	switch {
	case c.Canceled():
		return ErrCanceled
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrConnectRefused, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: %w", ErrConnectTimeout, err)
	case errors.Is(err, ErrHandshake):
		return err
	}
	return fmt.Errorf("%w: %w", ErrConnect, err)
}
