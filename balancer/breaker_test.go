package balancer

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func breakerServer(t *testing.T, cfg BreakerConfig) *Server {
	t.Helper()
	c := DefaultConfig()
	c.Outlier.Errors = 0
	c.Breaker = &cfg
	return newTestUpstream(t, c, 0).Servers()[0]
}

func good() (time.Time, error) { return time.Now(), nil }
func bad() (time.Time, error)  { return time.Now(), ErrServerStatus }

// The ratio is of the last ten seconds: what went well before has no part in it, what went well since has.
func TestBreakerForgetsAfterItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := breakerServer(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: time.Minute})
		for range 100 {
			_ = s.Execute(good)
		}
		for range 4 {
			_ = s.Execute(bad)
		}
		want(t, "4 failures of 104", s.Breaker(), "closed")
		time.Sleep(breakerWindow)
		for range 2 {
			_, _ = s.Execute(good), s.Execute(bad)
			time.Sleep(4 * time.Second)
		}
		want(t, "2 failures of 4 within the window", s.Breaker(), "open")
		s = breakerServer(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: time.Minute})
		for range 2 {
			_, _ = s.Execute(good), s.Execute(bad)
			time.Sleep(breakerWindow + time.Second)
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
		s := breakerServer(t, BreakerConfig{FailureRatio: 0.5, MinRequests: 2, OpenFor: time.Second})
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

func TestRecentCountsEachOnce(t *testing.T) {
	var r recent
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				r.add(time.Now())
			}
		})
	}
	all.Wait()
	if n := r.at(time.Now()); n != 8000 {
		t.Errorf("%d counted of 8000", n)
	}
	if n := r.at(time.Now().Add(breakerWindow + time.Second)); n != 0 {
		t.Errorf("%d counted a window later", n)
	}
}
