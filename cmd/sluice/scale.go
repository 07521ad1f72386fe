package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"sluice/admin"
)

func cmdScale(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "scale", "UPSTREAM N|auto [--for 1h] [-c FILE] [--admin ADDRESS] [--token TOKEN]")
	var f clientFlags
	f.register(fs.FlagSet)
	var hold time.Duration // 0: --for was not given
	fs.Func("for", "give the number back to the scaler after this `TIME` (default: only by auto)", func(v string) (err error) {
		hold, err = pinTime(v)
		return err
	})
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 2 {
		return fs.misused("unexpected %q", fs.Arg(2))
	}
	if fs.NArg() != 2 {
		return fs.misused("an upstream and a number, or auto, are needed")
	}
	name, n := fs.Arg(0), admin.Auto
	if fs.Arg(1) != "auto" {
		v, err := strconv.ParseUint(fs.Arg(1), 10, 31)
		if err != nil {
			return fs.misused("%q is no number of replicas: a whole number from 0, or auto, is needed", fs.Arg(1))
		}
		n = admin.Replicas(v)
	}
	if hold > 0 && n == admin.Auto {
		return fs.misused("auto holds until the next pin: leave out --for")
	}
	req := admin.ScaleRequest{Replicas: &n}
	if hold > 0 {
		until := hold.String()
		req.For = &until
	}
	c, err := f.open(env)
	if err == nil {
		_, err = c.call(ctx, "POST", "/api/v1/upstreams/"+url.PathEscape(name)+"/scale", req)
	}
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	switch {
	case n == admin.Auto:
		fmt.Fprintf(env.Stdout, "%s: the scaler chooses the number of replicas\n", name)
	case hold > 0:
		fmt.Fprintf(env.Stdout, "%s: pinned to %d replicas until %s\n", name, n, time.Now().Add(hold).Format(time.DateTime))
	default:
		fmt.Fprintf(env.Stdout, "%s: pinned to %d replicas until `sluice scale %s auto`\n", name, n, name)
	}
	return exitOK
}

// pinTime reads how long a pin holds.
func pinTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if _, number := strconv.ParseFloat(s, 64); number == nil && err != nil {
		return 0, fmt.Errorf("it has no unit: write %q, %q or %q", s+"s", s+"m", s+"h")
	}
	switch {
	case err != nil:
		return 0, errors.New(`it is no time: write a number with a unit (s, m, h), as "90s" or "1h"`)
	case d <= 0:
		return 0, errors.New("a pin holds for a time above 0, or without --for until auto")
	}
	return d, nil
}
