package balancer

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// forEachPolicy runs f for every entry of the table of policies.
func forEachPolicy(t *testing.T, f func(t *testing.T, cfg Config)) {
	for name := range policies {
		cfg := DefaultConfig()
		cfg.Balance = name
		t.Run(name, func(t *testing.T) { f(t, cfg) })
	}
}

func TestPolicyNeverGivesUpEarly(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		for _, n := range []int{1, 2, 5, 40} {
			u := newTestUpstream(t, cfg, make([]int, n)...)
			for _, s := range u.Servers()[:n-1] {
				s.Drain()
			}
			for range 50 {
				ticket := &Ticket{Key: HashString(fmt.Sprint(n))}
				if err := u.Acquire(ticket, time.Now()); err != nil {
					t.Fatalf("%d servers, one ready: %v", n, err)
				}
				if got, want := ticket.Server(), u.Servers()[n-1]; got != want {
					t.Fatalf("%d servers: picked %s, which is draining", n, got.ID())
				}
				release(u, ticket)
			}
		}
	})
}

func TestPolicyFillsEverySlotAndNoMore(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		cfg.Queue.Size = 0
		u := newTestUpstream(t, cfg, 3, 1, 4, 1, 5, 9)
		for i := range 23 {
			ticket := &Ticket{Key: uint64(i)}
			if err := u.Acquire(ticket, time.Now()); err != nil {
				t.Fatalf("request %d of 23 slots: %v", i+1, err)
			}
		}
		for _, s := range u.Servers() {
			if s.InFlight() != s.Slots() {
				t.Errorf("server %s has %d in flight, %d slots", s.ID(), s.InFlight(), s.Slots())
			}
		}
		if err := u.Acquire(&Ticket{}, time.Now()); err != ErrQueueFull {
			t.Errorf("request beyond the slots: %v, want %v", err, ErrQueueFull)
		}
	})
}

func TestPolicyFollowsWeights(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		u := NewUpstream("test", cfg)
		u.Update([]ServerSpec{{ID: "a", Addr: "a:1", Weight: 1}, {ID: "b", Addr: "b:1", Weight: 2}, {ID: "c", Addr: "c:1", Weight: 5}}, time.Now())
		count := map[string]float64{}
		for _, s := range u.Servers() {
			s.Probe(nil, 1, 1, time.Now())
		}
		const n = 8000
		var open []*Ticket // a steady 80 in flight, so that least_request has something to compare
		for i := range n {
			ticket := &Ticket{Key: HashString(fmt.Sprint("client", i))}
			if err := u.Acquire(ticket, time.Now()); err != nil {
				t.Fatal(err)
			}
			count[ticket.Server().ID()]++
			if open = append(open, ticket); len(open) > 80 {
				release(u, open[0])
				open = open[1:]
			}
		}
		for id, want := range map[string]float64{"a": 1. / 8, "b": 2. / 8, "c": 5. / 8} {
			if got := count[id] / n; math.Abs(got-want) > 0.06 {
				t.Errorf("server %s had a share of %.3f, want %.3f", id, got, want)
			}
		}
	})
}

func TestPolicyRetryAvoids(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		u := newTestUpstream(t, cfg, 0, 0)
		for range 20 {
			ticket := &Ticket{Key: 7}
			if err := u.Acquire(ticket, time.Now()); err != nil {
				t.Fatal(err)
			}
			first := ticket.Server()
			release(u, ticket)
			ticket.Avoid(first)
			if err := u.Acquire(ticket, time.Now()); err != nil {
				t.Fatal(err)
			}
			if ticket.Server() == first {
				t.Fatal("the retry went to the server that failed, with another one ready")
			}
			release(u, ticket)
			ticket.Avoid(ticket.Server())
			if err := u.Acquire(ticket, time.Now()); err != nil {
				t.Fatalf("all servers tried: %v, want any of them again", err)
			}
			release(u, ticket)
		}
	})
}

// Whatever the policy, those who wait are served by priority and in turns of their keys.
func TestPolicyServesTheQueueInOrder(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		synctest.Test(t, func(t *testing.T) {
			u := newTestUpstream(t, cfg, 1, 2)
			held := []*Ticket{mustAcquire(t, u), mustAcquire(t, u), mustAcquire(t, u)}
			waiters := map[string]waiter{}
			for i, w := range []Ticket{{Priority: PriorityLow}, {FairKey: 1}, {FairKey: 1}, {FairKey: 2}, {Priority: PriorityHigh}, {}} {
				w.Key = uint64(i + 1)
				waiters[fmt.Sprint(i)] = wait(u, &w)
			}
			order := served(u, held[0], waiters)
			want(t, "order", fmt.Sprint(order), "[4 1 3 5 2 0]")
			release(u, held[1:]...)
		})
	})
}

func TestPolicyWithoutServers(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		u := NewUpstream("test", cfg)
		if err := u.Acquire(&Ticket{}, time.Now()); err != ErrNoHealthyServer {
			t.Errorf("no servers: %v, want %v", err, ErrNoHealthyServer)
		}
	})
}

