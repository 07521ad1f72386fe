package main

import "syscall"

// raiseDescriptors allows this process, and the peers that it starts, as many descriptors as the hard limit does, and returns that
// number. The runtime raises its own by itself, but gives children what was there before unless it was set here.
func raiseDescriptors() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Max, 1<<20)), nil
}
