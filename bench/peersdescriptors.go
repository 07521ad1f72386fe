package main

import "syscall"

// descriptorsFor is how many descriptors a proxy must be allowed that holds n streams: two for each, and a share of an eighth, because
// nginx and sluice refuse clients before the last is gone. streamsWithin is the other way round.
func descriptorsFor(n int) int { return (2*n + otherDescriptors) * 8 / 7 }

func streamsWithin(descriptors int) int { return max(1, (descriptors*7/8-otherDescriptors)/2) }

// otherDescriptors are left for listeners, files, and what is being accepted.
const otherDescriptors = 400

// descriptorsOf is how many the workloads need, at most.
func descriptorsOf(ws []workload) (n int) {
	for _, w := range ws {
		n = max(n, descriptorsFor(w.connections))
	}
	return n
}

// raiseDescriptors allows this process want descriptors, or as many as the hard limit does where that cannot be raised, and returns
// what the hard limit is then. The peers raise their own to it, and the runtime has done so here.
func raiseDescriptors(want int) (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	if limit.Max < uint64(want) {
		more := syscall.Rlimit{Cur: uint64(want), Max: uint64(want)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
			return want, nil
		}
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			return 0, err
		}
	}
	return int(min(limit.Max, 1<<20)), nil
}
