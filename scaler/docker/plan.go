package docker

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// member is one container of the upstream as the engine lists it.
type member struct {
	id, name string
	labels   map[string]string
	image    string // id of its image as the engine lists it
	state    string // in the engine's words: created, running, paused, restarting, removing, exited, dead
	created  time.Time
	addr     string
	number   int  // the number in its name: ordinal of a declared replica, container number in Compose
	fixed    bool // made by Compose itself: counts, and is never stopped
	outdated bool // made from an older declaration
	stopping bool // this driver is stopping it
}

// is tells whether id, long or short, is that of m.
func (m *member) is(id string) bool { return id == m.id || id == short(m.id) }

// ended tells that the process in it is gone and nothing will bring it back.
func (m *member) ended() bool { return m.state == "exited" || m.state == "dead" }

// counts tells that it is, or is about to be, a server.
func (m *member) counts() bool { return !m.ended() && m.state != "removing" && !m.stopping }

// plan is what is to be done to have n replicas, in this order.
type plan struct {
	remove []*member // ended, or created from an older declaration and never started
	stop   []*member
	start  []*member // created by someone who did not get round to starting them
	create int       // how many new ones
	free   []int     // numbers for them, lowest first; may be fewer, while others are being stopped
	kept   []string  // ids of victims that may not be stopped
}

// bounds are the limits of one upstream. first is the lowest number that a name bears.
type bounds struct {
	first, max int
	clones     bool // replicas are copies of one that runs: the last of those stays
}

// makePlan compares what there is with what is wanted. It touches nothing.
//
// Numbers are taken from the lowest free one up and never beyond max, so that two who decide at once ask the
// engine for the same names, and the engine refuses the second. While a replica of an older declaration
// runs, one more than max is allowed, for the one that takes its place.
func makePlan(members []*member, n int, victims []string, b bounds) plan {
	var p plan
	var alive []*member
	used := make(map[int]bool)
	limit, fixed := b.max, 0
	for _, m := range members {
		switch {
		case m.fixed:
			used[m.number] = true
			if m.counts() {
				fixed++
				alive = append(alive, m)
			}
		case m.ended() && !m.stopping, m.state == "created" && m.outdated:
			p.remove = append(p.remove, m) // its number is free again before a new one is made
		default:
			used[m.number] = true
			if m.counts() {
				alive = append(alive, m)
				if m.outdated {
					limit = b.max + 1
				}
			}
		}
	}
	n = max(0, min(n, limit))
	if b.clones && fixed == 0 && len(alive) > 0 {
		n = max(n, 1)
	}

	for _, id := range victims {
		i := slices.IndexFunc(alive, func(m *member) bool { return m.is(id) })
		switch {
		case i < 0: // gone already
		case alive[i].fixed, b.clones && len(alive) == 1:
			p.kept = append(p.kept, id)
		default:
			p.stop = append(p.stop, alive[i])
			alive = slices.Delete(alive, i, i+1)
		}
	}
	if surplus := len(alive) - n; surplus > 0 {
		order := slices.DeleteFunc(slices.Clone(alive), func(m *member) bool { return m.fixed })
		slices.SortStableFunc(order, leastMissed)
		for _, m := range order[:min(surplus, len(order))] {
			if m.state == "created" {
				p.remove = append(p.remove, m)
			} else {
				p.stop = append(p.stop, m)
			}
			alive = slices.DeleteFunc(alive, func(a *member) bool { return a == m })
		}
	}
	for _, m := range alive {
		if m.state == "created" && !m.fixed {
			p.start = append(p.start, m)
		}
	}

	p.create = max(0, n-len(alive))
	end := b.first + limit
	for _, m := range alive {
		if m.number < b.first || m.number >= b.first+limit {
			end-- // it takes one of the places, though not one of the numbers
		}
	}
	for _, m := range members {
		if m.fixed && m.ended() && m.number >= b.first && m.number < b.first+limit {
			end++ // it takes one of the numbers, though not one of the places
		}
	}
	for number := b.first; number < end; number++ {
		if !used[number] {
			p.free = append(p.free, number)
		}
	}
	return p
}

// leastMissed orders replicas by how little is lost with them: not running yet, of an older declaration,
// youngest, highest number.
func leastMissed(a, b *member) int {
	rank := func(m *member) int {
		switch {
		case m.state == "created":
			return 0
		case m.state != "running":
			return 1
		case m.outdated:
			return 2
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.created.Compare(a.created), cmp.Compare(b.number, a.number))
}

// short is the id by which the rest of sluice knows a container: the first 12 digits, as the engine's own
// tools show it.
func short(id string) string { return id[:min(12, len(id))] }

// numberOf reads a label that holds a number; -1 when it does not.
func numberOf(label string) int {
	n, err := strconv.Atoi(label)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
