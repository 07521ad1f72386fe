package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// Question is a request that nobody sent.
type Question struct {
	Listener string     // as configured; "" is one that no route names
	TLS      bool       // the client speaks TLS
	Method   string     // "" is GET
	Host     string     // with or without port
	Target   string     // path and query; "" is "/"
	Header   []string   // field lines, "Name: value"
	Client   netip.Addr // whose limits are meant; the zero Addr is nobody in particular
}

// Explanation says what would become of a Question.
type Explanation struct {
	Route         string   `json:"route"`                    // "" when none matches
	Upstream      string   `json:"upstream,omitempty"`       // where it would go
	Speaks        string   `json:"speaks,omitempty"`         // how its servers are reached, in words; "" by HTTP/1.1 without TLS
	ProxyProtocol string   `json:"proxy_protocol,omitempty"` // version of the PROXY protocol's header that its server would get
	Answer        string   `json:"answer,omitempty"`         // what sluice answers itself, in words
	Reason        string   `json:"reason,omitempty"`         // reason code of a refusal
	Target        string   `json:"target,omitempty"`         // what the server would be asked for
	TLS           []string `json:"tls,omitempty"`            // what the client is shown and offered, in words
	Limits        []string `json:"limits,omitempty"`         // in words
	Passed        []Passed `json:"passed,omitempty"`         // routes that were looked at before, in that order
	Others        int      `json:"others,omitempty"`         // how many more were passed over
}

// Passed is a route that does not match and why.
type Passed struct {
	Route string `json:"route"`
	Why   string `json:"why"`
}

// mostPassed bounds Explanation.Passed.
const mostPassed = 50

// Explain tells in words which route a request would take, and why not those before it.
func (t *Table) Explain(q Question) Explanation {
	var e Explanation
	head, err := q.head()
	if err != nil {
		e.Reason, e.Answer = failures[reasonOf(err)].Reason, err.Error()
		return e
	}
	x := Exchange{table: t, head: head, client: q.Client}
	if s := &t.secure; !q.TLS && s.Covers != nil && (q.Listener == "" || slices.Contains(s.From, q.Listener)) {
		if x.host = appendHost(nil, head.Host()); x.redirected(s) {
			e.Answer = fmt.Sprintf("redirect 308 to %s, as every cleartext request for this host", s.appendLocation(nil, x.host, head.Target()))
			return e
		}
	}
	err = x.lookup(q.Listener)
	if err == nil || errors.Is(err, errNoRoute) {
		t.explainPassed(&e, &x)
	}
	if err != nil {
		e.Reason, e.Answer = failures[reasonOf(err)].Reason, err.Error()
		return e
	}
	r := x.route
	e.Route = r.name
	e.Limits = r.limitsInWords(q.Client)
	switch {
	case r.redirect != nil:
		e.Answer = fmt.Sprintf("redirect %d to %s", r.redirect.status, r.redirect.append(nil, head.Host(), head.Target(), head.Path()))
	case r.respond != nil:
		e.Answer = fmt.Sprintf("respond %d with %d bytes", r.respond.Status, len(r.respond.Body))
	default:
		e.Upstream = r.cfg.Upstream
		e.Speaks = r.upstream.Dialer().speaks()
		e.ProxyProtocol = r.upstream.cfg.Load().ProxyProtocol
		e.Target = string(r.target(nil, head.Target(), head.Path(), x.subject.path))
	}
	return e
}

