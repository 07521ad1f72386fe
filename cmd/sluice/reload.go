package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"sluice/admin"
)

// cmdReload asks the admin API, which answers whether the configuration was taken and why not; where
// it is off or does not answer, the signal has to do, and the outcome is in sluice's log.
func cmdReload(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "reload", "[-c FILE] [--admin ADDRESS] [--token TOKEN]")
	var f clientFlags
	f.register(fs.FlagSet)
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 {
		return fs.misused("unexpected %q", fs.Arg(0))
	}
	return reload(ctx, env, f)
}

func reload(ctx context.Context, env Env, f clientFlags) int {
	at, err := f.contact(env)
	if isInvalid(err) {
		return env.fail(exitConfig, "nothing has changed, the configuration is invalid:\n%v", err)
	}
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	var nobody errNobody
	if at.admin.Listen != "off" && at.admin.Listen != "" {
		c := newAdminClient(at.admin.Listen, at.admin.Token)
		c.patience = reloadPatience
		answer, err := c.call(ctx, "POST", "/api/v1/reload", nil)
		var r *refusal
		switch {
		case err == nil:
			var now admin.ConfigStatus
			if err := json.Unmarshal(answer, &now); err != nil || now.File == "" {
				break // somebody else answers there: [admin] has changed in the file
			}
			fmt.Fprintf(env.Stdout, "%s: reloaded, generation %d\n", clean(now.File), now.Generation)
			return exitOK
		case errors.As(err, &r) && r.Reason == "config_invalid":
			return env.fail(exitConfig, "nothing has changed, the configuration is invalid:\n%v", err)
		case !errors.As(err, &nobody) || f.addr != "":
			return env.fail(exitFailed, "%v", err)
		}
	}
	pid, err := at.livePID()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGHUP)
	}
	switch {
	case err == nil:
		fmt.Fprintf(env.Stdout, "told sluice (pid %d) to reload; its log says how that went\n", pid)
		return exitOK
	case nobody.listen != "":
		return env.fail(exitFailed, "%v (%v)", nobody, err)
	default:
		return env.fail(exitFailed, "%v", err)
	}
}
