package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// fate is what the client saw of one request.
type fate uint8

const (
	unknown      fate = iota // not finished
	succeeded                // 2xx with its own id and body
	refusedEarly             // a reason that says it was not passed on
	refusedLate              // another reason: it may have reached a server
	cutByFault               // the answer had begun when its server was killed or frozen by the soak itself
	lost                     // anything else
	crossed                  // an answer that belongs to another request, or a changed body
)

// notPassedOn are the reasons of requests that no server has seen.
var notPassedOn = map[string]bool{
	"no_route": true, "no_healthy_server": true, "connect_refused": true, "connect_timeout": true, "upstream_tls": true,
	"queue_full": true, "queue_timeout": true, "rate_limited": true, "conn_limited": true, "breaker_open": true, "denied": true, "draining": true,
}

// ledger is the client's book of requests, numbered from 0. Safe for concurrent use.
type ledger struct {
	run string // makes the ids of this run different from all others

	mu    sync.Mutex
	fates []fate // guarded by mu; by number
	posts []bool // guarded by mu; by number: not idempotent
}

// open enters a new request and returns its number and id.
func (l *ledger) open(post bool) (n int, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = len(l.fates)
	l.fates, l.posts = append(l.fates, unknown), append(l.posts, post)
	return n, l.run + "-" + strconv.Itoa(n)
}

func (l *ledger) close(n int, f fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[n] = f
}

// balance is the result of joining the client's book with the servers'.
type balance struct {
	Sent      int `json:"sent"`
	Succeeded int `json:"succeeded"`
	Refused   int `json:"refused"`
	Lost      int `json:"lost"`
	// Cut counts answers that had begun when the soak itself killed or froze their server, and ended visibly
	// early: nobody can finish those. They are not lost.
	Cut        int `json:"cut"`
	Duplicated int `json:"duplicated"` // not idempotent and delivered more than once
	Crossed    int `json:"crossed"`
	// RefusedDelivered counts those that reached a server though their refusal says that they did not,
	// Undelivered those that succeeded though no server has seen them.
	RefusedDelivered int `json:"refused_delivered"`
	Undelivered      int `json:"undelivered"`
	// RefusedIdempotent is the part of Refused that could have been tried elsewhere without harm.
	RefusedIdempotent int `json:"refused_idempotent"`
	// Repeated counts idempotent requests that were delivered more than once, which is allowed.
	Repeated int `json:"repeated"`
}

// clean tells whether every promise was kept.
func (b balance) clean() bool {
	return b.Lost == 0 && b.Duplicated == 0 && b.Crossed == 0 && b.RefusedDelivered == 0 && b.Undelivered == 0 &&
		b.Sent == b.Succeeded+b.Refused+b.Cut && b.Sent > 0
}

// join reads the servers' book, lines of "id method server", and compares. A line cut short by a killed server
// ends without a newline and is not counted; ids of other runs are passed over.
func (l *ledger) join(book io.Reader) (balance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delivered := make([]uint8, len(l.fates))
	r := bufio.NewReader(book)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return balance{}, err
		}
		id, _, _ := strings.Cut(line, " ")
		number, ok := strings.CutPrefix(id, l.run+"-")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(delivered) {
			return balance{}, fmt.Errorf("a server was given a request that was never sent: %q", line)
		}
		delivered[n] += min(1, 255-delivered[n])
	}
	b := balance{Sent: len(l.fates)}
	count := func(n *int, when bool) {
		if when {
			*n++
		}
	}
	for n, f := range l.fates {
		count(&b.Succeeded, f == succeeded)
		count(&b.Refused, f == refusedEarly || f == refusedLate)
		count(&b.RefusedIdempotent, (f == refusedEarly || f == refusedLate) && !l.posts[n])
		count(&b.Lost, f == lost || f == unknown)
		count(&b.Cut, f == cutByFault)
		count(&b.Crossed, f == crossed)
		count(&b.RefusedDelivered, f == refusedEarly && l.posts[n] && delivered[n] > 0)
		count(&b.Undelivered, f == succeeded && delivered[n] == 0)
		count(&b.Duplicated, l.posts[n] && delivered[n] > 1)
		count(&b.Repeated, !l.posts[n] && delivered[n] > 1)
	}
	return b, nil
}
