package process

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// tick is the unit of processor times in /proc, which is the same on every machine that Linux runs on today.
const tick = time.Second / 100

// consumption reads /proc: what the processes of pids, and all that descends from them, used. Their guards are the parents
// of what they have orphaned, and have the times of what has ended, so that a sum never falls.
func consumption(pids map[string]int) (map[string]consumed, error) {
	procs, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("/proc cannot be read: %w", err)
	}
	stats := make(map[int]procfs.ProcStat, len(procs))
	children := make(map[int][]int)
	for _, p := range procs {
		s, err := p.Stat()
		if err != nil {
			continue // it has ended meanwhile
		}
		stats[s.PID] = s
		children[s.PPID] = append(children[s.PPID], s.PID)
	}
	all := make(map[string]consumed, len(pids))
	for id, pid := range pids {
		s, there := stats[pid]
		if !there || s.PPID <= 1 {
			continue // it has ended, or its guard has and it is about to
		}
		guard := stats[s.PPID]
		sum := consumed{cpu: times(guard)}
		for list := children[guard.PID]; len(list) > 0; {
			s := stats[list[0]]
			list = append(list[1:len(list):len(list)], children[s.PID]...)
			sum.cpu += times(s)
			sum.memory += int64(s.ResidentMemory())
		}
		all[id] = sum
	}
	return all, nil
}

// times are those of a process and of the children that it has waited for.
func times(s procfs.ProcStat) time.Duration {
	return time.Duration(int(s.UTime)+int(s.STime)+s.CUTime+s.CSTime) * tick //nolint:gosec // far below
}
