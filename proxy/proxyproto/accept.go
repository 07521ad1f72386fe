package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/proxy/http1"
)

// Acceptor reads the header of the connections of listed peers. Such a connection must begin with one, else it is closed, as with
// HAProxy's accept-proxy: a peer that is believed must not be able to pass for its clients by leaving it out. Of others none is looked
// for, so one that they send is a malformed request. All methods may be called concurrently.
type Acceptor struct {
	// Log is told, at times, of peers whose connections do not begin with a header; nil is off.
	Log *slog.Logger

	set    atomic.Pointer[settings] // nil: nobody is listed
	warned atomic.Int64             // when, ns since the epoch
}

type settings struct {
	from    []netip.Prefix
	timeout time.Duration
}

const (
	defaultTimeout = 5 * time.Second
	warnPause      = 10 * time.Second
)

// Configure sets whose connections begin with a header, as in http1.Within, and how long its reading may take; 0 = 5s.
func (a *Acceptor) Configure(from []netip.Prefix, timeout time.Duration) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	a.set.Store(&settings{from, timeout})
}

// Opener is an http1.Opener that goes on with next, which may be nil. What it returns without one is the accepted connection itself.
func (a *Acceptor) Opener(next http1.Opener) http1.Opener {
	return func(nc net.Conn, o *http1.Origin) (net.Conn, error) {
		if set := a.set.Load(); set != nil && http1.Within(set.from, o.Remote.Addr().WithZone("")) {
			if err := a.open(nc, o, set.timeout); err != nil {
				return nil, err
			}
		}
		if next == nil {
			return nc, nil
		}
		return next(nc, o)
	}
}

// open reads the header and corrects o.
func (a *Acceptor) open(nc net.Conn, o *http1.Origin, timeout time.Duration) error {
	_ = nc.SetReadDeadline(time.Now().Add(timeout)) // fails only on a closed connection, which the read then tells
	h, err := Read(nc)
	if err != nil {
		a.warn(o, err)
		return fmt.Errorf("from %s: %w", o.Remote, err)
	}
	if !h.Local {
		o.Remote, o.Local = h.Source, h.Destination
	}
	return nil
}

// warn does not tell of what says nothing: those who only look whether the port is open, and those who break off.
func (a *Acceptor) warn(o *http1.Origin, err error) {
	if a.Log == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return
	}
	now, last := time.Now().UnixNano(), a.warned.Load()
	if now-last < int64(warnPause) || !a.warned.CompareAndSwap(last, now) {
		return
	}
	peer := "unix:"
	if o.Remote.IsValid() {
		peer = o.Remote.String()
	}
	a.Log.Warn("a connection without what proxy_protocol asks for is closed", "listener", o.Listener, "peer", peer, "error", err)
}
