package discovery

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowLayer counts the connections that are being made, which takes each of them a moment, or all the time there is.
type slowLayer struct {
	now, most atomic.Int64
	hang      bool
}

func (l *slowLayer) Over(ctx context.Context, nc net.Conn, _ string) (net.Conn, error) {
	n := l.now.Add(1)
	defer l.now.Add(-1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	if l.hang {
		<-ctx.Done()
		nc.Close()
		return nil, ctx.Err()
	}
	time.Sleep(2 * time.Millisecond)
	return nc, nil
}

// probeAll makes n probes at once of addr, as of servers that were never ready, and returns when all have ended.
func probeAll(ctx context.Context, n int, addr string, l Layer) error {
	var k course
	c := &check{HealthConfig: DefaultConfig().HealthCheck, layer: l}
	_, lim := k.next(c, true, 0, time.Now())
	lim.connect, lim.total = 5*time.Second, 5*time.Second
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = c.run(ctx, addr, lim) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestProbesOfNewcomersConnectABoundedNumberAtOnce(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	var l slowLayer
	if err := probeAll(t.Context(), 4*cap(starting), srv.Listener.Addr().String(), &l); err != nil {
		t.Fatal(err)
	}
	if most := l.most.Load(); most < 2 || most > int64(cap(starting)) {
		t.Errorf("%d at once, at most %d are to be", most, cap(starting))
	}
}

// Newcomers that swallow connections hold up each other, not the probes of servers that have been ready; and they end with their context.
func TestSilentNewcomersHoldUpNoOther(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	addr, ctx := srv.Listener.Addr().String(), t.Context()
	within, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	silent := slowLayer{hang: true}
	go func() { ended <- probeAll(within, 4*cap(starting), addr, &silent) }()
	await(t, "many under way", func() bool { return silent.now.Load() == int64(cap(starting)) })

	var k course
	c := &check{HealthConfig: DefaultConfig().HealthCheck}
	_, lim := k.next(c, false, 0, time.Now())
	if err := c.run(ctx, addr, lim); err != nil {
		t.Errorf("a server that was ready: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := probeAll(ctx, 1, addr, &slowLayer{}); err != nil {
		t.Errorf("the places were not given back: %v", err)
	}
}
