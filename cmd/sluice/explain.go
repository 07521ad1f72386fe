package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"sluice/admin"
	"sluice/config"
	"sluice/proxy"
	"sluice/proxy/https"
)

// cmdExplain asks the running sluice; where none runs it reads the file, and knows of no servers.
func cmdExplain(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "explain", "URL [-X METHOD] [-H 'Name: value']… [--client IP] [--listener ADDRESS] [--json] [-c FILE] [--admin ADDRESS] [--token TOKEN]")
	var f clientFlags
	f.register(fs.FlagSet)
	method := fs.String("X", "", "`METHOD` of the request (default GET)")
	var headers []string
	fs.Func("H", "a header `FIELD`, Name: value; may be given several times", func(v string) error {
		headers = append(headers, v)
		return nil
	})
	from := fs.String("client", "", "`IP` address of the client, for limits and allow/deny")
	listener := fs.String("listener", "", "`ADDRESS` of the listener as configured (default: the one with the URL's port)")
	asJSON := fs.Bool("json", false, "print it as JSON")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() != 1 {
		return fs.misused("one URL is needed")
	}
	q, err := admin.Ask(fs.Arg(0), *method, headers, *listener, *from)
	if err != nil {
		return fs.misused("%v", err)
	}
	at, err := f.contact(env)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}

	var e admin.Explanation
	query := url.Values{"url": {fs.Arg(0)}, "method": {*method}, "header": headers, "client": {*from}, "listener": {*listener}}
	var nobody errNobody
	answer, err := newAdminClient(at.admin.Listen, at.admin.Token).call(ctx, "GET", "/api/v1/explain?"+query.Encode(), nil)
	running := err == nil
	switch {
	case running:
		if err := json.Unmarshal(answer, &e); err != nil {
			return env.fail(exitFailed, "the answer cannot be read: %v", err)
		}
	case f.addr != "" || !errors.As(err, &nobody) && at.admin.Listen != "off":
		return env.fail(exitFailed, "%v", err)
	case at.cfg == nil && isInvalid(at.err):
		return env.invalid(at.err)
	case at.cfg == nil:
		return env.fail(exitFailed, "%v, and %v", err, at.err)
	default:
		if e.Explanation, err = explainOffline(at.cfg, q); err != nil {
			return env.fail(exitFailed, "%v", err)
		}
		fmt.Fprintf(env.Stderr, "sluice: none answers on %s; this is what %s says\n", at.admin.Listen, at.file)
	}
	if *asJSON {
		enc := json.NewEncoder(env.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(e); err != nil {
			return env.fail(exitFailed, "%v", err)
		}
		return exitOK
	}
	writeExplanation(env.Stdout, e, running)
	return exitOK
}

// isInvalid tells an invalid configuration from one that cannot be read.
func isInvalid(err error) bool {
	var mistakes config.Errors
	return errors.As(err, &mistakes)
}

// explainOffline answers from a configuration that nobody runs. Its upstreams have no servers.
func explainOffline(cfg *config.Config, q proxy.Question) (proxy.Explanation, error) {
	fronts := make(map[string]*proxy.Upstream, len(cfg.Upstreams))
	for name, u := range cfg.Upstreams {
		fronts[name] = newUpstream(name, u, discardLog()).front
	}
	front := https.New(discardLog())
	tls, err := front.Prepare(cfg.TLS, true)
	if err != nil {
		return proxy.Explanation{}, err
	}
	tls.Commit()
	table, err := proxy.NewTable(tableConfig(cfg, fronts, front), nil)
	if err != nil {
		return proxy.Explanation{}, err
	}
	q.Listener = listenerOf(cfg, q)
	e := table.Explain(q)
	e.TLS = explainTLS(cfg, front, q)
	return e, nil
}

// listenerOf is the configured listener that a question means: the named one, else the one with the port
// of its host, as `explain http://localhost:11434/` means it. For https it is that of TLS with port 443, or the first.
func listenerOf(cfg *config.Config, q proxy.Question) string {
	_, port, err := net.SplitHostPort(q.Host)
	switch {
	case q.Listener != "":
		return q.Listener
	case err != nil && q.TLS:
		port = "443"
	case err != nil:
		return ""
	}
	for _, addr := range wantedListeners(cfg) {
		if _, p, err := net.SplitHostPort(addr); err == nil && p == port {
			return addr
		}
	}
	if all := cfg.TLSListen(); err != nil && len(all) > 0 {
		return all[0]
	}
	return ""
}

// writeExplanation tells it to a person.
func writeExplanation(w io.Writer, e admin.Explanation, running bool) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-9s %s\n", name, clean(fmt.Sprintf(format, args...)))
	}
	for _, l := range e.TLS {
		line("tls", "%s", l)
	}
	if e.Route == "" && e.Reason == "" {
		line("answer", "%s", e.Answer)
	} else if e.Route == "" {
		line("route", "none: sluice answers %s (%s)", e.Answer, e.Reason)
	} else {
		line("route", "%s", e.Route)
	}
	for _, l := range e.Limits {
		line("limit", "%s", l)
	}
	if e.Route != "" && e.Answer != "" {
		line("answer", "%s", e.Answer)
	}
	if e.Upstream != "" {
		text := fmt.Sprintf("%s, asked for %s", e.Upstream, e.Target)
		if e.Speaks != "" {
			text += " by " + e.Speaks
		}
		if e.ProxyProtocol != "" {
			text += ", after a PROXY protocol header " + e.ProxyProtocol
		}
		line("upstream", "%s", text)
	}
	switch {
	case e.Upstream == "" || !running:
	case len(e.Candidates) == 0:
		line("server", "none is ready, of %d: the request would wait or be refused", e.Unready)
	default:
		var names []string
		for _, s := range e.Candidates {
			names = append(names, fmt.Sprintf("%s (%s in flight)", s.ID, occupied(s)))
		}
		const most = 5
		if len(names) > most {
			names = append(names[:most], fmt.Sprintf("%d more", len(e.Candidates)-most))
		}
		line("server", "one of %s, by %s; %d not ready", strings.Join(names, ", "), e.Balance, e.Unready)
	}
	for _, p := range e.Passed {
		line("not", "%s: %s", p.Route, p.Why)
	}
	if e.Others > 0 {
		line("not", "%d more routes", e.Others)
	}
}
