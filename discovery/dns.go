package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"sluice/balancer"
)

// Bounds on the time between two resolutions.
const (
	shortestTTL = time.Second
	longestTTL  = 5 * time.Minute
	// engineTTL bounds what Docker's embedded resolver says: it gives 600 s to names that change
	// whenever a container does.
	engineTTL = 5 * time.Second
	// hostsTTL is how often a name from the hosts file is read again.
	hostsTTL = 10 * time.Second
	// longestRetry bounds the doubling pause after an error.
	longestRetry = 30 * time.Second
)

// dnsSource resolves one name by its TTL.
type dnsSource struct {
	name string // as configured, "host:port"
	log  *slog.Logger

	resolver resolver
	pause    func(ctx context.Context, d time.Duration) error

	mu  sync.Mutex // guards err
	err error      // of the last resolution
}

// NewDNS returns the source of the addresses (A and AAAA) of name, written "host:port". It is
// resolved again when the TTL of the answer is over, but no sooner than after 1 s and no later than
// after 5 min. On an error or an empty answer the last addresses stay, and Notes says so. Names in
// /etc/hosts and literal addresses work too. The ID of a server is its address.
func NewDNS(name string, log *slog.Logger) Source {
	return &dnsSource{name: name, log: log.With("dns", name), resolver: systemResolver(), pause: sleep}
}

// Run resolves until ctx ends.
func (d *dnsSource) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	host, port, err := net.SplitHostPort(d.name)
	if err != nil {
		return fmt.Errorf("%q is not host:port: %w", d.name, err)
	}
	var sent []netip.Addr
	retry := shortestTTL
	for {
		addrs, ttl, err := d.resolver.resolve(ctx, host)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && len(addrs) == 0 {
			err = errors.New("the answer has no address")
		}
		d.note(err)
		if err != nil {
			ttl, retry = retry, min(2*retry, longestRetry)
		} else {
			retry = shortestTTL
		}
		if len(addrs) > 0 && !slices.Equal(addrs, sent) {
			select {
			case out <- dnsSpecs(addrs, port):
			case <-ctx.Done():
				return ctx.Err()
			}
			sent = addrs
		}
		if err := d.pause(ctx, ttl); err != nil {
			return err
		}
	}
}

func dnsSpecs(addrs []netip.Addr, port string) []balancer.ServerSpec {
	specs := make([]balancer.ServerSpec, len(addrs))
	for i, a := range addrs {
		addr := net.JoinHostPort(a.String(), port)
		specs[i] = balancer.ServerSpec{ID: addr, Addr: addr}
	}
	return specs
}

// note keeps err for Notes and logs its first occurrence and its end.
func (d *dnsSource) note(err error) {
	d.mu.Lock()
	was := d.err
	d.err = err
	d.mu.Unlock()
	switch {
	case err != nil && was == nil:
		d.log.Warn("cannot resolve, keeping the last addresses", "error", err)
	case err == nil && was != nil:
		d.log.Info("resolves again")
	}
}

// Notes says why the name could not be resolved the last time; nil when it could.
func (d *dnsSource) Notes() []Note {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return nil
	}
	return []Note{{Name: d.name, Why: "cannot be resolved: " + d.err.Error() + "; the last addresses are kept"}}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// boundTTL is how long an answer with this TTL from this server counts.
func boundTTL(ttl uint32, server string) time.Duration {
	longest := longestTTL
	if host, _, _ := net.SplitHostPort(server); host == dockerResolver {
		longest = engineTTL
	}
	return min(max(time.Duration(ttl)*time.Second, shortestTTL), longest)
}

// dockerResolver is where Docker's embedded resolver listens in every container.
const dockerResolver = "127.0.0.11"

// systemResolver asks the servers of /etc/resolv.conf, after /etc/hosts; both are read each time.
func systemResolver() resolver {
	return resolver{hosts: "/etc/hosts", config: func() (*dns.ClientConfig, error) {
		return dns.ClientConfigFromFile("/etc/resolv.conf")
	}}
}
