package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"sluice/admin"
)

func cmdStatus(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "status", "[--watch] [--json] [-c FILE] [--admin ADDRESS] [--token TOKEN]")
	var f clientFlags
	f.register(fs.FlagSet)
	watch := fs.Bool("watch", false, "show it again every second until interrupted")
	asJSON := fs.Bool("json", false, "print what the API says; one line each time with --watch")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 {
		return fs.misused("unexpected %q", fs.Arg(0))
	}
	c, err := f.open(env)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	show := func() error {
		st, raw, err := c.status(ctx)
		if err != nil {
			return err
		}
		switch {
		case *asJSON && *watch:
			var line bytes.Buffer
			if err := json.Compact(&line, raw); err != nil {
				return err
			}
			line.WriteByte('\n')
			raw = line.Bytes()
			fallthrough
		case *asJSON:
			_, err = env.Stdout.Write(raw)
		default:
			var table bytes.Buffer
			if *watch {
				table.WriteString(screenStart(env.Stdout))
			}
			writeStatus(&table, st, time.Now())
			_, err = env.Stdout.Write(table.Bytes())
		}
		return err
	}
	if !*watch {
		if err := show(); err != nil {
			return env.fail(exitFailed, "%v", err)
		}
		return exitOK
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := show(); err != nil { // it may be restarting: go on
			fmt.Fprintf(env.Stderr, "sluice: %v\n", err)
		}
		select {
		case <-ctx.Done():
			return exitOK
		case <-tick.C:
		}
	}
}

// screenStart clears a terminal; elsewhere it separates what follows.
func screenStart(w io.Writer) string {
	if o, ok := w.(*output); ok {
		w = o.to
	}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return "\x1b[H\x1b[2J\x1b[3J"
		}
	}
	return "\n"
}

// writeStatus draws the status for a person at now.
func writeStatus(w io.Writer, st admin.Status, now time.Time) {
	fmt.Fprintf(w, "sluice %s  %s, generation %d, loaded %s  engine %s", clean(st.Version), clean(st.Config.File),
		st.Config.Generation, ago(st.Config.LoadedAt, now), clean(st.Engine.Kind))
	if st.Engine.Why != "" {
		fmt.Fprintf(w, " (%s)", clean(st.Engine.Why))
	}
	fmt.Fprintln(w)
	writePeers(w, st.Peers)
	if !st.Ready {
		fmt.Fprintf(w, "! not ready: %s\n", clean(st.Why))
	}
	if st.Config.Error != "" {
		fmt.Fprintf(w, "! the last reload failed, this is still the configuration before it:\n")
		for line := range strings.SplitSeq(st.Config.Error, "\n") {
			fmt.Fprintf(w, "  %s\n", clean(line))
		}
	}
	if len(st.Upstreams) == 0 {
		fmt.Fprintln(w, "\nno upstreams")
		return
	}

	fmt.Fprintln(w)
	table(w, "UPSTREAM\tWANTED\tREADY\tMIN\tMAX\tIN FLIGHT\tQUEUE\tDECISION", func(row func(...any)) {
		for _, u := range st.Upstreams {
			if u.Mode == "fixed" {
				row(u.Name, "-", u.Ready, "-", "-", u.InFlight, queue(u), "")
				continue
			}
			row(u.Name, u.Wanted, u.Ready, u.Min, u.Max, u.InFlight, queue(u), decision(u, now))
		}
	})
	for _, u := range st.Upstreams {
		if u.Failure != "" {
			fmt.Fprintf(w, "! %s: %s\n", clean(u.Name), clean(u.Failure))
		}
	}
	writeVertical(w, st.Upstreams)

	fmt.Fprintln(w)
	table(w, "SERVER\tADDRESS\tSTATE\tIN FLIGHT\tWEIGHT\tWHY", func(row func(...any)) {
		for _, u := range st.Upstreams {
			for _, s := range u.Servers {
				weight := fmt.Sprint(s.Weight)
				if s.Backup {
					weight += " backup"
				}
				load := occupied(s)
				if s.Learned {
					load += " learned"
				}
				row(u.Name+"/"+s.ID, s.Addr, s.State, load, weight, s.Reason)
			}
			if len(u.Servers) == 0 {
				row(u.Name+"/", "-", "no servers", "-", "-", "")
			}
		}
	})

	if len(st.Notes) > 0 {
		fmt.Fprintln(w, "\nattention:")
		for _, n := range st.Notes {
			fmt.Fprintf(w, "  %s: %s\n", clean(n.Name), clean(n.Why))
		}
	}
	first := true
	for _, u := range st.Upstreams {
		for _, n := range u.Notes {
			if first {
				fmt.Fprintln(w, "\nnot routed:")
				first = false
			}
			of := u.Name
			if n.Name != "" && n.Name != u.Name { // else it is said of the upstream as a whole
				of += ": " + n.Name
			}
			fmt.Fprintf(w, "  %s: %s\n", clean(of), clean(n.Why))
		}
	}
}

