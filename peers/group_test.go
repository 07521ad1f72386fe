package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// net is the membership of a test: who is alive, and who can be heard.
type testNet struct {
	mu    sync.Mutex // guards all below
	alive map[string]*Group
	deaf  map[string]bool // answers nobody
	slow  *rand.Rand      // reports are on their way for a while; nil: they are not
}

type testMember struct {
	*testNet
	id string
}

func (n testMember) Members(context.Context) (ids []string, _ error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.alive {
		ids = append(ids, id)
	}
	return ids, nil
}

func (n testMember) Fetch(ctx context.Context, id string) ([]byte, error) {
	n.mu.Lock()
	g, deaf := n.alive[id], n.deaf[id]
	n.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if g == nil {
		return nil, errors.New("gone")
	}
	b := g.Report()
	n.mu.Lock()
	late := time.Duration(0)
	if n.slow != nil {
		late = time.Duration(n.slow.IntN(650)) * time.Millisecond
	}
	n.mu.Unlock()
	return b, pause(ctx, late)
}

// testGateway is a gateway with one upstream of two servers.
type testGateway struct {
	net    *testNet
	id     string
	group  *Group
	up     *balancer.Upstream
	shared *Shared
	die    func() // at once: its lock is free and it is no member
}

func (n *testNet) join(t *testing.T, id string, lease Lease, slots int) *testGateway {
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = slots
	cfg.Queue.Timeout = 5 * time.Second
	g := &testGateway{net: n, id: id, up: balancer.NewUpstream("api", cfg)}
	g.group = NewGroup(Options{ID: id, Membership: testMember{n, id}, Lease: lease, Changed: func(bool, int) {}, Log: quiet()})
	n.mu.Lock()
	n.alive[id] = g.group
	n.mu.Unlock()
	g.shared = g.group.Share(g.up)
	g.up.Update([]balancer.ServerSpec{{ID: "s1", Addr: "127.0.0.1:1"}, {ID: "s2", Addr: "127.0.0.1:2"}}, time.Now())
	for _, s := range g.up.Servers() {
		s.Probe(nil, 1, 1, time.Now())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); g.group.Run(ctx, nil) }()
	g.die = func() {
		cancel()
		<-ended
		n.mu.Lock()
		delete(n.alive, id)
		n.mu.Unlock()
	}
	return g
}

func newTestNet() *testNet { return &testNet{alive: map[string]*Group{}, deaf: map[string]bool{}} }

// Gateways come, go, fall silent and start anew, and requests last: at no moment do all together have more
// than max_conns on a server, and when nothing changed for a while every slot is used.
func TestCapHoldsWhileMembersChange(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 5))
				cap := []int{1, 3, 10}[seed%3]
				n, store := newTestNet(), &memStore{}
				n.slow = rand.New(rand.NewPCG(seed, 6))
				var all []*testGateway
				next := 0
				join := func() {
					id := fmt.Sprint("g", next)
					next++
					all = append(all, n.join(t, id, NewStoreLease(&link{memStore: store}, id, quiet()), cap))
				}
				var requests sync.WaitGroup
				ctx, stop := context.WithCancel(t.Context())
				request := func(g *testGateway, d time.Duration) {
					requests.Go(func() {
						var ticket balancer.Ticket
						if g.up.Acquire(&ticket, time.Now()) == nil {
							_ = pause(ctx, d)
							g.up.Release(&ticket, balancer.Outcome{Status: 200}, time.Now())
						}
					})
				}
				check := func() {
					for _, server := range []string{"s1", "s2"} {
						sum := 0
						for _, g := range all {
							sum += g.up.Server(server).InFlight()
						}
						if sum > cap {
							t.Fatalf("%d requests on %s, which takes %d", sum, server, cap)
						}
					}
				}
				run := func(d time.Duration) {
					for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
						for _, g := range all {
							if rnd.IntN(3) == 0 {
								request(g, time.Duration(rnd.IntN(20000)*rnd.IntN(2)*rnd.IntN(2))*time.Millisecond)
							}
						}
						check()
					}
				}
				join()
				synctest.Wait()
				if got := all[0].up.Server("s1").Slots(); got != cap {
					t.Errorf("alone it has %d slots of %d", got, cap)
				}
				for range 40 {
					run(time.Duration(200+rnd.IntN(6000)) * time.Millisecond)
					switch what := rnd.IntN(5); {
					case what == 0 && len(all) < 5:
						join()
					case what == 1 && len(all) > 2: // one goes as another comes
						i := rnd.IntN(len(all))
						all[i].die()
						all[i].up.Close()
						all = append(all[:i:i], all[i+1:]...)
						run(time.Duration(rnd.IntN(1500)) * time.Millisecond)
						join()
					case what == 2 && len(all) > 1:
						i := rnd.IntN(len(all))
						all[i].die()
						g := all[i] // what it had in flight ends with it
						g.up.Close()
						all = append(all[:i:i], all[i+1:]...)
					case what == 3:
						n.mu.Lock()
						id := all[rnd.IntN(len(all))].id
						n.deaf[id] = !n.deaf[id]
						n.mu.Unlock()
					}
				}
				n.mu.Lock()
				clear(n.deaf)
				n.mu.Unlock()
				run(10 * time.Second)
				stop()
				requests.Wait()
				time.Sleep(2 * time.Second)
				for _, server := range []string{"s1", "s2"} {
					sum := 0
					for _, g := range all {
						sum += max(g.up.Server(server).Slots(), 0)
					}
					if sum != cap {
						t.Errorf("%d slots of %s are used, of %d", sum, server, cap)
					}
				}
				for _, g := range all {
					g.die()
				}
			})
		})
	}
}

