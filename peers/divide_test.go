package peers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func names(n int, salt uint64) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("gw%d-%x", i, salt*2654435761))
	}
	return all
}

// parts are the parts of all gateways.
func parts(cap int, server string, gateways []string) map[string]int {
	got := map[string]int{}
	for _, g := range gateways {
		got[g] = Slots(cap, server, g, gateways)
	}
	return got
}

func TestSlotsAddUpToTheCap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		n, cap := 1+rnd.IntN(12), 1+rnd.IntN(40)
		gateways, server := names(n, rnd.Uint64()), fmt.Sprint("s", rnd.Uint32())
		got := parts(cap, server, gateways)
		sum, least, most := 0, cap, 0
		for _, p := range got {
			sum, least, most = sum+p, min(least, p), max(most, p)
		}
		if sum != cap || most-least > 1 {
			t.Fatalf("cap %d among %d: %v", cap, n, got)
		}
		rnd.Shuffle(n, func(i, j int) { gateways[i], gateways[j] = gateways[j], gateways[i] })
		for g, p := range got {
			if Slots(cap, server, g, gateways) != p {
				t.Fatalf("the order of %v matters", gateways)
			}
		}

		// One more gateway: nobody gains, and what moves is what the new one has.
		more := parts(cap, server, append(slices.Clone(gateways), "new"))
		moved := 0
		for g, p := range got {
			if more[g] > p {
				t.Fatalf("cap %d among %d and one more: %s went from %d to %d", cap, n, g, p, more[g])
			}
			moved += p - more[g]
		}
		if moved != more["new"] || moved > (cap+n)/(n+1) {
			t.Fatalf("cap %d among %d: %d moved for the new one's %d", cap, n, moved, more["new"])
		}
	}
}

// Where there is less than one slot for each gateway, every gateway has about its share of the servers.
func TestSlotsOfManySmallServersEvenOut(t *testing.T) {
	for _, cap := range []int{1, 2, 5} {
		gateways, sum := names(4, 7), map[string]int{}
		for i := range 400 {
			for g, p := range parts(cap, fmt.Sprint("server-", i), gateways) {
				sum[g] += p
			}
		}
		for g, n := range sum {
			if want := 100 * cap; n < want*8/10 || n > want*12/10 {
				t.Errorf("cap %d: %s has %d of %d", cap, g, n, 400*cap)
			}
		}
	}
}

func TestRate(t *testing.T) {
	for _, one := range []struct {
		rate      float64
		burst, n  int
		want      float64
		wantBurst int
	}{
		{100, 200, 1, 100, 200}, {100, 0, 1, 100, 0}, {100, 200, 4, 25, 50}, {100, 0, 4, 25, 25},
		{10, 7, 2, 5, 3}, {1, 1, 3, 1. / 3, 1}, {0.5, 0, 2, 0.25, 1},
	} {
		if rate, burst := Rate(one.rate, one.burst, one.n); rate != one.want || burst != one.wantBurst {
			t.Errorf("Rate(%v, %d, %d) = %v, %d", one.rate, one.burst, one.n, rate, burst)
		}
	}
}
