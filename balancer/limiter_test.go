package balancer

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// plant is a simulated server: it works on at most capacity requests at once, the others wait inside.
type plant struct {
	capacity int
	service  func(*rand.Rand) float64 // seconds
	stream   float64                  // seconds that an answer streams after its first byte
	held     bool                     // the limiter hears of the first byte when it comes
	inside   []*job
	working  int
	rate     float64 // requests a second that come; 0 = always more than can be served
}

type job struct {
	started, end float64 // end is of the next event: the first byte of a stream, or the end
	load         int
	begun        bool // its answer
	of           int  // which limiter sent it
}

type events []*job

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].end < e[j].end }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(*job)) }
func (e *events) Pop() any          { o := *e; x := o[len(o)-1]; *e = o[:len(o)-1]; return x }

// run lets a limiter send to the plant what it allows, out of its queue. At each of the given times the plant
// changes. It returns the limit in every second and how many requests were served.
func run(seed uint64, p *plant, l *limiter, seconds float64, change map[int]func(*plant)) (limits []int, done int) {
	all, done := runAll(seed, p, []*limiter{l}, seconds, change)
	return all[0], done
}

// runAll is run with several limiters, of gateways that send to the same plant.
func runAll(seed uint64, p *plant, ls []*limiter, seconds float64, change map[int]func(*plant)) (limits [][]int, done int) {
	limits = make([][]int, len(ls))
	inFlight := make([]int, len(ls))
	r := rand.New(rand.NewPCG(seed, 7))
	var e events
	now, queued, next := 0.0, 0, 0.0
	begin := func(j *job) {
		p.working++
		j.end = now + p.service(r)
		heap.Push(&e, j)
	}
	refill := func() {
		for p.working < p.capacity && len(p.inside) > 0 {
			j := p.inside[0]
			p.inside = p.inside[1:]
			begin(j)
		}
	}
	start := func() {
		for i, l := range ls {
			for inFlight[i] < l.slots() && (p.rate == 0 || queued > 0) {
				inFlight[i]++
				queued = max(queued-1, 0)
				p.inside = append(p.inside, &job{started: now, load: inFlight[i], of: i})
				refill()
			}
		}
	}
	ns := func(s float64) int64 { return int64(s * 1e9) }
	for now < seconds {
		start()
		at := seconds
		if len(e) > 0 {
			at = e[0].end
		}
		arrives := p.rate > 0 && max(now, next) < at
		if arrives {
			at = max(now, next)
		}
		for int(now) < int(at) && int(now) < int(seconds) {
			if f := change[int(now)+1]; f != nil {
				f(p)
			}
			for i, l := range ls {
				limits[i] = append(limits[i], l.settled())
			}
			now = math.Floor(now) + 1
		}
		if arrives {
			now = at
			queued++
			next = now + r.ExpFloat64()/p.rate
			continue
		}
		if len(e) == 0 {
			continue
		}
		j := heap.Pop(&e).(*job)
		l := ls[j.of]
		now = max(j.end, now)
		if p.held && !j.begun {
			l.observe(sample{at: ns(now), started: ns(j.started), load: j.load, latency: int64((now - j.started) * 1e9)})
			j.begun, j.end = true, now+p.stream
			heap.Push(&e, j)
			continue
		}
		p.working--
		inFlight[j.of]--
		done++
		refill()
		l.ended(int64((now - j.started) * 1e9))
		if !p.held {
			l.observe(sample{at: ns(now), started: ns(j.started), load: j.load, latency: int64((now - j.started) * 1e9)})
		}
	}
	return limits, done
}

func fixed(s float64) func(*rand.Rand) float64 { return func(*rand.Rand) float64 { return s } }
func exponential(s float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return s * r.ExpFloat64() }
}
func lognormal(s, sigma float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return s * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2) }
}

// mean over the seconds from from to to.
func over(limits []int, from, to int) float64 {
	sum := 0
	for _, n := range limits[from:to] {
		sum += n
	}
	return float64(sum) / float64(to-from)
}

