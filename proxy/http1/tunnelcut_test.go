package http1

import (
	"context"
	"testing"
)

// At the end of the drain a client in the middle of a frame is cut: our own frame would become part of that one, and could end it.
func TestCutTunnelIsNotToldInsideAFrame(t *testing.T) {
	for _, begun := range []string{"\x82\x05a", "\x82", "\x82\x7e\x00", "\x88\x02\x03\xe8"} {
		f, h := startRelay(t, script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				nc.send(upgradeAnswer + begun)
				_, _ = nc.rest()
			}
		}))
		c := f.dial(t)
		upgrade(t, c, "")
		c.expect(begun)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		_ = f.Shutdown(ctx)
		if rest, _ := c.rest(); rest != "" {
			t.Errorf("%q is followed by %q", begun, rest)
		}
		eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
	}
}