// writeVertical says what replicas should have, of the upstreams where that is asked for.
func writeVertical(w io.Writer, upstreams []admin.UpstreamStatus) {
	sized := slices.DeleteFunc(slices.Clone(upstreams), func(u admin.UpstreamStatus) bool { return u.Vertical == nil })
	if len(sized) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, "UPSTREAM\tREPLICAS SHOULD HAVE\tIF BELOW\tIF ABOVE\tKNOWN FOR\tVERTICAL", func(row func(...any)) {
		for _, u := range sized {
			v := u.Vertical
			words := v.Mode
			if v.Reason != "" {
				words += ": " + v.Reason
			}
			if r := v.Recommendation; r != nil {
				row(u.Name, r.Target, r.Lower, r.Upper, time.Duration(r.Days*24*float64(time.Hour)).Round(time.Minute), words)
			} else {
				row(u.Name, "-", "-", "-", "-", words)
			}
		}
	})
	for _, u := range sized {
		if u.Vertical.Failure != "" {
			fmt.Fprintf(w, "! %s: %s\n", clean(u.Name), clean(u.Vertical.Failure))
		}
	}
}

// writePeers says how many gateways work as one, and which one scales.
func writePeers(w io.Writer, p *admin.PeersStatus) {
	if p == nil {
		return
	}
	switch {
	case p.Gateways == 0:
		fmt.Fprintf(w, "gateways not known yet, this is %s: it scales nothing and uses no server that has a number of max_conns\n", clean(p.Gateway))
	case p.Scales:
		fmt.Fprintf(w, "gateways %d, this one (%s) scales\n", p.Gateways, clean(p.Gateway))
	case p.Scaler != "":
		fmt.Fprintf(w, "gateways %d, %s scales, this is %s\n", p.Gateways, clean(p.Scaler), clean(p.Gateway))
	default:
		fmt.Fprintf(w, "gateways %d, none scales as far as is known, this is %s\n", p.Gateways, clean(p.Gateway))
	}
	if p.Trouble != "" {
		fmt.Fprintf(w, "! the gateways: %s\n", clean(p.Trouble))
	}
}

// table draws aligned columns under a header.
func table(w io.Writer, header string, fill func(row func(...any))) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	fill(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, clean(fmt.Sprint(c)))
		}
		fmt.Fprintln(t)
	})
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// occupied is a server's requests in flight and its slots.
func occupied(s admin.ServerStatus) string {
	if s.Slots > 0 {
		return fmt.Sprintf("%d/%d", s.InFlight, s.Slots)
	}
	return fmt.Sprint(s.InFlight)
}

func queue(u admin.UpstreamStatus) string {
	if u.Queue == 0 {
		return "0"
	}
	text := fmt.Sprintf("%d (oldest %.1fs", u.Queue, u.OldestWait)
	if u.QueueHigh > 0 {
		text += fmt.Sprintf(", %d high", u.QueueHigh)
	}
	if u.QueueLow > 0 {
		text += fmt.Sprintf(", %d low", u.QueueLow)
	}
	return text + ")"
}

// decision is what the scaler last said and whether it may act.
func decision(u admin.UpstreamStatus, now time.Time) string {
	var words []string
	switch {
	case u.Pinned && u.PinnedUntil != nil:
		words = append(words, fmt.Sprintf("pinned, %s left", u.PinnedUntil.Sub(now).Round(time.Second)))
	case u.Pinned:
		words = append(words, "pinned")
	case u.Mode == "observe":
		words = append(words, "only observed")
	case u.Mode == "off":
		words = append(words, "scaling is off")
	}
	if u.Schedule != "" {
		words = append(words, u.Schedule)
	}
	if u.Reason != "" {
		reason := u.Reason
		if u.Pinned {
			reason = strings.TrimPrefix(strings.TrimPrefix(reason, "pinned: "), "pinned, ")
		}
		if u.DecidedAt != nil {
			reason += ", " + ago(*u.DecidedAt, now)
		}
		words = append(words, reason)
	}
	return strings.Join(words, ": ")
}

// ago says how long ago t was, in the largest unit that fits.
func ago(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return "never"
	case d < 2*time.Second:
		return "just now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

// clean takes out what could steer a terminal: names and reasons come from engines and servers.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}
