package proxy

import (
	"runtime"
	"testing"
	"time"
)

func testRateLimit(t testing.TB, perSecond float64, burst int) *rateLimit {
	t.Helper()
	l, err := newRateLimit(RateLimitConfig{Rate: perSecond, Burst: burst, Key: "client_ip", Status: 429})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRateLimitTakesBurstThenRate(t *testing.T) {
	l, now := testRateLimit(t, 2, 3), time.Unix(1e9, 0)
	for i := range 3 {
		if ok, _ := l.allow(7, now); !ok {
			t.Fatalf("request %d of the burst was refused", i)
		}
	}
	for range 5 { // a refused request must not push the next one further away
		if ok, wait := l.allow(7, now); ok || wait != 500*time.Millisecond {
			t.Fatalf("beyond the burst: %v, wait %v", ok, wait)
		}
	}
	if ok, _ := l.allow(8, now); !ok {
		t.Fatal("another key has another bucket")
	}
	if ok, _ := l.allow(7, now.Add(500*time.Millisecond)); !ok {
		t.Fatal("a token is back after half a second")
	}
	if ok, _ := l.allow(7, now.Add(600*time.Millisecond)); ok {
		t.Fatal("only one token was back")
	}
}

func TestRateLimitForSlowRates(t *testing.T) {
	l, now := testRateLimit(t, 1.0/3600, 0), time.Unix(1e9, 0)
	if ok, _ := l.allow(1, now); !ok {
		t.Fatal("the first request of an hour was refused")
	}
	if ok, wait := l.allow(1, now.Add(time.Minute)); ok || wait.Round(time.Second) != 59*time.Minute {
		t.Fatalf("second one: %v, wait %v", ok, wait)
	}
}

// While there is room, growing must not forget a bucket that was drawn from.
func TestRateLimitKeepsKeysWhileItGrows(t *testing.T) {
	l, now := testRateLimit(t, 0.001, 1), time.Unix(1e9, 0)
	const keys = 20_000
	hash := func(i int) uint64 { return uint64(i+1) * 0x9E3779B97F4A7C15 }
	for i := range keys {
		l.allow(hash(i), now)
	}
	forgotten := 0
	for i := range keys {
		if ok, _ := l.allow(hash(i), now); ok {
			forgotten++
		}
	}
	if forgotten > 0 {
		t.Errorf("%d of %d keys were forgotten", forgotten, keys)
	}
}

// Promise: 10 million keys do not grow memory and cost at most 1 µs each. The time is logged, not
// asserted: the machine may be busy.
func TestRateLimitIsBounded(t *testing.T) {
	keys := 10_000_000
	if testing.Short() || raceEnabled {
		keys = 1_000_000
	}
	l, now := testRateLimit(t, 1, 5), time.Unix(1e9, 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	for i := range keys {
		l.allow(uint64(i)*0x9E3779B97F4A7C15, now)
	}
	each := time.Since(start) / time.Duration(keys)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 24<<20 {
		t.Errorf("%d keys take %d MiB", keys, grown>>20)
	}
	t.Logf("%v a key", each)
	runtime.KeepAlive(l)
}

func TestRateLimitDoesNotAllocate(t *testing.T) {
	l, now := testRateLimit(t, 1, 2), time.Unix(1e9, 0)
	l.allow(1, now)
	if n := testing.AllocsPerRun(1000, func() { l.allow(1, now) }); n != 0 {
		t.Errorf("%v allocations for a key that is known", n)
	}
}

func TestRateLimitConfigErrors(t *testing.T) {
	for _, cfg := range []RateLimitConfig{
		{Rate: 0, Key: "client_ip", Status: 429},
		{Rate: -1, Key: "client_ip", Status: 429},
		{Rate: 1, Burst: -1, Key: "client_ip", Status: 429},
		{Rate: 1, Key: "header:", Status: 429},
		{Rate: 1, Key: "uri", Status: 429},
		{Rate: 1, Key: "client_ip", Status: 200},
	} {
		if _, err := newRateLimit(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func BenchmarkRateLimit(b *testing.B) {
	l, now := testRateLimit(b, 1, 5), time.Unix(1e9, 0)
	i := uint64(0)
	for b.Loop() {
		i++
		l.allow(i*0x9E3779B97F4A7C15, now)
	}
}
