package admin

import (
	"slices"
	"strings"
	"time"

	"sluice/balancer"
	"sluice/scaler"
	"sluice/scaler/vertical"
)

// Status is what GET /api/v1/status answers: the whole of a running sluice at one time.
type Status struct {
	Version string       `json:"version"`
	Ready   bool         `json:"ready"`
	Why     string       `json:"why,omitempty"` // not ready
	At      time.Time    `json:"at"`
	Config  ConfigStatus `json:"config"`
	Engine  EngineStatus `json:"engine"`
	// Peers is absent for a gateway that is alone.
	Peers *PeersStatus `json:"peers,omitempty"`
	// Upstreams are sorted by name.
	Upstreams []UpstreamStatus `json:"upstreams"`
	Notes     []Note           `json:"notes,omitempty"`
}

// Running is what the gateway itself knows of its configuration and its engine.
type Running struct {
	Config ConfigStatus
	Engine EngineStatus
	Peers  *PeersStatus // nil: it is alone
	// Notes are what ails the gateway as a whole, as labels that were refused.
	Notes []Note
	// LabelsRefused is how many labels of containers are refused now: they ask for what is another's, or make no sense.
	LabelsRefused int
}

// ConfigStatus says which configuration is in use.
type ConfigStatus struct {
	File string `json:"file"`
	// Generation is 1 for the configuration that sluice started with, one more after each successful reload.
	Generation uint64    `json:"generation"`
	LoadedAt   time.Time `json:"loaded_at"`
	// Error is why the last reload changed nothing; "" when it succeeded.
	Error string `json:"error"`
	// TriedAt is when the last reload was tried, successful or not; zero when there was none.
	TriedAt time.Time `json:"tried_at,omitzero"`
}

// EngineStatus says which engine sluice uses.
type EngineStatus struct {
	// Kind is "none" or "docker".
	Kind string `json:"kind"`
	// Why says in words how it was chosen, or what is wrong with it.
	Why string `json:"why,omitempty"`
}

// PeersStatus says who the gateways are that work as one, as this one sees them.
type PeersStatus struct {
	// Gateway is this one's id, Gateways how many there are, this one included; 0 while they were never listed.
	Gateway  string `json:"gateway"`
	Gateways int    `json:"gateways"`
	// Members are their ids, or an address while who is there has not been heard.
	Members []string `json:"members,omitempty"`
	// Scales: this one starts and stops replicas. Scaler is the id of the one that does; "" when none is known.
	Scales bool   `json:"scales"`
	Scaler string `json:"scaler"`
	// Trouble is why the gateways cannot be listed (the last list holds) or the lease that lets one scale cannot be had.
	Trouble string `json:"trouble,omitempty"`
}

const (
	modeApply = "apply" // scale.mode, as everywhere
	modeFixed = "fixed" // no scale at all
)

// UpstreamStatus is one upstream: its replicas as the scaler sees them, its load and its servers.
type UpstreamStatus struct {
	Name string `json:"name"`
	// Wanted, Min and Max are all the number of servers when Mode is "fixed".
	Wanted    int `json:"wanted"`
	Ready     int `json:"ready"`
	Starting  int `json:"starting"`
	Draining  int `json:"draining"`
	Unhealthy int `json:"unhealthy"` // ejected and open breakers included
	Min       int `json:"min"`
	Max       int `json:"max"`
	// Schedule says which rule of scale.schedule holds Min up; "" is none.
	Schedule string `json:"schedule,omitempty"`
	InFlight int    `json:"in_flight"`
	Queue    int    `json:"queue"`
	// QueueHigh and QueueLow are those of Queue that have a high and a low priority.
	QueueHigh int `json:"queue_high,omitempty"`
	QueueLow  int `json:"queue_low,omitempty"`
	// OldestWait is how long the first in the queue waits, in seconds.
	OldestWait float64 `json:"oldest_wait_s"`
	// Reason is the last decision in words, DecidedAt when it was made.
	Reason    string     `json:"reason"`
	DecidedAt *time.Time `json:"decided_at,omitempty"`
	// Mode is apply, observe, off, or fixed.
	Mode   string `json:"mode"`
	Driver string `json:"driver,omitempty"`
	Pinned bool   `json:"pinned,omitempty"`
	// PinnedUntil is absent for a pin that holds until "auto".
	PinnedUntil *time.Time `json:"pinned_until,omitempty"`
	// Failure is why replicas do not start; Alarm is what an operator should look at.
	Failure string `json:"failure,omitempty"`
	Alarm   string `json:"alarm,omitempty"`
	// FailedStarts counts replicas that never got ready, or ended soon after.
	FailedStarts uint64 `json:"failed_starts,omitempty"`
	// Vertical is what each replica should have; absent where scale.vertical is off.
	Vertical *VerticalStatus `json:"vertical,omitempty"`
	Servers  []ServerStatus  `json:"servers"`
	// Notes are what discovery found and does not route to.
	Notes []Note `json:"notes,omitempty"`

	recent []scaler.Event // for the event stream
}

