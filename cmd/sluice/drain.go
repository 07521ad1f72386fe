package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"sluice/admin"
)

func cmdDrain(ctx context.Context, env Env, args []string) int {
	return drainOrEnable(ctx, env, args, "drain")
}

func cmdEnable(ctx context.Context, env Env, args []string) int {
	return drainOrEnable(ctx, env, args, "enable")
}

func drainOrEnable(ctx context.Context, env Env, args []string, verb string) int {
	fs := newFlags(env, verb, "UPSTREAM/SERVER [-c FILE] [--admin ADDRESS] [--token TOKEN]")
	var f clientFlags
	f.register(fs.FlagSet)
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() != 1 {
		return fs.misused("one server is needed")
	}
	upstream, server, ok := strings.Cut(fs.Arg(0), "/")
	if !ok || upstream == "" || server == "" {
		return fs.misused("%q is no UPSTREAM/SERVER", fs.Arg(0))
	}
	c, err := f.open(env)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	st, _, err := c.status(ctx)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	for _, u := range st.Upstreams { // that of a route to a Unix socket is called as the socket, slashes and all
		if rest, ok := strings.CutPrefix(fs.Arg(0), u.Name+"/"); ok && len(u.Name) > len(upstream) {
			upstream, server = u.Name, rest
		}
	}
	id, err := findServer(st, upstream, server)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	answer, err := c.call(ctx, "POST", "/api/v1/upstreams/"+url.PathEscape(upstream)+"/servers/"+url.PathEscape(id)+"/"+verb, nil)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	var now admin.ServerStatus
	if err := json.Unmarshal(answer, &now); err != nil {
		return env.fail(exitFailed, "the answer cannot be read: %v", err)
	}
	fmt.Fprintf(env.Stdout, "%s/%s: %s, %d in flight\n", upstream, clean(id), clean(now.State), now.InFlight)
	return exitOK
}

// findServer takes a server's id, its address, or the beginning of an id that no other of the upstream has.
func findServer(st admin.Status, upstream, server string) (id string, err error) {
	var names []string
	for _, u := range st.Upstreams {
		names = append(names, u.Name)
		if u.Name != upstream {
			continue
		}
		var ids, found []string
		for _, s := range u.Servers {
			if s.ID == server || s.Addr == server {
				return s.ID, nil
			}
			ids = append(ids, clean(s.ID))
			if strings.HasPrefix(s.ID, server) {
				found = append(found, s.ID)
			}
		}
		switch len(found) {
		case 1:
			return found[0], nil
		case 0:
			return "", fmt.Errorf("upstream %q has no server %q; it has: %s", upstream, server, strings.Join(ids, ", "))
		}
		return "", fmt.Errorf("%q is the beginning of %d servers: %s", server, len(found), clean(strings.Join(found, ", ")))
	}
	return "", fmt.Errorf("there is no upstream %q; there are: %s", upstream, strings.Join(names, ", "))
}
