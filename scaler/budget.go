package scaler

import (
	"math"
	"slices"
	"sync"
)

// Budget bounds the replicas of all upstreams together and shares them fairly: every upstream first gets its
// min, then the rest goes one by one to whoever asks for more and has least (max-min fairness). One that has
// more than its share when others ask steps down to it, and only what it has really given back is given to
// them, so the bound holds at every moment. A nil Budget has no bound. Safe for concurrent use.
type Budget struct {
	mu     sync.Mutex // guards all below
	most   int        // 0 = no bound
	claims map[string]claim
}

// claim is what one upstream last said.
type claim struct {
	least, demand int // its min; what it would have without a budget
	held          int // what it has or has been granted
}

// NewBudget makes the budget of [scale] max_replicas; 0 is no bound.
func NewBudget(most int) *Budget { return &Budget{most: most, claims: map[string]claim{}} }

// Configure changes the bound; 0 is none.
func (b *Budget) Configure(most int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = most
}

// Drop forgets an upstream that is gone.
func (b *Budget) Drop(name string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.claims, name)
}

// share runs decide with the most that the upstream may have now and remembers what it claims then. Nobody
// else decides meanwhile, so two upstreams cannot be given the same replica.
func (b *Budget) share(name string, least int, decide func(limited bool, limit int) claim) {
	if b == nil {
		decide(false, 0)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	limited := b.most > 0
	limit := 0
	if limited {
		limit = min(b.fair(name, least), b.left(name))
	}
	b.claims[name] = decide(limited, limit)
}

// left is what the others do not hold.
func (b *Budget) left(name string) int {
	n := b.most
	for other, c := range b.claims {
		if other != name {
			n -= c.held
		}
	}
	return max(n, 0)
}

// fair is the max-min share of the upstream if it asked for everything.
func (b *Budget) fair(name string, least int) int {
	names := []string{name}
	for other := range b.claims {
		if other != name {
			names = append(names, other)
		}
	}
	slices.Sort(names)
	wants := func(n string) claim {
		if n == name {
			return claim{least: least, demand: math.MaxInt}
		}
		return b.claims[n]
	}
	got := make(map[string]int, len(names))
	rest := b.most
	// deal gives one at a time to the one that has least and is below its bound.
	deal := func(bound func(claim) int) {
		for ; rest > 0; rest-- {
			next := ""
			for _, n := range names {
				if got[n] < bound(wants(n)) && (next == "" || got[n] < got[next]) {
					next = n
				}
			}
			if next == "" {
				return
			}
			got[next]++
		}
	}
	deal(func(c claim) int { return min(c.least, c.demand) })
	deal(func(c claim) int { return c.demand })
	return got[name]
}
