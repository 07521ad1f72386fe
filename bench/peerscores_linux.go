package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// cores are the processors that a measurement uses.
type cores struct {
	proxy, load []int
}

// chooseCores divides the processors that this process may use: one for the proxy and one for load and servers, or, with
// both, two for everything.
func chooseCores(both bool) (cores, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return cores{}, err
	}
	var all []int
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	if len(all) < 2 {
		return cores{}, fmt.Errorf("two cores are needed: one for the proxy, one for the load; there is %d", len(all))
	}
	if both {
		return cores{proxy: all[:2], load: all[:2]}, nil
	}
	return cores{proxy: all[:1], load: all[1:2]}, nil
}

func cpuSet(cpus []int) *unix.CPUSet {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return &set
}

// pinSelf keeps every thread of this process, and those still to come, on cpus until undo is called.
func pinSelf(cpus []int) (undo func(), err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	if err := pinThreads(cpuSet(cpus)); err != nil {
		return nil, err
	}
	return func() { _ = pinThreads(&before) }, nil
}

func pinThreads(set *unix.CPUSet) error {
	// Twice: a thread that is made meanwhile has the affinity of its maker.
	for range 2 {
		tasks, err := filepath.Glob("/proc/self/task/[0-9]*")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(filepath.Base(task))
			if err != nil {
				return err
			}
			if err := unix.SchedSetaffinity(tid, set); err != nil {
				if _, gone := os.Stat(task); gone == nil {
					return os.NewSyscallError("sched_setaffinity", err)
				}
			}
		}
	}
	return nil
}

// startPinned starts cmd on cpus: a child has the affinity of the thread that makes it.
func startPinned(cmd *exec.Cmd, cpus []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, cpuSet(cpus)); err != nil {
		return os.NewSyscallError("sched_setaffinity", err)
	}
	err := cmd.Start()
	_ = unix.SchedSetaffinity(0, &before)
	return err
}
