package main

import (
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// leastHeap is what the heap may grow to before it is collected, in bytes. By its own rule the runtime lets it double,
// and a gateway that holds 3 MB would be collected twelve times a second by the handshakes of a single core.
const leastHeap = 16 << 20

// settleMemory tells the collector how much memory there is: it works harder towards nine tenths of what the container
// may have, if that is limited, and not at all below leastHeap. GOMEMLIMIT and GOGC, where they are set, count instead.
func settleMemory(log *slog.Logger) {
	limit, err := memlimit.Set()
	if err != nil {
		log.Debug("the collector heeds no memory limit", "why", err) // as where there are no cgroups
	}
	if limit < math.MaxInt64 {
		log.Info("memory is limited", "collector_limit_bytes", limit)
	}
	if _, ok := os.LookupEnv("GOGC"); ok {
		return
	}
	heap := newHeapFloor(min(leastHeap, limit/4))
	heap.hold()
	heap.afterEachCollection()
}

// heapFloor has the heap collected at a fixed size for as long as what lives in it is less than half of that, and then
// by the runtime's rule, twice what lives.
type heapFloor struct {
	floor   int64 // bytes
	percent int   // GOGC in force
	samples [3]metrics.Sample
}

func newHeapFloor(floor int64) *heapFloor {
	h := &heapFloor{floor: floor, percent: usualGOGC}
	for i, name := range []string{"/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes"} {
		h.samples[i].Name = name
	}
	return h
}

// usualGOGC is the runtime's own percentage, and leastCollected the size that it never collects below with it, in bytes;
// that size grows with the percentage.
const (
	usualGOGC      = 100
	leastCollected = 4 << 20
)

// percentFor is the GOGC by which a heap of which live bytes are in use is collected at floor bytes; roots are the
// bytes of stacks and globals, of which the runtime grants the same share beside.
func percentFor(floor, live, roots int64) int {
	percent := floor * usualGOGC / leastCollected // enough while little lives
	if live+roots > 0 {
		percent = min(percent, (floor-live)*100/(live+roots))
	}
	return int(max(percent, usualGOGC))
}

// hold sets GOGC by what lives in the heap since the last collection. Setting it stops the world for a moment, so
// changes of less than a fifth are left for later.
func (h *heapFloor) hold() {
	metrics.Read(h.samples[:])
	var sizes [3]int64
	for i, s := range h.samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return
		}
		sizes[i] = int64(s.Value.Uint64())
	}
	want := percentFor(h.floor, sizes[0], sizes[1]+sizes[2])
	if want == h.percent || want != usualGOGC && want > h.percent*4/5 && want < h.percent*6/5 {
		return
	}
	h.percent = want
	debug.SetGCPercent(want)
}

// afterEachCollection holds again after every collection: that is when the cleanup of something that nobody refers to
// runs.
func (h *heapFloor) afterEachCollection() {
	runtime.AddCleanup(&struct{ _ *byte }{}, func(h *heapFloor) {
		h.hold()
		h.afterEachCollection()
	}, h)
}