// A drain of the one that acts is followed by the others, and is over for it only when they have nothing
// in flight and have said so.
func TestDrainIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := newTestNet(), &memStore{}
		a := n.join(t, "a", NewStoreLease(&link{memStore: store}, "a", quiet()), 4)
		defer a.die()
		time.Sleep(2500 * time.Millisecond)
		b := n.join(t, "b", NewStoreLease(&link{memStore: store}, "b", quiet()), 4)
		time.Sleep(8 * time.Second)
		if !a.group.Acts() || b.group.Acts() {
			t.Fatal("a does not act")
		}
		var long balancer.Ticket
		for b.up.Server("s1").InFlight() == 0 {
			if err := b.up.Acquire(&long, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		a.up.Server("s1").Drain()
		a.shared.Leave("s1")
		if got := a.shared.InFlight("s1"); got == 0 {
			t.Error("nobody has heard of the drain, and the server counts as idle")
		}
		time.Sleep(2500 * time.Millisecond)
		if !b.up.Server("s1").Draining() || b.up.Server("s2").Draining() || a.shared.InFlight("s1") != 1 {
			t.Errorf("b drains %v, a sees %d in flight", b.up.Server("s1").Draining(), a.shared.InFlight("s1"))
		}
		b.up.Release(&long, balancer.Outcome{Status: 200}, time.Now())
		time.Sleep(2 * time.Second)
		if got := a.shared.InFlight("s1"); got != 0 {
			t.Errorf("%d in flight when it is over", got)
		}

		// Taken back and begun anew at once: what b said of the first is not taken for the second.
		a.shared.Stay("s1")
		a.shared.Leave("s1")
		if got := a.shared.InFlight("s1"); got == 0 {
			t.Error("b follows the first drain, and counts for the second")
		}
		a.up.Server("s1").Enable()
		a.shared.Stay("s1")
		time.Sleep(2500 * time.Millisecond)
		if b.up.Server("s1").Draining() {
			t.Error("b goes on draining")
		}

		// The one that acts goes in the middle of a drain: the next one takes the server back.
		a.up.Server("s1").Drain()
		a.shared.Leave("s1")
		time.Sleep(2500 * time.Millisecond)
		if !b.up.Server("s1").Draining() {
			t.Error("b does not drain")
		}
		a.group.Resign()
		time.Sleep(4 * time.Second)
		if a.group.Acts() || !b.group.Acts() || b.up.Server("s1").Draining() {
			t.Errorf("a acts %v, b acts %v, b drains %v", a.group.Acts(), b.group.Acts(), b.up.Server("s1").Draining())
		}
		b.die()
	})
}

// A silent member makes the measurement incomplete, and its gauges stay, until it has left.
func TestReadOfASilentMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, store := newTestNet(), &memStore{}
		a := n.join(t, "a", NewStoreLease(&link{memStore: store}, "a", quiet()), 0)
		defer a.die()
		b := n.join(t, "b", NewStoreLease(&link{memStore: store}, "b", quiet()), 0)
		time.Sleep(2500 * time.Millisecond)
		var tickets [3]balancer.Ticket
		for i := range tickets {
			if err := b.up.Acquire(&tickets[i], time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if r, complete := a.shared.Read(time.Now()); r.InFlight != 3 || r.Arrivals != 3 || !complete {
			t.Errorf("%d in flight, %d arrivals, complete %v", r.InFlight, r.Arrivals, complete)
		}
		n.mu.Lock()
		n.deaf["b"] = true
		n.mu.Unlock()
		time.Sleep(5 * time.Second)
		if r, complete := a.shared.Read(time.Now()); r.InFlight != 3 || complete {
			t.Errorf("silent: %d in flight, complete %v", r.InFlight, complete)
		}
		b.die()
		time.Sleep(2500 * time.Millisecond)
		if r, complete := a.shared.Read(time.Now()); r.InFlight != 0 || !complete {
			t.Errorf("gone: %d in flight, complete %v", r.InFlight, complete)
		}
	})
}

func TestReportHasNoTimeOfDay(t *testing.T) {
	n := newTestNet()
	g := n.join(t, "a", NewFileLease(t.TempDir()+"/lease", quiet()), 2)
	defer g.die()
	var r map[string]any
	if err := json.Unmarshal(g.group.Report(), &r); err != nil || r["gateway"] != "a" {
		t.Fatal(r, err)
	}
	load := r["upstreams"].(map[string]any)["api"].(map[string]any)
	if len(load["servers"].(map[string]any)) != 2 {
		t.Errorf("%v", load)
	}
	for key := range load {
		if key == "at" || key == "last_arrival" {
			t.Errorf("the report has %s", key)
		}
	}
}
