package privsep

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/scaler"
)

var _ scaler.Gauge = (*Remote)(nil)

// meteredEngine measures two replicas.
type meteredEngine struct {
	*engine
	at time.Time
}

func (m meteredEngine) Usage() []scaler.Usage {
	nan := math.NaN()
	return []scaler.Usage{
		{Replica: "a", At: m.at, CPU: 0.25, Memory: 5 << 20, CPUShare: 0.5, MemoryShare: nan, Of: "limit", Every: time.Second},
		{Replica: "b", CPU: nan, CPUShare: nan, MemoryShare: nan, Why: "no statistics"},
	}
}

func TestUsageOverTheSocket(t *testing.T) {
	path, e := filepath.Join(t.TempDir(), "run", "scaler.sock"), newEngine()
	at := time.Now().Add(-time.Second)
	end := scalerAt(t, path, e, meteredEngine{e, at})
	client := NewClient(path)
	defer client.Close()
	r := client.Remote("api", "docker", quiet)
	// heard asks until it is as it should be.
	heard := func(what string, ok func([]scaler.Usage) bool) {
		t.Helper()
		began := time.Now()
		for !ok(r.Usage()) {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: %+v", what, r.Usage())
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	heard("both", func(us []scaler.Usage) bool { return len(us) == 2 })
	us := r.Usage()
	if a := us[0]; a.Replica != "a" || !a.At.Equal(at) || a.CPU != 0.25 || a.Memory != 5<<20 || a.CPUShare != 0.5 || !math.IsNaN(a.MemoryShare) || a.Of != "limit" || a.Every != time.Second || a.Why != "" {
		t.Errorf("%+v", a)
	}
	if b := us[1]; b.Replica != "b" || !b.At.IsZero() || !math.IsNaN(b.CPU) || b.Why != "no statistics" {
		t.Errorf("%+v", b)
	}
	end() // the last measurements stay, with the reason why there are none since
	heard("the scaler is away", func(us []scaler.Usage) bool {
		return len(us) == 2 && us[0].At.Equal(at) && strings.Contains(us[0].Why, "does not answer")
	})
}

// An engine that measures nothing is not asked in vain without a word: the scaler says so.
func TestUsageOfADriverThatDoesNotMeasure(t *testing.T) {
	path, _ := start(t)
	client := NewClient(path)
	defer client.Close()
	var l listing
	err := client.call(context.Background(), "GET", "list", map[string][]string{"upstream": {"api"}, "usage": {"1"}}, nil, &l)
	if err == nil || !strings.Contains(err.Error(), "does not measure what replicas of upstream api use") {
		t.Errorf("error %v", err)
	}
}
