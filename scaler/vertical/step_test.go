package vertical

import (
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	rec := Recommendation{Target: Resources{.5, 200 * mib}, Lower: Resources{.4, 150 * mib}, Upper: Resources{1, 400 * mib}}
	oom := rec
	oom.OOM, oom.Target.Memory, oom.Lower.Memory = 300*mib, 300*mib, 300*mib
	for _, one := range []struct {
		what      string
		has, uses Resources
		blind     bool
		rec       Recommendation
		to        Resources
		why       string
	}{
		{"within", Resources{.4, 400 * mib}, Resources{.1, 100 * mib}, false, rec, Resources{}, ""},
		{"within, but for rounding", Resources{.3999, 401 * mib}, Resources{.1, 100 * mib}, false, rec, Resources{}, ""},
		{"both too small", Resources{.1, 100 * mib}, Resources{.1, 90 * mib}, false, rec, Resources{.5, 200 * mib}, "0.1 cores to 0.5 cores; 100 MiB to 200 MiB"},
		{"both too large", Resources{4, 4096 * mib}, Resources{.1, 90 * mib}, false, rec, Resources{.5, 200 * mib}, "4 cores to 0.5 cores; 4096 MiB to 200 MiB"},
		{"one of them", Resources{.6, 4096 * mib}, Resources{.1, 90 * mib}, false, rec, Resources{0, 200 * mib}, "4096 MiB to 200 MiB"},
		{"uses more now: as far as that", Resources{4, 4096 * mib}, Resources{2, 1000 * mib}, false, rec, Resources{2.3, 1150 * mib}, "4 cores to 2.3 cores; 4096 MiB to 1150 MiB"},
		{"uses all of it", Resources{.5, 500 * mib}, Resources{.1, 450 * mib}, false, rec, Resources{}, "stays at 500 MiB, not 200 MiB: it uses 450 MiB"},
		{"too large, and its use is not known", Resources{4, 200 * mib}, Resources{}, true, rec, Resources{}, "stays at 4 cores: what it uses is not known"},
		{"too small, and its use is not known", Resources{.1, 200 * mib}, Resources{}, true, rec, Resources{.5, 0}, "0.1 cores to 0.5 cores"},
		{"without limits", Resources{}, Resources{3, 900 * mib}, false, rec, Resources{}, ""},
		{"ran out of memory", Resources{.5, 200 * mib}, Resources{.1, 20 * mib}, false, oom, Resources{0, 300 * mib}, "200 MiB to 300 MiB after running out of it"},
		{"too small, uses more than it may have", Resources{.5, 100 * mib}, Resources{.1, 190 * mib}, false, rec, Resources{0, 200 * mib}, "100 MiB to 200 MiB"},
		{"nothing recommended", Resources{.5, 100 * mib}, Resources{}, false, Recommendation{}, Resources{}, ""},
	} {
		to, why := Next(Replica{Has: one.has, Uses: one.uses, Known: !one.blind}, one.rec)
		if to != one.to || why != one.why {
			t.Errorf("%s: %v (%s), not %v (%s)", one.what, to, why, one.to, one.why)
		}
		if strings.Contains(why, " to ") && to != (Resources{}) { // done, nothing more is to do
			has := one.has
			if to.CPUs > 0 {
				has.CPUs = to.CPUs
			}
			if to.Memory > 0 {
				has.Memory = to.Memory
			}
			if again, why := Next(Replica{Has: has, Uses: one.uses, Known: !one.blind}, one.rec); again != (Resources{}) {
				t.Errorf("%s: then again %v (%s)", one.what, again, why)
			}
		}
	}
	if got := rec.Fit(Resources{4, 0}); got != (Resources{.5, 0}) {
		t.Errorf("a new one starts with %v", got)
	}
	if got := (Recommendation{}).Fit(Resources{4, 5}); got != (Resources{4, 5}) {
		t.Errorf("without a recommendation a new one starts with %v", got)
	}
}
