package proxy

import (
	"math/rand/v2"
	"testing"
)

// However the requests of several keys of one shard come and go, each key is counted for itself, and what is not in flight any more is not
// kept.
func TestConnLimitCountsEachKey(t *testing.T) {
	const most = 3
	l, err := newConnLimit(LimitConnConfig{Max: most, Status: 503})
	if err != nil {
		t.Fatal(err)
	}
	keys := []uint64{0, shardCount, 2 * shardCount, 5 * shardCount} // of shard 0
	inFlight := make([]int, len(keys))
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		i := random.IntN(len(keys))
		if inFlight[i] > 0 && random.IntN(2) == 0 {
			l.give(keys[i])
			inFlight[i]--
			continue
		}
		if took := l.take(keys[i]); took != (inFlight[i] < most) {
			t.Fatalf("with %d in flight: taken %v", inFlight[i], took)
		} else if took {
			inFlight[i]++
		}
	}
	for i, key := range keys {
		for range inFlight[i] {
			l.give(key)
		}
	}
	if s := l.shards.of(0); s.n != 0 || len(s.others) != 0 {
		t.Errorf("%d in hand, others %v", s.n, s.others)
	}
}