// head makes the head that such a request would have.
func (q *Question) head() (*http1.Head, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", cmp.Or(q.Method, "GET"), cmp.Or(q.Target, "/"), q.Host)
	for _, line := range q.Header {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	h := new(http1.Head)
	if bytes.Count(b.Bytes(), []byte("\n")) != len(q.Header)+3 {
		return h, &http1.ProtocolError{Status: 400, Reason: ReasonBadRequest, Detail: "line break in a part of the request"}
	}
	_, err := h.ParseRequest(b.Bytes(), http1.Limits{MaxHead: 1 << 20, MaxFields: 1000})
	return h, err
}

// explainPassed lists the routes that are looked at before the one that was found, or all.
func (t *Table) explainPassed(e *Explanation, x *Exchange) {
	s := &x.subject
	ordered := slices.Clone(t.routes)
	slices.SortStableFunc(ordered, func(a, b *Route) int {
		return cmp.Or(cmp.Compare(a.hostRank(s), b.hostRank(s)), cmp.Compare(a.pathRank(), b.pathRank()), regexOrder(a, b), specific(a, b))
	})
	for _, r := range ordered {
		switch {
		case r == x.route:
			return
		case len(e.Passed) == mostPassed:
			e.Others++
		default:
			e.Passed = append(e.Passed, Passed{r.name, r.why(s)})
		}
	}
}

// regexOrder keeps expressions in file order whatever else they ask for.
func regexOrder(a, b *Route) int {
	if a.regex != nil && b.regex != nil {
		return cmp.Compare(a.order, b.order)
	}
	return 0
}

// hostRank is smaller the more closely the host matches: 0 exact, then wildcards, any, and no match last.
func (r *Route) hostRank(s *subject) int {
	rank := 1 << 20
	if len(r.hosts) == 0 {
		rank = 1 << 19
	}
	for _, h := range r.hosts {
		if h == string(s.host) {
			return 0
		}
		if name, wild := strings.CutPrefix(h, "*"); wild && len(s.host) > len(name) && strings.HasSuffix(string(s.host), name) {
			rank = min(rank, 1<<18-len(name))
		}
	}
	return rank
}

// pathRank is smaller the earlier a kind of path is compared.
func (r *Route) pathRank() int {
	switch {
	case r.exact != "":
		return 0
	case r.prefix != "":
		return 1<<20 - len(r.prefix)
	case r.regex != nil:
		return 1 << 20
	}
	return 1<<20 + 1
}

// why says what of the request does not match.
func (r *Route) why(s *subject) string {
	path := string(s.path)
	switch {
	case r.cfg.Listen != "" && r.cfg.Listen != s.listener:
		return fmt.Sprintf("it is only for the listener %s", r.cfg.Listen)
	case r.hostRank(s) == 1<<20:
		return fmt.Sprintf("the host is %s, not %s", s.host, strings.Join(r.hosts, " or "))
	case r.exact != "" && r.exact != path:
		return fmt.Sprintf("the path is %s, not exactly %s", path, r.exact)
	case r.prefix != "" && path != r.prefix && !strings.HasPrefix(path, r.prefix+"/"):
		return fmt.Sprintf("the path is %s, not %s or below", path, r.prefix)
	case r.regex != nil && !r.regex.Match(s.path):
		return fmt.Sprintf("the path is %s, in which %s is not found", path, r.cfg.PathRegex)
	case len(r.methods) > 0 && !r.hasMethod(s.method):
		return fmt.Sprintf("the method is %s, not %s", s.method, strings.Join(r.methods, " or "))
	}
	for i := range r.headers {
		if c := &r.headers[i]; !c.inHead(s.head) {
			return fmt.Sprintf("the field %s is not %s", c.name, c.wanted())
		}
	}
	for i := range r.queries {
		if c := &r.queries[i]; !c.inQuery(s.query) {
			return fmt.Sprintf("the query parameter %s is not %s", c.name, c.wanted())
		}
	}
	return "it is not on this listener"
}

func (c *condition) wanted() string {
	if c.value == "*" {
		return "there"
	}
	return fmt.Sprintf("%q", c.value)
}

// limitsInWords lists what the route would check for a client, and how it would wait.
func (r *Route) limitsInWords(client netip.Addr) []string {
	var all []string
	if len(r.deny) > 0 || len(r.allow) > 0 {
		verdict := "depends on the client's address"
		if client.IsValid() {
			verdict = fmt.Sprintf("%s is let through", client)
			if http1.Within(r.deny, client) || len(r.allow) > 0 && !http1.Within(r.allow, client) {
				verdict = fmt.Sprintf("%s is denied (403)", client)
			}
		}
		all = append(all, "allow/deny: "+verdict)
	}
	if l := r.rate; l != nil {
		all = append(all, fmt.Sprintf("rate_limit: %g/s, burst %d, by %s, else %d", l.cfg.Rate, l.burst, l.source, l.cfg.Status))
	}
	if l := r.conns; l != nil {
		all = append(all, fmt.Sprintf("limit_conn: %d at once by %s, else %d", l.cfg.Max, l.source, l.cfg.Status))
	}
	if r.maxBody > 0 {
		all = append(all, fmt.Sprintf("max_body: %d bytes, else 413", r.maxBody))
	}
	if r.priority != balancer.PriorityNormal {
		all = append(all, fmt.Sprintf("priority: %s in the queue of %s", r.priority, r.cfg.Upstream))
	}
	if r.fair != nil {
		all = append(all, fmt.Sprintf("fair_by: the queue of %s is shared by %s", r.cfg.Upstream, r.fair.source))
	}
	return all
}
