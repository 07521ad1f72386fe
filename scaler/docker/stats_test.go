package docker

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
)

// testdata/stats/cgroup1.jsonl is what an engine (20.10, control groups of version 1) sent of a container with half a
// core and 64 MiB: five lines while it ran, and one after it was stopped.
func recorded(t *testing.T) (all []container.StatsResponse) {
	t.Helper()
	text, err := os.ReadFile("testdata/stats/cgroup1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for lines := json.NewDecoder(bytes.NewReader(text)); lines.More(); {
		var s container.StatsResponse
		if err := lines.Decode(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if len(all) != 6 {
		t.Fatalf("%d lines", len(all))
	}
	return all
}

func TestRecordedStatistics(t *testing.T) {
	all := recorded(t)
	var last sample
	for i, want := range []float64{-1, 0.1354, 0.1464, 0.1558, 0.1404} { // -1: not known from the first line alone
		is, runs := sampleOf(&all[i])
		if !runs {
			t.Fatalf("line %d is none of a container that runs", i)
		}
		used, known := cores(last, is)
		if known != (want >= 0) || known && math.Abs(used-want) > 1e-4 {
			t.Errorf("line %d: %v cores (known: %v), want %v", i, used, known, want)
		}
		last = is
		if got := memoryOf(&all[i].MemoryStats); got != 36462592-1404928 {
			t.Errorf("line %d: %d bytes", i, got)
		}
	}
	stopped := &all[5]
	if _, runs := sampleOf(stopped); runs {
		t.Errorf("a container that was stopped is measured: %+v", stopped)
	}
}

func TestCores(t *testing.T) {
	at := time.Unix(1000, 0)
	for what, c := range map[string]struct {
		from, to sample
		used     float64
		known    bool
	}{
		"two cores":            {sample{at, 5e9}, sample{at.Add(2 * time.Second), 9e9}, 2, true},
		"nothing":              {sample{at, 5e9}, sample{at.Add(time.Second), 5e9}, 0, true},
		"the first":            {sample{}, sample{at, 5e9}, 0, false},
		"begun anew":           {sample{at, 5e9}, sample{at.Add(time.Second), 1e9}, 0, false},
		"twice the same":       {sample{at, 5e9}, sample{at, 5e9}, 0, false},
		"the clock went back":  {sample{at, 5e9}, sample{at.Add(-time.Second), 6e9}, 0, false},
		"after a long silence": {sample{at, 5e9}, sample{at.Add(time.Minute), 35e9}, 0.5, true},
	} {
		if used, known := cores(c.from, c.to); used != c.used || known != c.known {
			t.Errorf("%s: %v, %v", what, used, known)
		}
	}
}

func TestMemoryOf(t *testing.T) {
	for what, c := range map[string]struct {
		m    container.MemoryStats
		want int64
	}{
		"version 2":                {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 30, "file": 40}}, 70},
		"version 1: the total one": {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 1, "total_inactive_file": 30}}, 70},
		"version 1, none":          {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 30, "total_inactive_file": 0}}, 100},
		"counted at two times":     {container.MemoryStats{Usage: 100, Stats: map[string]uint64{"total_inactive_file": 130}}, 100},
		"no details":               {container.MemoryStats{Usage: 100}, 100},
	} {
		if got := memoryOf(&c.m); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
}

func TestLimitsOf(t *testing.T) {
	for what, c := range map[string]struct {
		r    container.Resources
		want limits
	}{
		"none":             {container.Resources{}, limits{}},
		"cpus and memory":  {container.Resources{NanoCPUs: 15e8, Memory: 64 << 20}, limits{1.5, 64 << 20}},
		"a quota":          {container.Resources{CPUQuota: 25_000, CPUPeriod: 50_000}, limits{0.5, 0}},
		"its usual period": {container.Resources{CPUQuota: 25_000}, limits{0.25, 0}},
		"without end":      {container.Resources{CPUQuota: -1, Memory: -1}, limits{}},
	} {
		if got := limitsOf(&container.HostConfig{Resources: c.r}); got != c.want {
			t.Errorf("%s: %+v, want %+v", what, got, c.want)
		}
	}
	if got := share(0.5, 0); !math.IsNaN(got) {
		t.Errorf("share without a limit: %v", got)
	}
}
