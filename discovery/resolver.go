package discovery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// resolver finds the addresses of a name and how long they count. Not for concurrent use.
type resolver struct {
	hosts  string // path of the hosts file
	config func() (*dns.ClientConfig, error)

	last map[uint16][]netip.Addr // by query type: the last good answer
}

// answer is what one query gave.
type answer struct {
	addrs []netip.Addr
	ttl   time.Duration
}

// errNoName is the answer that the name does not exist (NXDOMAIN, RFC 1035 4.1.1).
var errNoName = errors.New("no such name")

// maxAliases bounds a chain of CNAMEs.
const maxAliases = 8

// resolve returns the sorted addresses of host and how long they count. With an error there may be
// addresses all the same: see lookup.
func (r *resolver) resolve(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, longestTTL, nil
	}
	if addrs := lookupHosts(r.hosts, host); len(addrs) > 0 {
		return addrs, hostsTTL, nil
	}
	config, err := r.config()
	if err != nil {
		return nil, 0, err
	}
	if len(config.Servers) == 0 {
		return nil, 0, errors.New("no name server is configured")
	}
	err = errNoName
	for _, name := range config.NameList(host) {
		var addrs []netip.Addr
		var ttl time.Duration
		if addrs, ttl, err = r.lookup(ctx, config, name); err == nil || !errors.Is(err, errNoName) {
			return addrs, ttl, err
		}
	}
	return nil, 0, err
}

// lookup asks for both kinds of addresses at once. When only one of the two queries fails, its last
// good answer stands in, and both addresses and an error are returned.
func (r *resolver) lookup(ctx context.Context, config *dns.ClientConfig, name string) ([]netip.Addr, time.Duration, error) {
	types := [...]uint16{dns.TypeA, dns.TypeAAAA}
	var answers [len(types)]answer
	var errs [len(types)]error
	second := make(chan struct{})
	died := "" // of a panic: why and where
	go func() {
		defer close(second)
		defer func() {
			if v := recover(); v != nil {
				died = fmt.Sprintf("in a query: %v\n%s", v, debug.Stack())
			}
		}()
		answers[1], errs[1] = query(ctx, config, name, types[1])
	}()
	answers[0], errs[0] = query(ctx, config, name, types[0])
	<-second
	if died != "" { // where it is recovered from
		panic(died)
	}

	if errs[0] != nil && errs[1] != nil {
		if errors.Is(errs[1], errNoName) {
			return nil, 0, errs[1]
		}
		return nil, 0, errs[0]
	}
	if r.last == nil {
		r.last = make(map[uint16][]netip.Addr, len(types))
	}
	ttl := longestTTL
	var addrs []netip.Addr
	var partial error
	for i, typ := range types {
		switch {
		case errors.Is(errs[i], errNoName): // the other query says that it exists: a sloppy server
		case errs[i] != nil:
			answers[i].addrs, answers[i].ttl = r.last[typ], ttl
			partial = fmt.Errorf("%s: %w", dns.TypeToString[typ], errs[i])
		}
		if len(answers[i].addrs) > 0 {
			ttl = min(ttl, answers[i].ttl)
		}
		r.last[typ] = answers[i].addrs
		addrs = append(addrs, answers[i].addrs...)
	}
	return sorted(addrs), ttl, partial
}

// query follows a name to its addresses of one type, over aliases that the server did not follow.
func query(ctx context.Context, config *dns.ClientConfig, name string, typ uint16) (answer, error) {
	ttl := longestTTL
	for range maxAliases {
		msg, server, err := ask(ctx, config, name, typ)
		if err != nil {
			return answer{}, err
		}
		addrs, end, seconds, err := follow(msg, name, typ)
		if err != nil {
			return answer{}, err
		}
		ttl = min(ttl, boundTTL(seconds, server))
		if len(addrs) > 0 || end == name {
			return answer{addrs, ttl}, nil
		}
		name = end
	}
	return answer{}, fmt.Errorf("more than %d aliases", maxAliases)
}

// follow walks the aliases in msg from name. It returns the addresses at the end of the chain, the
// name there, and the smallest TTL on the way, in seconds.
func follow(msg *dns.Msg, name string, typ uint16) (addrs []netip.Addr, end string, ttl uint32, err error) {
	ttl = ^uint32(0)
	end = name
	for range maxAliases {
		alias := ""
		for _, rr := range msg.Answer {
			head := rr.Header()
			if !strings.EqualFold(head.Name, end) {
				continue
			}
			var addr netip.Addr
			switch rr := rr.(type) {
			case *dns.A:
				addr, _ = netip.AddrFromSlice(rr.A)
			case *dns.AAAA:
				addr, _ = netip.AddrFromSlice(rr.AAAA)
			case *dns.CNAME:
				alias = rr.Target
				ttl = min(ttl, head.Ttl)
				continue
			}
			if head.Rrtype == typ && addr.IsValid() {
				addrs = append(addrs, addr.Unmap())
				ttl = min(ttl, head.Ttl)
			}
		}
		if len(addrs) > 0 || alias == "" {
			return addrs, end, ttl, nil
		}
		end = alias
	}
	return nil, "", 0, fmt.Errorf("more than %d aliases", maxAliases)
}

// ask sends one question to the servers in turn until one answers; over TCP when the answer over UDP
// is cut short (RFC 7766 section 5).
func ask(ctx context.Context, config *dns.ClientConfig, name string, typ uint16) (*dns.Msg, string, error) {
	msg := new(dns.Msg).SetQuestion(name, typ)
	msg.SetEdns0(1232, false) // what passes unfragmented (DNS flag day 2020)
	timeout := time.Duration(min(config.Timeout, 3)) * time.Second
	var last error
	for range max(config.Attempts, 1) {
		for _, host := range config.Servers {
			server := net.JoinHostPort(host, config.Port)
			udp := dns.Client{Timeout: timeout, UDPSize: 1232}
			reply, _, err := udp.ExchangeContext(ctx, msg, server)
			if err == nil && reply.Truncated {
				tcp := dns.Client{Net: "tcp", Timeout: timeout}
				reply, _, err = tcp.ExchangeContext(ctx, msg, server)
			}
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
			if err == nil {
				err = replyError(reply, msg)
			}
			if err == nil || errors.Is(err, errNoName) {
				return reply, server, err
			}
			last = fmt.Errorf("name server %s: %w", host, err)
		}
	}
	return nil, "", last
}

// replyError is what a reply says is wrong, in words.
func replyError(reply, question *dns.Msg) error {
	switch {
	case len(reply.Question) != 1 || !strings.EqualFold(reply.Question[0].Name, question.Question[0].Name) ||
		reply.Question[0].Qtype != question.Question[0].Qtype:
		return errors.New("answers another question")
	case reply.Rcode == dns.RcodeNameError:
		return errNoName
	case reply.Rcode != dns.RcodeSuccess:
		return errors.New("says " + dns.RcodeToString[reply.Rcode])
	}
	return nil
}

// lookupHosts returns the addresses of host in a hosts file; none when there is no such file.
func lookupHosts(path, host string) []netip.Addr {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	host = strings.TrimSuffix(host, ".")
	var addrs []netip.Addr
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || !slices.ContainsFunc(fields[1:], func(f string) bool { return strings.EqualFold(f, host) }) {
			continue
		}
		addrs = append(addrs, addr.Unmap())
	}
	return sorted(addrs)
}

// sorted sorts addrs and removes duplicates.
func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}
