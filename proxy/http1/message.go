package http1

import "sync"

// message is what a connection holds of the message that is under way on it: the parsed head and where its body is read.
// An idle connection has none. The last one that was given back is the next to be taken, so that what a request, or an
// answer, begins with lies in the processor's cache and not in one of hundreds of connections.
//
// The plain version is a Head and a Body in each connection.
type message struct {
	head Head
	body Body
	few  [messageFields]field // where head puts its fields, unless they are more
}

var messages = sync.Pool{New: func() any { return new(message) }}

func takeMessage() *message {
	m := messages.Get().(*message)
	m.renew()
	return m
}

// renew makes m ready for another message of the same connection.
func (m *message) renew() {
	m.head.forget()
	m.head.fields = m.few[:0]
}

// giveMessage takes m back, nil for none. Nobody may use its head or body from here on.
func giveMessage(m *message) {
	if m == nil {
		return
	}
	m.head.forget()
	m.body = Body{}
	messages.Put(m)
}
