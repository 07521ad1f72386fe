package docker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	dockernet "github.com/docker/docker/api/types/network"
)

// view is what is known of the engine at one moment. Immutable; the hub publishes a new one.
type view struct {
	containers []container.Summary // all of the engine's, in any state
	networks   map[string]netInfo  // by ID
	details    map[string]detail   // by container ID, of those that a source looked for
	marks      map[string]mark     // by container ID: taken out by an event
	self       string              // ID of the container that sluice runs in; "" on the host
	listed     time.Time           // when the listing began; zero: never yet
	number     uint64              // of that listing
	err        error               // of the last attempt to list; nil when it succeeded
	streamErr  error               // why there are no events now; nil while there are
}

// netInfo is what does not change about a network.
type netInfo struct {
	name, driver string
	label        string // the name it has in its Compose file
}

// detail is what does not change about a container and no listing tells.
type detail struct {
	ports       []int // exposed TCP ports, sorted
	stopSignal  string
	stopTimeout time.Duration
}

// mark says that an event took a container out, which counts even while the listing still says
// that it runs.
type mark struct {
	why    string
	asked  bool      // it was asked to stop and may go on running for a while; else it has stopped
	fresh  bool      // it was started again: out until a listing tells its new address
	at     time.Time // when the event was received
	engine time.Time // when it happened, by the engine's clock
}

const (
	// markRace is how long after an event a listing may still show the state from before it.
	markRace = time.Second
	// askedGrace is how long a container that was asked to stop stays out while it goes on running,
	// unless its own stop timeout is longer.
	askedGrace = 2 * time.Minute
)

// settle returns the marks that still count after a listing that began at begun: a mark ends when
// the listing, or an inspection, knows better, so that a lost event keeps no container out for ever.
func settle(marks map[string]mark, v *view, begun time.Time, restarted map[string]bool) map[string]mark {
	states := make(map[string]container.ContainerState, len(v.containers))
	for i := range v.containers {
		states[v.containers[i].ID] = v.containers[i].State
	}
	kept := maps.Clone(marks)
	maps.DeleteFunc(kept, func(id string, m mark) bool {
		state, listed := states[id]
		age := begun.Sub(m.at)
		switch {
		case age <= 0: // the listing is older than the event
			return false
		case !listed || m.fresh || restarted[id]:
			return true
		case m.asked && state == container.StateRunning:
			return age > max(askedGrace, v.details[id].stopTimeout+30*time.Second)
		}
		return age > markRace
	})
	return kept
}

// trouble says in words what ails the engine; "" when nothing does.
func (v *view) trouble(now time.Time) string {
	switch {
	case v.err != nil && v.listed.IsZero():
		return "the engine cannot be asked: " + v.err.Error()
	case v.err != nil:
		return fmt.Sprintf("the engine cannot be asked: %s; the containers as of %s ago are kept", v.err, now.Sub(v.listed).Round(time.Second))
	case v.streamErr != nil:
		return fmt.Sprintf("the engine sends no events: %s; its containers are listed every %s", v.streamErr, listPeriod)
	}
	return ""
}

// find returns the container of that ID, nil when there is none.
func (v *view) find(id string) *container.Summary {
	for i := range v.containers {
		if v.containers[i].ID == id {
			return &v.containers[i]
		}
	}
	return nil
}

// attachments returns the networks that c is on, and whether it uses the host's. A container that
// joined another one's network namespace has the networks of that one.
func (v *view) attachments(c *container.Summary) (map[string]*dockernet.EndpointSettings, bool) {
	for range 4 { // joined to one that is joined, …
		id, joined := strings.CutPrefix(c.HostConfig.NetworkMode, "container:")
		if !joined {
			break
		}
		other := v.find(id)
		if other == nil {
			return nil, false
		}
		c = other
	}
	if c.HostConfig.NetworkMode == dockernet.NetworkHost {
		return nil, true
	}
	if c.NetworkSettings == nil {
		return nil, false
	}
	return c.NetworkSettings.Networks, false
}

// unsettled reports whether a running container has no address yet, as in the first moment after a
// start.
func (v *view) unsettled() bool {
	for i := range v.containers {
		c := &v.containers[i]
		if c.State != container.StateRunning || c.NetworkSettings == nil {
			continue
		}
		for name, end := range c.NetworkSettings.Networks {
			if name != dockernet.NetworkHost && name != dockernet.NetworkNone && ip(end) == "" {
				return true
			}
		}
	}
	return false
}

func ip(end *dockernet.EndpointSettings) string {
	if end == nil {
		return ""
	}
	if end.IPAddress != "" {
		return end.IPAddress
	}
	return end.GlobalIPv6Address
}

// name of a container, without the slash the engine puts before it.
func name(c *container.Summary) string {
	for _, n := range c.Names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") { // others are links
			return n
		}
	}
	return short(c.ID)
}

// short is the ID as people see it.
func short(id string) string { return id[:min(len(id), 12)] }

// list of names for people: "a, b".
func list[M ~map[string]V, V any](m M) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
