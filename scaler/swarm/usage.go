package swarm

import (
	"math"
	"time"

	"sluice/scaler"
)

// noUsage: an engine measures the containers of its own node only, and a mean over some of the replicas would be no
// measure of all.
const noUsage = "Swarm tells nothing of what containers on other nodes use"

// Usage is scaler.Gauge's: of every replica that runs only why it is not known. Where it is asked for, the status
// says so as well.
func (d *Driver) Usage() []scaler.Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = time.Now()
	all := make([]scaler.Usage, 0, len(d.running))
	for _, id := range d.running {
		nan := math.NaN()
		all = append(all, scaler.Usage{Replica: id, CPU: nan, CPUShare: nan, MemoryShare: nan, Why: noUsage})
	}
	return all
}
