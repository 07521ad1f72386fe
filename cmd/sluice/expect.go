package main

import (
	"context"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// expect tells the balancer once a second which replicas may still come and how soon, so that it can tell a
// request that would wait for nothing. Until a start was measured it says nothing.
func expect(ctx context.Context, ground *balancer.Upstream, loop *scaler.Loop) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var starting time.Time // since when replicas have been starting; zero: none is
	for {
		now, st := time.Now(), loop.Status()
		switch {
		case st.Starting == 0:
			starting = time.Time{}
		case starting.IsZero():
			starting = now
		}
		servers, in := hope(st, starting, now)
		ground.Expect(servers, in, now)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// hope is how many replicas more there may be at most, and how long until the first of them at least; -1
// where that is not known.
func hope(st scaler.Status, starting, now time.Time) (servers int, in time.Duration) {
	most := st.Max
	if st.Pinned {
		most = st.Wanted
	}
	servers = max(most-st.Ready, 0)
	if servers == 0 {
		return 0, 0
	}
	if st.StartSeconds.Count == 0 {
		return -1, 0
	}
	mean := time.Duration(st.StartSeconds.Sum / float64(st.StartSeconds.Count) * float64(time.Second))
	in = min(mean, st.StartTime)
	if !starting.IsZero() {
		in = max(in-now.Sub(starting), 0)
	}
	return servers, in
}