func TestBackupOnlyWhileNoOtherIsReady(t *testing.T) {
	forEachPolicy(t, func(t *testing.T, cfg Config) {
		u := NewUpstream("test", cfg)
		u.Update([]ServerSpec{{ID: "a", Addr: "a:1", Slots: 1}, {ID: "b", Addr: "b:1", Backup: true}}, time.Now())
		for _, s := range u.Servers() {
			s.Probe(nil, 1, 1, time.Now())
		}
		first := mustAcquire(t, u)
		if id := first.Server().ID(); id != "a" {
			t.Fatalf("picked %s with the other ready", id)
		}
		if s := u.set.Load().pick(&Ticket{}, &cfg, nanos(time.Now())); s != nil {
			t.Fatalf("a busy server made its backup answer: %s", s.ID())
		}
		release(u, first)
		u.Server("a").Probe(errProbe, 1, 1, time.Now())
		if id := mustAcquire(t, u).Server().ID(); id != "b" {
			t.Fatalf("picked %s with only the backup ready", id)
		}
	})
}

// nginx documents the order a, a, b, a, c, a, a for weights 5, 1, 1.
func TestSmoothRoundRobinSpreadsTurns(t *testing.T) {
	u := NewUpstream("test", DefaultConfig())
	u.Update([]ServerSpec{{ID: "a", Addr: "a:1", Weight: 5}, {ID: "b", Addr: "b:1"}, {ID: "c", Addr: "c:1"}}, time.Now())
	got := ""
	for _, s := range smooth(u.Servers()) {
		got += s.ID()
	}
	if got != "aabacaa" {
		t.Errorf("order %q, want aabacaa", got)
	}
}

func TestSmoothRoundRobinBoundsTheRound(t *testing.T) {
	u := NewUpstream("test", DefaultConfig())
	u.Update([]ServerSpec{{ID: "a", Addr: "a:1", Weight: 1 << 30}, {ID: "b", Addr: "b:1", Weight: 3}}, time.Now())
	if n := len(smooth(u.Servers())); n > maxTurns+2 {
		t.Errorf("a round of %d turns", n)
	}
}

func TestHashMovesOnlyTheKeysOfAServerThatLeaves(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Balance = "hash"
	u := newTestUpstream(t, cfg, 0, 0, 0, 0, 0)
	home := func(key int) string {
		ticket := &Ticket{Key: HashString(fmt.Sprint("key", key))}
		if err := u.Acquire(ticket, time.Now()); err != nil {
			t.Fatal(err)
		}
		defer release(u, ticket)
		return ticket.Server().ID()
	}
	before := map[int]string{}
	for key := range 1000 {
		before[key] = home(key)
	}
	u.Update([]ServerSpec{{ID: "a", Addr: "127.0.0.1:a"}, {ID: "b", Addr: "127.0.0.1:b"}, {ID: "d", Addr: "127.0.0.1:d"}, {ID: "e", Addr: "127.0.0.1:e"}}, time.Now())
	for key, was := range before {
		if is := home(key); was != "c" && is != was {
			t.Fatalf("key %d moved from %s to %s although only c left", key, was, is)
		}
	}
}

func TestHashBoundsTheLoadOfAPopularKey(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Balance = "hash"
	u := newTestUpstream(t, cfg, 0, 0, 0, 0)
	for range 400 {
		if err := u.Acquire(&Ticket{Key: 42}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range u.Servers() {
		if s.InFlight() > 126 {
			t.Errorf("server %s has %d of 400 requests of one key, want at most 1.25 of a quarter", s.ID(), s.InFlight())
		}
	}
}

func TestSlowStartGrowsTheShare(t *testing.T) {
	for _, name := range []string{"least_request", "round_robin", "random"} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Balance, cfg.SlowStart = name, time.Minute
			u := newTestUpstream(t, cfg, 0, 0)
			born := time.Now()
			u.Server("a").slowSince.Store(nanos(born.Add(-time.Hour)))
			u.Server("b").slowSince.Store(nanos(born))
			share := func(age time.Duration) float64 {
				var open []*Ticket
				b := 0
				for range 2000 {
					ticket := &Ticket{}
					if err := u.Acquire(ticket, born.Add(age)); err != nil {
						t.Fatal(err)
					}
					if ticket.Server().ID() == "b" {
						b++
					}
					if open = append(open, ticket); len(open) > 100 {
						release(u, open[0])
						open = open[1:]
					}
				}
				release(u, open...)
				return float64(b) / 2000
			}
			if early := share(time.Second); early > 0.2 {
				t.Errorf("one second after it became ready it had a share of %.2f", early)
			}
			if late := share(2 * time.Minute); math.Abs(late-0.5) > 0.06 {
				t.Errorf("after the slow start it had a share of %.2f, want 0.5", late)
			}
		})
	}
}