// After a minute the limit is the capacity, within a fifth or one; half a minute after the capacity was halved
// it is the half, and two minutes after it came back the whole. What is served all the while is at
// least nine tenths of what the right limit would serve.
func TestLimiterFindsTheCapacity(t *testing.T) {
	type dist = func(float64) func(*rand.Rand) float64
	noisy := func(s float64) func(*rand.Rand) float64 { return lognormal(s, 0.5) }
	for _, c := range []struct {
		name     string
		service  dist
		capacity int
		seconds  float64 // of service
	}{
		{"fixed", fixed, 2, 0.02}, {"fixed", fixed, 4, 0.2}, {"fixed", fixed, 10, 0.2}, {"fixed", fixed, 32, 0.2}, {"fixed", fixed, 100, 0.02},
		{"lognormal", noisy, 4, 0.02}, {"lognormal", noisy, 10, 0.2}, {"lognormal", noisy, 32, 0.2}, {"lognormal", noisy, 100, 0.02},
		{"exponential", exponential, 10, 0.02}, {"exponential", exponential, 32, 0.02},
	} {
		t.Run(fmt.Sprintf("%s %d at %v", c.name, c.capacity, time.Duration(c.seconds*1e9)), func(t *testing.T) {
			for seed := range uint64(3) {
				l := newLimiter(0)
				limits, done := run(seed, &plant{capacity: c.capacity, service: c.service(c.seconds)}, &l, 300, map[int]func(*plant){
					90:  func(p *plant) { p.capacity = c.capacity / 2 },
					150: func(p *plant) { p.capacity = c.capacity },
				})
				for _, at := range []struct {
					what     string
					from, to int
					want     int
				}{{"after a minute", 60, 90, c.capacity}, {"half a minute after the halving", 120, 150, c.capacity / 2}, {"two minutes after it came back", 270, 300, c.capacity}} {
					want := float64(at.want)
					if got := over(limits, at.from, at.to); math.Abs(got-want) > max(0.2*want, 1) {
						t.Errorf("seed %d, %s: %.1f of %d: %v", seed, at.what, got, at.want, limits[at.from:at.to])
					}
				}
				if possible := float64(c.capacity) * (90 + 30 + 150) / c.seconds; float64(done) < 0.9*possible {
					t.Errorf("seed %d: %d served of %.0f", seed, done, possible)
				}
			}
		})
	}
}

// A server that gets slower altogether takes as many requests as before: the limit may stumble but comes back.
func TestLimiterTellsSlowFromFull(t *testing.T) {
	l := newLimiter(0)
	limits, _ := run(1, &plant{capacity: 20, service: fixed(0.1)}, &l, 200, map[int]func(*plant){100: func(p *plant) { p.service = fixed(0.3) }})
	for _, from := range []int{60, 160} {
		if got := over(limits, from, from+40); math.Abs(got-20) > 4 {
			t.Errorf("after %d s: %.1f of 20: %v", from, got, limits[from:from+40])
		}
	}
}

// A server that works on batches takes longer the more is in one, and still serves more: its limit must not
// fall to what it does without any of that. K of 64 at once take twice as long as one, which is half of
// the throughput that any number could have.
func TestLimiterOfABatchingServer(t *testing.T) {
	for seed := range uint64(6) {
		p := &plant{capacity: 1000}
		p.service = func(r *rand.Rand) float64 { return 0.1 * (1 + float64(p.working)/64) * (0.9 + 0.2*r.Float64()) }
		l := newLimiter(0)
		limits, done := run(seed, p, &l, 200, nil)
		if done < 200*640*2/5 || over(limits, 60, 200) > 128 {
			t.Errorf("seed %d: %.0f a second of 320 with a limit of 64: %v", seed, float64(done)/200, limits[60:])
		}
	}
}

