package scaler

import "math"

// ServiceTime is the decayed mean of how long requests have their slot. While none or few have finished, it is what
// those under way have had so far over those that finished, and one: an estimate by which the load (arrivals times
// service time) is still no more than what is in flight, by Little's law.
type ServiceTime struct {
	// Finished requests, the slot-seconds that those had (Served) and that all had (Occupied), decayed.
	Finished float64 `json:"finished"`
	Served   float64 `json:"served"`
	Occupied float64 `json:"occupied"`
	// RecentlyFinished and RecentlyOccupied are Finished and Occupied over serviceRecent seconds.
	RecentlyFinished float64 `json:"recently_finished"`
	RecentlyOccupied float64 `json:"recently_occupied"`
	// Mean is in seconds; 0 while nothing is known. Without traffic it stays what it was.
	Mean float64 `json:"mean"`
}

// The memory is ten service times, within the first two; in seconds.
const (
	serviceMemoryLeast = 60
	serviceMemoryMost  = 3600
	serviceRecent      = 10
)

func (t *ServiceTime) add(dt float64, sig Signal) {
	keep := math.Exp(-dt / max(serviceMemoryLeast, min(10*t.Mean, serviceMemoryMost)))
	t.Finished = t.Finished*keep + sig.Finished
	recent := math.Exp(-dt / serviceRecent)
	t.RecentlyFinished = t.RecentlyFinished*recent + sig.Finished
	t.RecentlyOccupied = t.RecentlyOccupied*recent + sig.InFlight*dt
	t.Served = t.Served*keep + sig.Served
	t.Occupied = t.Occupied*keep + sig.InFlight*dt
	if t.Finished < 1e-3 && t.Occupied < 1e-3 {
		return
	}
	least := t.Occupied / (t.Finished + 1)
	if t.Finished < .5 {
		least = max(least, t.Mean)
	} else {
		least = max(least, t.Served/t.Finished)
	}
	if least > 0 {
		t.Mean = least
	}
}