// ServerStatus is one server. State is one of balancer's, Reason why it is not ready.
type ServerStatus struct {
	ID       string `json:"id"`
	Addr     string `json:"addr"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	InFlight int    `json:"in_flight"`
	// Slots is how many requests it may have in flight; 0 is no bound. Learned says that it was learned (max_conns =
	// "auto"): a few more or less are tried from time to time.
	Slots   int  `json:"slots"`
	Learned bool `json:"learned,omitempty"`
	// LearnedFrom is how many requests have shown how long they take; while there are few, Slots is a guess.
	LearnedFrom int  `json:"learned_from,omitempty"`
	Weight      int  `json:"weight"`
	Backup      bool `json:"backup,omitempty"`
}

// VerticalStatus is what replicas should have, and have. Mode is recommend or apply; Reason and Failure are in words.
type VerticalStatus struct {
	Mode string `json:"mode"`
	// Recommendation is absent while nothing is known. Upper is so high as to be no bound while next to nothing is.
	*vertical.Recommendation
	Replicas []ReplicaResources `json:"replicas,omitempty"`
	Reason   string             `json:"reason,omitempty"`
	Failure  string             `json:"failure,omitempty"`
}

// ReplicaResources are what one replica may use; 0 is no limit.
type ReplicaResources struct {
	ID string `json:"id"`
	vertical.Resources
	// Waits is why a change that was asked for is not done.
	Waits string `json:"waits,omitempty"`
}

func verticalStatus(v *scaler.VerticalStatus) *VerticalStatus {
	if v == nil {
		return nil
	}
	st := &VerticalStatus{Mode: v.Mode, Reason: v.Reason, Failure: v.Trouble}
	if v.Known {
		st.Recommendation = &v.Recommendation
	}
	for _, a := range v.Replicas {
		st.Replicas = append(st.Replicas, ReplicaResources{a.Replica, a.Has, a.Waits})
	}
	return st
}

// Note says why something that discovery found is not routed to.
type Note struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Status puts together what the gateway, its upstreams and their scalers say now.
func (s *Server) Status() Status {
	now := time.Now()
	running := s.gateway.Running()
	st := Status{Version: s.version, Ready: true, At: now, Config: running.Config, Engine: running.Engine, Peers: running.Peers, Notes: running.Notes, Upstreams: []UpstreamStatus{}}
	if err := s.gateway.Ready(); err != nil {
		st.Ready, st.Why = false, err.Error()
	}
	for _, u := range s.gateway.Upstreams() {
		st.Upstreams = append(st.Upstreams, upstreamStatus(u, now))
	}
	slices.SortFunc(st.Upstreams, func(a, b UpstreamStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

func upstreamStatus(u Upstream, now time.Time) UpstreamStatus {
	var sc scaler.Status
	if u.Scaler != nil {
		sc = u.Scaler.Status() // before the servers are counted: what it says of replicas is a little older
	}
	r := u.Read(now)
	servers := u.Servers()
	st := UpstreamStatus{
		Name: u.Name(), Mode: modeFixed, Driver: u.Driver, Notes: u.Notes,
		Wanted: len(servers), Min: len(servers), Max: len(servers),
		Ready: r.Ready, Starting: r.Starting, Draining: r.Draining, Unhealthy: r.Unhealthy,
		InFlight: r.InFlight, Queue: r.Queued, QueueHigh: r.QueuedHigh, QueueLow: r.QueuedLow, OldestWait: r.OldestWait.Seconds(),
		Servers: make([]ServerStatus, 0, len(servers)),
	}
	if u.Scaler != nil {
		st.Schedule = sc.Schedule
		st.Mode, st.Reason, st.Failure, st.Alarm, st.FailedStarts = sc.Mode, sc.Reason, sc.Failure, sc.Alarm, sc.FailedStarts
		st.recent = u.Scaler.Recent()
		st.Wanted, st.Min, st.Max = sc.Wanted, sc.Min, sc.Max
		for _, id := range sc.Coming {
			if u.Server(id) == nil { // asked for and not found yet; those that were found are counted as they are now
				st.Starting++
			}
		}
		st.Vertical = verticalStatus(sc.Vertical)
		st.DecidedAt = instant(sc.At)
		if st.Pinned = sc.Pinned; st.Pinned {
			st.PinnedUntil = instant(sc.Until)
		}
	}
	for _, server := range servers {
		st.Servers = append(st.Servers, serverStatus(server, now))
	}
	slices.SortFunc(st.Servers, func(a, b ServerStatus) int { return strings.Compare(a.ID, b.ID) })
	return st
}

func serverStatus(s *balancer.Server, now time.Time) ServerStatus {
	state, why := s.State(now)
	return ServerStatus{
		ID: s.ID(), Addr: s.Addr(), State: state.String(), Reason: why,
		InFlight: s.InFlight(), Slots: s.Lasting(), Learned: s.Learns(), LearnedFrom: s.Taught(), Weight: s.Weight(), Backup: s.Backup(),
	}
}

// instant is nil for the zero time.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
