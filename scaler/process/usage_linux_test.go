package process

import (
	"context"
	"math"
	"testing"
	"time"

	"sluice/scaler"
)

// usageOf asks for the usage of the only replica until ok.
func usageOf(t *testing.T, d *Driver, ok func(scaler.Usage) bool) {
	t.Helper()
	list, _ := d.List(context.Background())
	var all []scaler.Usage
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(100 * time.Millisecond) {
		all = d.Usage()
		if len(all) == 1 && all[0].Replica == list[0].ID && all[0].Fresh(time.Now()) && all[0].Why == "" && all[0].Of == "one core" &&
			all[0].CPUShare == all[0].CPU && math.IsNaN(all[0].MemoryShare) && ok(all[0]) {
			t.Logf("after %s: %+v", time.Since(began).Round(time.Millisecond), all[0])
			return
		}
	}
	t.Fatalf("usage %+v of %+v", all, list)
}

// A replica that idles uses next to nothing; one whose child, out of reach of its group, never rests uses what it can get.
func TestUsageOfProcesses(t *testing.T) {
	idle, _ := newDriver(t, config("", time.Second))
	scale(t, idle, 1)
	usageOf(t, idle, func(u scaler.Usage) bool { return u.CPU < 0.05 && u.Memory > 1<<20 && u.Memory < 1<<30 })

	busy, _ := newDriver(t, config("burning", time.Second))
	scale(t, busy, 1)
	usageOf(t, busy, func(u scaler.Usage) bool { return u.CPU > 0.1 && u.CPU < 1.5 && u.Memory > 1<<20 })
	scale(t, busy, 0)
	for began := time.Now(); len(busy.Usage()) != 0; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("of what has ended: %+v", busy.Usage())
		}
	}
}
