package proxy

import (
	"testing"
	"time"
)

func TestRouteStats(t *testing.T) {
	s := newRouteStats("r", "a")
	for _, c := range []struct {
		status int
		took   time.Duration
	}{{200, 0}, {200, time.Millisecond}, {404, 1001 * time.Microsecond}, {599, 9 * time.Minute}, {101, 11 * time.Minute}, {0, time.Second}} {
		s.finished(c.status, c.took)
	}
	s.rejected[queueFull].Add(2)
	r := s.read()
	if len(r.Requests) != 4 || r.Requests[200] != 2 || r.Requests[404] != 1 || r.Requests[599] != 1 || r.Requests[101] != 1 {
		t.Errorf("requests %v", r.Requests)
	}
	if len(r.Rejected) != 1 || r.Rejected[ReasonQueueFull] != 2 {
		t.Errorf("rejected %v", r.Rejected)
	}
	b := r.Duration.Buckets
	if b[0] != 2 || b[1] != 3 || b[len(b)-2] != 4 || b[len(b)-1] != 5 || r.Duration.Count != 6 {
		t.Errorf("buckets %v of %d", b, r.Duration.Count)
	}
	if want := (20*time.Minute + time.Second + 2001*time.Microsecond).Seconds(); r.Duration.Seconds != want {
		t.Errorf("%v seconds, want %v", r.Duration.Seconds, want)
	}
}

// The positions and the table of failures are two lists of the same.
func TestFailuresAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for i, f := range failures {
		if f.Reason == "" || f.Message == "" || f.Status < 400 || f.Status > 599 || seen[f.Reason] {
			t.Errorf("failure %d: %+v", i, f)
		}
		seen[f.Reason] = true
		if (f.RetryAfter > 0) != (f.Status == 429 || f.Status == 503) {
			t.Errorf("%s: Retry-After %v with %d", f.Reason, f.RetryAfter, f.Status)
		}
	}
	for at, reason := range map[int]string{noRoute: ReasonNoRoute, queueFull: ReasonQueueFull, bodyTooLarge: ReasonBodyTooLarge, draining: ReasonDraining, internal: ReasonInternal} {
		if failures[at].Reason != reason {
			t.Errorf("%s stands where %s should", failures[at].Reason, reason)
		}
	}
}
