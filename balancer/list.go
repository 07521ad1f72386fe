package balancer

// list is a list through the tickets themselves, so that one that leaves early costs nothing. A ticket can
// be in one list of each kind at a time.
type list struct {
	kind        listKind
	n           int
	first, last *Ticket
}

// listKind says which of a ticket's links a list uses.
type listKind uint8

const (
	byArrival listKind = iota // all of a class
	byTurn                    // the first of each line, in the order of their turns
	inLine                    // the requests of one key
	listKinds
)

// links are a ticket's neighbours in one list.
type links struct{ prev, next *Ticket }

func (l *list) push(t *Ticket) {
	t.links[l.kind] = links{prev: l.last}
	if l.last != nil {
		l.last.links[l.kind].next = t
	} else {
		l.first = t
	}
	l.last = t
	l.n++
}

func (l *list) remove(t *Ticket) {
	at := &t.links[l.kind]
	if at.prev != nil {
		at.prev.links[l.kind].next = at.next
	} else {
		l.first = at.next
	}
	if at.next != nil {
		at.next.links[l.kind].prev = at.prev
	} else {
		l.last = at.prev
	}
	*at = links{}
	l.n--
}

// replace puts heir in the place of t.
func (l *list) replace(t, heir *Ticket) {
	at := t.links[l.kind]
	heir.links[l.kind] = at
	if at.prev != nil {
		at.prev.links[l.kind].next = heir
	} else {
		l.first = heir
	}
	if at.next != nil {
		at.next.links[l.kind].prev = heir
	} else {
		l.last = heir
	}
	t.links[l.kind] = links{}
}
