package balancer

import (
	"sync"
	"testing"
	"time"
)

func TestRecentCountsEachOnce(t *testing.T) {
	var r Recent
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				r.Add(time.Now())
			}
		})
	}
	all.Wait()
	if n := r.Count(time.Now()); n != 8000 {
		t.Errorf("%d counted of 8000", n)
	}
	if n := r.Count(time.Now().Add(RecentWindow + time.Second)); n != 0 {
		t.Errorf("%d counted a window later", n)
	}
}
