package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// peerUsage is what a process tree has used so far, and holds now.
type peerUsage struct {
	cpu      time.Duration // user and system
	switches int64         // of context, asked for or not
	rss      int64         // bytes; what processes share counts in each
}

// readUsage sums over pid and all that descend from it. Threads and processes that have ended are not in it: none of
// the peers ends any under load.
func readUsage(pid int) (peerUsage, error) {
	var u peerUsage
	for _, p := range processTree(pid) {
		dir := filepath.Join("/proc", strconv.Itoa(p))
		tasks, err := filepath.Glob(filepath.Join(dir, "task", "[0-9]*"))
		if err != nil {
			return u, err
		}
		if len(tasks) == 0 && p == pid {
			return u, fmt.Errorf("process %d is gone", pid)
		}
		for _, task := range tasks {
			// schedstat's first number is the time on a processor in ns; stat has it in ticks of 10 ms only.
			b, err := os.ReadFile(filepath.Join(task, "schedstat"))
			if err != nil {
				continue // ended just now
			}
			ran, _, _ := strings.Cut(string(b), " ")
			ns, err := strconv.ParseInt(ran, 10, 64)
			if err != nil {
				return u, fmt.Errorf("%s/schedstat: %w", task, err)
			}
			u.cpu += time.Duration(ns)
			status, err := os.ReadFile(filepath.Join(task, "status"))
			if err != nil {
				continue
			}
			u.switches += statusField(status, "voluntary_ctxt_switches") + statusField(status, "nonvoluntary_ctxt_switches")
		}
		if status, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
			u.rss += statusField(status, "VmRSS") << 10
		}
	}
	return u, nil
}

// statusField is a number of /proc/PID/status, 0 when it is not there.
func statusField(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		n, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || string(n) != name {
			continue
		}
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			return 0
		}
		v, _ := strconv.ParseInt(string(fields[0]), 10, 64)
		return v
	}
	return 0
}

// processTree is pid and its descendants.
func processTree(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		// PID (NAME) STATE PARENT …, and the name may hold anything.
		_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		parent, err1 := strconv.Atoi(fields[1])
		child, err2 := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], child)
		}
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}
