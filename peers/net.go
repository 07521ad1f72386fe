package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Directory says where the gateways are.
type Directory interface {
	// Addresses are host:port of all gateways that may have requests, those that begin and end included, and this
	// one as soon as the others can see it. An answer holds all that was true when the call began.
	Addresses(ctx context.Context) ([]string, error)
}

// Net is the membership of gateways on several hosts: a Directory tells their addresses, and each serves its
// report by HTTP. Only the process behind an address knows its id, and another one may come to have the address:
// the gateways learn it with every report. Until an address has been heard it is a member by its own name, whose
// slots nobody takes.
type Net struct {
	id        string
	directory Directory
	key       []byte
	server    *http.Server
	client    *http.Client
	cancel    context.CancelFunc
	ended     sync.WaitGroup

	first chan struct{} // closed when the directory has answered once, or failed

	mu      sync.Mutex // guards all below
	found   []string   // by the last answer of the directory
	failure error      // of the directory; nil: found is its last answer
	members []string   // the last addresses that had this gateway among them
	names   map[string]string
	heard   map[string][]byte // by id: the reports of this round
}

const (
	// listTimeout bounds one answer of the directory, which is asked every listEvery.
	listTimeout = 2 * time.Second
	listEvery   = time.Second
)

// JoinNet makes the gateway id a member: it listens, and tells whoever has the token what report says, which is
// called concurrently.
func JoinNet(listen, token, id string, d Directory, report func() []byte) (*Net, error) {
	ctx, cancel := context.WithCancel(context.Background())
	n := &Net{
		id: id, directory: d, key: []byte(token), client: newClient(), cancel: cancel,
		first: make(chan struct{}), names: map[string]string{},
	}
	var err error
	if n.server, err = serveReports(listen, n.key, report, &n.ended); err != nil {
		cancel()
		return nil, err
	}
	n.ended.Go(func() { n.list(ctx) })
	return n, nil
}

// list asks the directory again and again, beside the rounds: an engine that hangs keeps no gateway from hearing
// the others.
func (n *Net) list(ctx context.Context) {
	begun := sync.OnceFunc(func() { close(n.first) })
	defer begun()
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, listTimeout)
		found, err := n.directory.Addresses(call)
		cancel()
		n.mu.Lock()
		if n.failure = err; err == nil {
			slices.Sort(found)
			n.found = slices.Compact(found)
		}
		n.mu.Unlock()
		begun()
		_ = pause(ctx, listEvery)
	}
}

var errUnlisted = errors.New("this gateway is not among them, so the others cannot see it yet (does the service select it, and is its port the one it listens on?)")

// Members hears all, and is then what Fetch answers from. A list without this gateway is none: the others do not
// know of it and may use every slot, and a list that everybody fell out of, as with the service itself, says
// nothing about who lives. The first call waits for the directory.
func (n *Net) Members(ctx context.Context) ([]string, error) {
	select {
	case <-n.first:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	found, failure := n.found, n.failure
	all := slices.Concat(found, n.members)
	n.mu.Unlock()
	slices.Sort(all)
	answers := n.hear(ctx, slices.Compact(all))

	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard = map[string][]byte{}
	for address, a := range answers {
		n.names[address] = a.id
		n.heard[a.id] = a.body
	}
	maps.DeleteFunc(n.names, func(address string, _ string) bool { return !slices.Contains(all, address) })
	switch {
	case failure != nil:
		return nil, failure
	case !slices.ContainsFunc(found, func(address string) bool { return n.names[address] == n.id }):
		return nil, fmt.Errorf("%d gateways are listed: %w", len(found), errUnlisted)
	}
	n.members = found
	ids := make([]string, len(found))
	for i, address := range found {
		ids[i] = address
		if name := n.names[address]; name != "" {
			ids[i] = name
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Fetch returns what Members has heard of id in this round.
func (n *Net) Fetch(_ context.Context, id string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if body := n.heard[id]; body != nil {
		return body, nil
	}
	return nil, fmt.Errorf("%s did not answer", id)
}

// hear asks all addresses at once; who does not answer in time is missing.
func (n *Net) hear(ctx context.Context, addresses []string) map[string]answer {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var mu sync.Mutex
	got := make(map[string]answer, len(addresses))
	var all sync.WaitGroup
	for _, address := range addresses {
		all.Go(func() {
			a, err := ask(ctx, n.client, n.key, address)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got[address] = a
		})
	}
	all.Wait()
	return got
}

// Leave ends the membership.
func (n *Net) Leave() {
	n.cancel()
	_ = n.server.Close()
	n.client.CloseIdleConnections()
	n.ended.Wait()
}
