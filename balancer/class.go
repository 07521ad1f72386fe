package balancer

// class is the requests of one priority that wait.
//
// Those with the same key stand in one line, first come first served; one without a key is a line of its
// own. The lines take turns, one request each (Nagle, "On Packet Switches with Infinite Storage", RFC 970,
// section 6), so that a key that sends much gets no more of the slots than one that sends little, and a
// class without keys is served in the order of arrival. Joining, leaving and being served cost the same for
// any number of requests and keys, unless those that are next are bound to a busy server.
type class struct {
	rank  int // 0 is the highest priority
	all   list
	turns list            // the first of each line
	lines map[uint64]list // by key; nil until the first key waits
	// rounds[i] is how many lines have more than i requests: who is served in the i-th round of turns.
	rounds []int
	turn   uint64 // the number, among the turns of all classes, of this one's last
}

func (c *class) start(rank int) {
	c.rank, c.all.kind, c.turns.kind = rank, byArrival, byTurn
}

// line is the line of a key; empty for a request without one.
func (c *class) line(key uint64) list {
	l := c.lines[key]
	l.kind = inLine
	return l
}

func (c *class) push(t *Ticket) {
	c.all.push(t)
	if t.FairKey == 0 {
		c.turns.push(t)
		c.count(0, 1)
		return
	}
	l := c.line(t.FairKey)
	l.push(t)
	if l.n == 1 {
		c.turns.push(t)
	}
	c.count(l.n-1, 1)
	if c.lines == nil {
		c.lines = make(map[uint64]list)
	}
	c.lines[t.FairKey] = l
}

// remove takes t out. A line whose request is served has had its turn; one that loses its first otherwise keeps it.
func (c *class) remove(t *Ticket, served bool) {
	c.all.remove(t)
	if t.FairKey == 0 {
		c.turns.remove(t)
		c.count(0, -1)
		return
	}
	l := c.line(t.FairKey)
	head := l.first
	l.remove(t)
	c.count(l.n, -1)
	switch {
	case l.n == 0:
		c.turns.remove(head)
		delete(c.lines, t.FairKey)
		return
	case served:
		c.turns.remove(head)
		c.turns.push(l.first)
	case head == t:
		c.turns.replace(t, l.first)
	}
	c.lines[t.FairKey] = l
}

func (c *class) count(round, by int) {
	if round == len(c.rounds) {
		c.rounds = append(c.rounds, 0)
	}
	c.rounds[round] += by
}

// ahead is how many requests of the class are served before one that comes now with this key, those of its
// last round included. It looks at as many rounds as the key has requests.
func (c *class) ahead(key uint64) int {
	n := 0
	for _, lines := range c.rounds[:min(c.line(key).n+1, len(c.rounds))] {
		n += lines
	}
	return n
}

// height is the rank that the class's next request has risen to at now; 0 is the highest.
func (c *class) height(now, step int64) int {
	return max(c.rank-int(max(now-c.turns.first.since, 0)/step), 0)
}