// Streams hold their slot for long after their first byte, which alone shows whether they waited inside.
func TestLimiterOfStreams(t *testing.T) {
	for seed := range uint64(5) {
		l := newLimiter(0)
		limits, _ := run(seed, &plant{capacity: 24, stream: 2, service: lognormal(0.05, 0.5), held: true}, &l, 200, map[int]func(*plant){
			100: func(p *plant) { p.capacity = 12 },
		})
		for _, at := range []struct{ from, to, want int }{{60, 100, 24}, {140, 200, 12}} {
			if got := over(limits, at.from, at.to); math.Abs(got-float64(at.want)) > 0.25*float64(at.want) {
				t.Errorf("seed %d: %.1f of %d: %v", seed, got, at.want, limits[at.from:at.to])
			}
		}
	}
}

// Gateways that send to the same server come to limits that fill it together.
func TestLimitersShareAServer(t *testing.T) {
	for seed := range uint64(4) {
		a, b := newLimiter(0), newLimiter(0)
		a.shared, b.shared = true, true
		limits, done := runAll(seed, &plant{capacity: 40, service: lognormal(0.1, 0.3)}, []*limiter{&a, &b}, 300, nil)
		ours, theirs := over(limits[0], 120, 300), over(limits[1], 120, 300)
		t.Logf("seed %d: %.1f and %.1f of 40, %d served of 120000", seed, ours, theirs, done)
		if sum := ours + theirs; sum < 32 || sum > 60 || min(ours, theirs) < 5 {
			t.Errorf("seed %d: %.1f and %.1f of 40", seed, ours, theirs)
		}
		if done < 0.9*400*300 {
			t.Errorf("seed %d: %d served of %d", seed, done, 400*300)
		}
	}
}

// Light traffic teaches nothing about how much the server takes, and forgets nothing.
func TestLimiterKeepsWhatItKnowsWhenIdle(t *testing.T) {
	l := newLimiter(0)
	limits, _ := run(1, &plant{capacity: 32, service: fixed(0.1)}, &l, 660, map[int]func(*plant){60: func(p *plant) { p.rate = 50 }}) // 5 in flight
	if learned, is := limits[59], limits[len(limits)-1]; math.Abs(float64(is-learned)) > 1 || learned < 26 || learned > 38 {
		t.Errorf("%d was learned of 32, and is %d after ten quiet minutes", learned, is)
	}
	fresh := newLimiter(0)
	limits, done := run(3, &plant{capacity: 32, service: fixed(0.1), rate: 50}, &fresh, 60, nil)
	if got := limits[len(limits)-1]; got < firstLimit || done < 2700 {
		t.Errorf("%d without a load that shows anything, %d served of 3000", got, done)
	}
}

// Half a load is enough to see that a server takes less than it did.
func TestLimiterSeesThatAServerIsFullBelowItsLimit(t *testing.T) {
	l := newLimiter(0)
	limits, _ := run(1, &plant{capacity: 40, service: lognormal(0.1, 0.3)}, &l, 150, map[int]func(*plant){
		60: func(p *plant) { p.rate = 260 },    // 26 in flight
		90: func(p *plant) { p.capacity = 20 }, // 200 a second
	})
	if got := over(limits, 130, 150); got > 24 {
		t.Errorf("%.1f of 20: %v", got, limits[80:])
	}
}

// A server that refuses what is too much for it is believed.
func TestLimiterBelievesRefusals(t *testing.T) {
	l := newLimiter(40)
	l.observe(sample{at: 1, started: 0, load: 13, refused: true})
	if l.slots() != 12 {
		t.Errorf("%d after a refusal with 13 in flight", l.slots())
	}
}

