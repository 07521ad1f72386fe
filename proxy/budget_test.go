package proxy

import (
	"testing"
	"time"
)

func TestRetryBudget(t *testing.T) {
	var b retryBudget
	now := time.Unix(1e9, 0)
	spend := func() (n int) {
		for b.retry(0.2, now) {
			n++
		}
		return n
	}
	if n := spend(); n != 30 {
		t.Errorf("without requests %d retries, want 3/s for 10 s", n)
	}
	now = now.Add(10 * time.Second)
	for range 1000 {
		b.request(now)
	}
	if n := spend(); n != 200 {
		t.Errorf("%d retries of 1000 requests, want a fifth", n)
	}
	now = now.Add(5 * time.Second)
	for range 500 {
		b.request(now)
	}
	if n := spend(); n != 100 {
		t.Errorf("%d more of 500 requests in the same window, want a fifth", n)
	}
	now = now.Add(time.Minute)
	if n := spend(); n != 30 {
		t.Errorf("after a quiet minute %d retries", n)
	}
}
