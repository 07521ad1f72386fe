package admin

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/balancer"
	"sluice/proxy"
)

// Explanation is what GET /api/v1/explain answers.
type Explanation struct {
	proxy.Explanation
	// Balance is the policy of the upstream that the request would go to.
	Balance string `json:"balance,omitempty"`
	// Candidates are its servers that could be picked now, the least busy first; none when it would have to wait.
	Candidates []ServerStatus `json:"candidates,omitempty"`
	// Unready is how many more servers it has.
	Unready int `json:"unready,omitempty"`
}

// Ask makes the question of `sluice explain`: what would become of this request? rawURL is absolute or without
// a scheme, or only a path; headers are "Name: value" lines, of which Host replaces the URL's; method "" is
// GET; client "" is nobody in particular.
func Ask(rawURL, method string, headers []string, listener, client string) (proxy.Question, error) {
	if rawURL == "" {
		return proxy.Question{}, fmt.Errorf("url is missing: http://host/path, or a path")
	}
	full := rawURL
	switch {
	case strings.HasPrefix(full, "/"):
		full = "http://" + "localhost" + full
	case !strings.Contains(full, "://"):
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return proxy.Question{}, fmt.Errorf("%q is no URL", rawURL)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return proxy.Question{}, fmt.Errorf("%q is no URL of a request: write http://host/path", rawURL)
	}
	q := proxy.Question{Listener: listener, TLS: u.Scheme == "https", Method: method, Host: u.Host, Target: u.RequestURI()}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			return proxy.Question{}, fmt.Errorf("%q is no header field: write Name: value", h)
		}
		if strings.EqualFold(name, "host") {
			q.Host = value
			continue
		}
		q.Header = append(q.Header, name+": "+value)
	}
	if client != "" {
		if q.Client, err = netip.ParseAddr(client); err != nil {
			return proxy.Question{}, fmt.Errorf("client is %q: an IP address is needed", client)
		}
	}
	return q, nil
}

// explain takes url, method, header (repeatable), listener and client from the query.
func (s *Server) explain(ctx *fasthttp.RequestCtx, _ target) *failure {
	var headers []string
	args := ctx.QueryArgs()
	for k, v := range args.All() {
		switch string(k) {
		case "url", "method", "listener", "client":
		case "header":
			headers = append(headers, string(v))
		default:
			return fail(fasthttp.StatusBadRequest, "bad_request", "unknown parameter %q: there are url, method, header, listener and client", k)
		}
	}
	q, err := Ask(string(args.Peek("url")), string(args.Peek("method")), headers, string(args.Peek("listener")), string(args.Peek("client")))
	if err != nil {
		return fail(fasthttp.StatusBadRequest, "bad_request", "%v", err)
	}
	answer := Explanation{Explanation: s.gateway.Explain(q)}
	if answer.Upstream != "" {
		if u, f := s.upstream(answer.Upstream); f == nil {
			answer.candidates(u, time.Now())
		}
	}
	writeJSON(ctx, fasthttp.StatusOK, answer)
	return nil
}

// candidates leaves out backup servers while another is ready, as picking does.
func (e *Explanation) candidates(u Upstream, now time.Time) {
	e.Balance = u.Config().Balance
	var backup []ServerStatus
	for _, server := range u.Servers() {
		switch st := serverStatus(server, now); {
		case st.State != balancer.StateReady.String():
			e.Unready++
		case st.Backup:
			backup = append(backup, st)
		default:
			e.Candidates = append(e.Candidates, st)
		}
	}
	if len(e.Candidates) == 0 {
		e.Candidates = backup
	}
	slices.SortFunc(e.Candidates, func(a, b ServerStatus) int {
		return cmp.Or(cmp.Compare(float64(a.InFlight)/float64(a.Weight), float64(b.InFlight)/float64(b.Weight)), strings.Compare(a.ID, b.ID))
	})
}