func TestNewServerBeginsWithWhatOthersKnow(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxConns = AutoSlots
	u := newTestUpstream(t, cfg, 0, 0)
	for i, s := range u.Servers() {
		if s.Slots() != firstLimit || !s.Learns() {
			t.Errorf("%s begins with %d", s.ID(), s.Slots())
		}
		l := s.learner.Load()
		run(uint64(i), &plant{capacity: 30 + 10*i, service: fixed(0.05)}, &l.limiter, 60, nil)
	}
	u.Update([]ServerSpec{{ID: "a", Addr: "127.0.0.1:a"}, {ID: "b", Addr: "127.0.0.1:b"}, {ID: "c", Addr: "c:1"}, {ID: "d", Addr: "d:1", Slots: 7}}, time.Now())
	if n := u.Server("c").Slots(); n < 28 || n > 42 {
		t.Errorf("a new server begins with %d, its neighbours take 30 and 40", n)
	}
	if d := u.Server("d"); d.Slots() != 7 || d.Learns() {
		t.Errorf("a server with a number of its own has %d", d.Slots())
	}
	u.SetGateways(2)
	if c := u.Server("c"); c.MaxConns() != 2*c.Lasting() || u.Server("d").MaxConns() != 7 {
		t.Errorf("with two gateways the servers take %d and %d", c.MaxConns(), u.Server("d").MaxConns())
	}
	asked := 0
	u.Divide(func(_ string, slots int) int { asked++; return slots })
	if asked != 1 {
		t.Errorf("%d servers are divided, want the one with a number", asked)
	}
	cfg.MaxConns = 3
	u.Configure(cfg)
	if c := u.Server("c"); c.Slots() != 3 || c.Learns() {
		t.Errorf("with a number again it has %d", c.Slots())
	}
}

// What is learned is enforced, through Acquire and Release, and one more slot serves one who waits.
func TestLearnedSlotsAreEnforced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.MaxConns, cfg.Queue = AutoSlots, QueueConfig{Size: 1000, Timeout: time.Hour}
		u := newTestUpstream(t, cfg, 0)
		s := u.Servers()[0]
		places := make(chan struct{}, 24)
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 60 {
			clients.Go(func() {
				ticket := &Ticket{}
				for {
					select {
					case <-stop:
						return
					default:
					}
					ticket.Reset()
					if err := u.Acquire(ticket, time.Now()); err != nil {
						t.Error(err)
						return
					}
					places <- struct{}{}
					time.Sleep(100 * time.Millisecond)
					<-places
					u.Release(ticket, Outcome{Status: 200}, time.Now())
				}
			})
		}
		time.Sleep(time.Minute)
		if n := s.Lasting(); n < 20 || n > 29 {
			t.Errorf("%d learned of 24", n)
		}
		before := u.Read(time.Now())
		time.Sleep(time.Minute)
		now := u.Read(time.Now())
		if served := now.Finished - before.Finished; served < 24*600*9/10 {
			t.Errorf("%d served in a minute of %d", served, 24*600)
		}
		if waits := (now.QueuedSeconds - before.QueuedSeconds) / 60; waits < 25 {
			t.Errorf("%.1f of 60 clients wait here, not in the server", waits)
		}
		close(stop)
		clients.Wait()
	})
}

// A reload that gives a number instead of "auto" has the last word, whatever requests under way teach.
func TestNumberEndsTheLearning(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Queue.Timeout = 10 * time.Second
	u := newTestUpstream(t, cfg, 0)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			ticket := &Ticket{}
			for {
				select {
				case <-stop:
					return
				default:
				}
				ticket.Reset()
				if err := u.Acquire(ticket, time.Now()); err != nil {
					t.Error(err)
					return
				}
				u.FirstByte(ticket, time.Now())
				u.Release(ticket, Outcome{Status: 200}, time.Now())
			}
		})
	}
	for i := range 300 {
		cfg.MaxConns = AutoSlots
		u.Configure(cfg)
		for u.Servers()[0].Taught() < 3 {
			runtime.Gosched()
		}
		cfg.MaxConns = 50 + i
		u.Configure(cfg)
		if s := u.Servers()[0]; s.Slots() != cfg.MaxConns || s.Learns() {
			t.Fatalf("%d slots, want %d", s.Slots(), cfg.MaxConns)
		}
	}
	close(stop)
	clients.Wait()
	if n := u.Servers()[0].Slots(); n != cfg.MaxConns {
		t.Errorf("%d slots at the end, want %d", n, cfg.MaxConns)
	}
}
