package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestHeapIsCollectedAtTheFloor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		floor, live, roots int64 // MiB
		want               int
	}{
		{16, 0, 0, 400},     // nothing collected yet: the runtime's least size, times four
		{16, 3, 0, 400},     // 3 MiB and 400 % are 15, so that least size counts
		{16, 5, 0, 220},     // 5 MiB and 220 % are 16
		{16, 4, 4, 150},     // the runtime grants 150 % of the stacks too
		{16, 8, 0, 100},     // half of the floor: from here by the runtime's rule
		{16, 100, 0, 100},   // more lives than the floor
		{2, 0, 0, 100},      // a small container's floor is no more than the runtime's own
		{16, 10, 1000, 100}, // a thousand connections' stacks
	} {
		if got := percentFor(c.floor*mib, c.live*mib, c.roots*mib); got != c.want {
			t.Errorf("floor %d, live %d, roots %d MiB: %d %%, want %d", c.floor, c.live, c.roots, got, c.want)
		}
	}
}

// What is allocated without being kept does not have the heap collected at every few megabytes, and GOGC is heeded.
func TestCollectorIsSettled(t *testing.T) {
	percent := func(t *testing.T) string {
		s := start(t, demo(`"--service-time", "1ms"`, ""))
		_, text, err := fetch(s.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "go_gc_gogc_percent "); ok {
				return strings.TrimSpace(value)
			}
		}
		t.Fatal("go_gc_gogc_percent is missing")
		return ""
	}
	if got := percent(t); got == "100" {
		t.Errorf("GOGC %s, want the floor's", got)
	}
	t.Setenv("GOGC", "90")
	if got := percent(t); got != "90" {
		t.Errorf("GOGC %s, want what the environment says", got)
	}
}

// In a container with a memory limit the collector has nine tenths of it.
func TestCollectorHeedsTheContainersLimit(t *testing.T) {
	d, owner := docker(t)
	image := d.image(owner)
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("listen = [\"127.0.0.1:8080\"]\nengine.kind = \"none\"\n[[route]]\nupstream = \"127.0.0.1:9\"\n"), 0o644); err != nil { //nolint:gosec // the container reads it
		t.Fatal(err)
	}
	id := d.run("run", "-d", "--memory", "64m", "--label", "sluice.owner="+owner, "-v", file+":/config.toml:ro", image, "run", "-c", "/config.toml")
	want := fmt.Sprintf("collector_limit_bytes=%d", 64<<20*9/10)
	within(t, 20*time.Second, want, func() bool { return strings.Contains(d.run("logs", id), want) })
}
