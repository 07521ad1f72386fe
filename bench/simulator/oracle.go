package simulator

import (
	"container/heap"
	"slices"
	"time"
)

// oracle knows the whole trace: nobody waits, every request takes the lowest slot that is free, and a replica that
// is idle is kept only when its next request comes sooner than another would start. What it costs is what the trace
// costs at least without waiting, without moving requests.
func oracle(t Trace, s Setup) *Result {
	r := newResult(t, s)
	r.Policy = "oracle"
	type span struct{ from, to time.Duration }
	var free indices
	var busy events // request holds the slot
	var replicas [][]span
	slots := 0
	for i, q := range t.Requests {
		for len(busy) > 0 && busy[0].at <= q.At {
			heap.Push(&free, heap.Pop(&busy).(event).request)
		}
		if len(free) == 0 {
			heap.Push(&free, slots)
			slots++
		}
		slot := heap.Pop(&free).(int)
		heap.Push(&busy, event{at: q.At + q.Service, request: slot})
		r.wait(i, 0)
		k := slot / s.Slots
		if k == len(replicas) {
			replicas = append(replicas, nil)
		}
		if list := replicas[k]; len(list) > 0 && q.At-list[len(list)-1].to <= s.Start {
			list[len(list)-1].to = max(list[len(list)-1].to, q.At+q.Service)
		} else {
			replicas[k] = append(list, span{q.At, q.At + q.Service})
		}
		if paid := min(q.At+q.Service, t.Length) - q.At; paid > 0 {
			r.busy += paid.Seconds()
		}
	}
	for len(replicas) < s.Min {
		replicas = append(replicas, nil)
	}
	changes := map[time.Duration]int{}
	for k, list := range replicas {
		if k < s.Min {
			list = []span{{0, t.Length}}
		}
		for _, sp := range list {
			from, to := max(sp.from-s.Start, 0), min(sp.to, t.Length)
			r.paid += max(to-from, 0).Seconds()
			changes[from]++
			changes[sp.to]--
		}
	}
	times := make([]time.Duration, 0, len(changes))
	for at := range changes {
		times = append(times, at)
	}
	slices.Sort(times)
	n := 0
	for _, at := range times {
		for r.length > 0 && len(r.Series) < int(min(at, r.length)/second) {
			r.Series = append(r.Series, Sample{Ready: n, Replicas: n})
		}
		if n += changes[at]; changes[at] != 0 && at > 0 {
			r.action(at, changes[at])
		}
		r.Peak = max(r.Peak, n)
	}
	r.finish()
	return r
}

// indices is a heap of free slots, lowest first.
type indices []int

func (x indices) Len() int           { return len(x) }
func (x indices) Less(i, j int) bool { return x[i] < x[j] }
func (x indices) Swap(i, j int)      { x[i], x[j] = x[j], x[i] }
func (x *indices) Push(v any)        { *x = append(*x, v.(int)) }
func (x *indices) Pop() any {
	old := *x
	last := old[len(old)-1]
	*x = old[:len(old)-1]
	return last
}
