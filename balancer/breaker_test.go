package balancer

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// breakerUpstream has one server, which nothing but its breaker keeps requests from.
func breakerUpstream(t *testing.T, cfg BreakerConfig) (*Upstream, *Server) {
	t.Helper()
	c := DefaultConfig()
	c.Outlier.Errors = 0
	c.Breaker = &cfg
	u := newTestUpstream(t, c, 0)
	return u, u.Servers()[0]
}

func good() (time.Time, error) { return time.Now(), nil }
func bad() (time.Time, error)  { return time.Now(), ErrServerStatus }

func TestBreakerOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, s := breakerUpstream(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: 10 * time.Second})
		left := func() (time.Time, error) { return time.Now(), errors.Join(ErrCanceled) }
		for range 20 {
			_ = s.Execute(left)
		}
		_, _, _ = s.Execute(good), s.Execute(good), s.Execute(bad)
		want(t, "one failure of three", s.Breaker(), "closed")
		if err := s.Execute(bad); err != ErrServerStatus {
			t.Errorf("the failing request itself: %v", err)
		}
		want(t, "two of four", s.Breaker(), "open")
		want(t, "a request meanwhile", wait(u, &Ticket{}).result(), ErrBreakerOpen.Error())
		if err := s.Execute(good); err != ErrBreakerOpen {
			t.Errorf("Execute while open: %v", err)
		}
		time.Sleep(10*time.Second + 1)
		if state, _ := s.State(time.Now()); state != StateReady {
			t.Fatalf("open_for is over, still %s", state)
		}
		trial, second := make(chan struct{}), make(chan error, 1)
		go func() {
			second <- s.Execute(func() (time.Time, error) { <-trial; return time.Now(), nil })
		}()
		synctest.Wait()
		want(t, "during the trial", s.Breaker(), "half-open")
		if state, _ := s.State(time.Now()); state != StateBreakerOpen {
			t.Errorf("a second request would be tried at the same time: %s", state)
		}
		if err := s.Execute(good); err != ErrBreakerOpen {
			t.Errorf("Execute beside the trial: %v", err)
		}
		close(trial)
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		want(t, "after a good trial", s.Breaker(), "closed")
		want(t, "requests after it", wait(u, &Ticket{}).result(), "<nil>")
	})
}

func TestBreakerStaysOpenAfterABadTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := breakerUpstream(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 1, OpenFor: 10 * time.Second})
		_ = s.Execute(bad)
		time.Sleep(10*time.Second + 1)
		if err := s.Execute(bad); err != ErrServerStatus {
			t.Fatalf("the trial: %v", err)
		}
		want(t, "after it", s.Breaker(), "open")
		if state, why := s.State(time.Now()); state != StateBreakerOpen || !strings.Contains(why, "10s left") {
			t.Errorf("%s (%s)", state, why)
		}
	})
}

// The ratio is of the last ten seconds: what went well before has no part in it, what went well since has.
func TestBreakerForgetsAfterItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := breakerUpstream(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: time.Minute})
		for range 100 {
			_ = s.Execute(good)
		}
		for range 4 {
			_ = s.Execute(bad)
		}
		want(t, "4 failures of 104", s.Breaker(), "closed")
		time.Sleep(RecentWindow)
		for range 2 {
			_, _ = s.Execute(good), s.Execute(bad)
			time.Sleep(4 * time.Second)
		}
		want(t, "2 failures of 4 within the window", s.Breaker(), "open")
		_, s = breakerUpstream(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: time.Minute})
		for range 2 {
			_, _ = s.Execute(good), s.Execute(bad)
			time.Sleep(RecentWindow + time.Second)
		}
		want(t, "no more than two in any window", s.Breaker(), "closed")
	})
}

// A request that was sent before the breaker opened and ends after it has closed again says nothing about the server
// that is there now, whether it fails or not; nor do the successes of before.
func TestBreakerHearsNothingOfBefore(t *testing.T) {
	for _, ends := range []error{ErrServerStatus, nil} {
		hearsNothingOfBefore(t, ends)
	}
}

func hearsNothingOfBefore(t *testing.T, ends error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		_, s := breakerUpstream(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 2, OpenFor: time.Second})
		release := make(chan struct{})
		var slow sync.WaitGroup
		for range 8 {
			slow.Go(func() {
				if err := s.Execute(func() (time.Time, error) { <-release; return time.Now(), ends }); err != ends {
					t.Errorf("a slow request: %v, not %v", err, ends)
				}
			})
		}
		synctest.Wait()
		for range 2 {
			_, _ = s.Execute(good), s.Execute(bad)
		}
		want(t, "half of them failed", s.Breaker(), "open")
		time.Sleep(time.Second + 1)
		_ = s.Execute(good)
		want(t, "after a good trial", s.Breaker(), "closed")
		close(release)
		slow.Wait()
		want(t, "after eight from before", s.Breaker(), "closed")
		_, _ = s.Execute(bad), s.Execute(bad)
		want(t, "two failures of two", s.Breaker(), "open")
	})
}
