package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/admin"
	"sluice/scaler/vertical"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time {
	t := noon.Add(-d)
	return &t
}

func TestStatusTable(t *testing.T) {
	st := admin.Status{
		Version: "1.2.3", Ready: true,
		Config: admin.ConfigStatus{File: "config.toml", Generation: 3, LoadedAt: *before(3 * time.Hour), Error: "config.toml:3:1: unknown key \"lsten\"\n    lsten = 1\n    ^"},
		Engine: admin.EngineStatus{Kind: "docker", Why: "its socket answers"},
		Upstreams: []admin.UpstreamStatus{
			{
				Name: "demo", Wanted: 3, Ready: 2, Starting: 1, Min: 1, Max: 6, InFlight: 8, Queue: 12, QueueHigh: 2, QueueLow: 7, OldestWait: 1.25, Mode: "apply", Driver: "process",
				Reason: "queue 12 at 4 per replica", DecidedAt: before(5 * time.Second), Failure: "exit status 1, 2 times in a row",
				Servers: []admin.ServerStatus{
					{ID: "demo-1", Addr: "127.0.0.1:40001", State: "ready", InFlight: 4, Slots: 4, Learned: true, Weight: 1},
					{ID: "demo-2", Addr: "127.0.0.1:40002", State: "starting", Reason: "not probed yet", Slots: 4, Weight: 1},
				},
				Notes: []admin.Note{{Name: "web-1", Why: "no network is shared"}},
			},
			{
				Name: "legacy", Wanted: 1, Ready: 1, Min: 1, Max: 1, Mode: "fixed",
				Servers: []admin.ServerStatus{{ID: "10.0.0.1:80", Addr: "10.0.0.1:80", State: "ready", InFlight: 1, Weight: 3, Backup: true}},
			},
			{Name: "models", Wanted: 2, Min: 0, Max: 2, Mode: "apply", Pinned: true, PinnedUntil: before(-90 * time.Second), Reason: "pinned to 2", DecidedAt: before(0), Servers: nil,
				Notes: []admin.Note{{Why: "no container found"}, {Name: "models", Why: "no engine"}}},
			{Name: "watched", Wanted: 4, Min: 1, Max: 9, Mode: "observe", Reason: "\x1b[31mred", DecidedAt: before(10 * time.Minute)},
		},
	}
	const want = `sluice 1.2.3  config.toml, generation 3, loaded 3h ago  engine docker (its socket answers)
! the last reload failed, this is still the configuration before it:
  config.toml:3:1: unknown key "lsten"
      lsten = 1
      ^

UPSTREAM  WANTED  READY  MIN  MAX  IN FLIGHT  QUEUE                            DECISION
demo      3       2      1    6    8          12 (oldest 1.2s, 2 high, 7 low)  queue 12 at 4 per replica, 5s ago
legacy    -       1      -    -    0          0
models    2       0      0    2    0          0                                pinned, 1m30s left: pinned to 2, just now
watched   4       0      1    9    0          0                                only observed: ·[31mred, 10m ago
! demo: exit status 1, 2 times in a row

SERVER              ADDRESS          STATE       IN FLIGHT    WEIGHT    WHY
demo/demo-1         127.0.0.1:40001  ready       4/4 learned  1
demo/demo-2         127.0.0.1:40002  starting    0/4          1         not probed yet
legacy/10.0.0.1:80  10.0.0.1:80      ready       1            3 backup
models/             -                no servers  -            -
watched/            -                no servers  -            -

not routed:
  demo: web-1: no network is shared
  models: no container found
  models: no engine
`
	var b bytes.Buffer
	writeStatus(&b, st, noon)
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	writeStatus(&b, admin.Status{Why: "shutting down", Config: admin.ConfigStatus{File: "x"}}, noon)
	if !strings.Contains(b.String(), "! not ready: shutting down\n\nno upstreams\n") {
		t.Errorf("got\n%s", b.String())
	}
}

// That it is pinned is said once, whatever the scaler says after it.
func TestDecisionOfAPin(t *testing.T) {
	for reason, want := range map[string]string{
		"pinned: 3 replicas":                            "pinned: 3 replicas",
		"pinned, the budget allows no more: 2 replicas": "pinned: the budget allows no more: 2 replicas",
		"found 2": "pinned: found 2",
	} {
		if got := decision(admin.UpstreamStatus{Pinned: true, Reason: reason}, noon); got != want {
			t.Errorf("%q: %q, want %q", reason, got, want)
		}
	}
}

// Of several gateways the second line says how many there are and which one scales.
func TestStatusOfSeveralGateways(t *testing.T) {
	for want, p := range map[string]admin.PeersStatus{
		"gateways 2, this one (a) scales\n":                       {Gateway: "a", Gateways: 2, Scales: true, Scaler: "a"},
		"gateways 2, b scales, this is a\n":                       {Gateway: "a", Gateways: 2, Scaler: "b"},
		"gateways 2, none scales as far as is known, this is a\n": {Gateway: "a", Gateways: 2},
		"gateways 2, b scales, this is a\n! the gateways: away\n": {Gateway: "a", Gateways: 2, Scaler: "b", Trouble: "away"},
		"gateways not known yet, this is a: it scales nothing":    {Gateway: "a", Trouble: "away"},
	} {
		var b bytes.Buffer
		writeStatus(&b, admin.Status{Ready: true, Peers: &p}, noon)
		if _, rest, _ := strings.Cut(b.String(), "\n"); !strings.HasPrefix(rest, want) {
			t.Errorf("%+v:\n%s", p, rest)
		}
	}
}

func TestStatusOfVerticalSizing(t *testing.T) {
	known := vertical.Recommendation{Target: vertical.Resources{CPUs: .5, Memory: 300 << 20}, Lower: vertical.Resources{CPUs: .25, Memory: 250 << 20}, Upper: vertical.Resources{CPUs: 1e4, Memory: 1 << 50}, Days: .25}
	var b bytes.Buffer
	writeVertical(&b, []admin.UpstreamStatus{
		{Name: "none"},
		{Name: "api", Vertical: &admin.VerticalStatus{Mode: "apply", Recommendation: &known, Reason: "replica a: 1 cores to 0.5 cores", Failure: "replica b: busy"}},
		{Name: "web", Vertical: &admin.VerticalStatus{Mode: "recommend", Reason: "no replica was measured for a minute yet"}},
	})
	const want = `
UPSTREAM  REPLICAS SHOULD HAVE  IF BELOW             IF ABOVE               KNOWN FOR  VERTICAL
api       0.5 cores, 300 MiB    0.25 cores, 250 MiB  any cores, any memory  6h0m0s     apply: replica a: 1 cores to 0.5 cores
web       -                     -                    -                      -          recommend: no replica was measured for a minute yet
! api: replica b: busy
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if writeVertical(&b, []admin.UpstreamStatus{{Name: "none"}}); b.Len() != 0 {
		t.Error("something is said where nothing is sized")
	}
}

func TestStatusJSON(t *testing.T) {
	g := still(t, "")
	o := invoke(cmdStatus, nil, "--json", "--admin", g.addr)
	var st struct{ Upstreams []struct{ Name string } }
	if err := json.Unmarshal([]byte(o.out), &st); err != nil || o.code != exitOK || len(st.Upstreams) != 1 {
		t.Errorf("%v in %+v", err, o)
	}
}

// A pipe stands for the terminal's other end: it is read line by line as each comes.
func TestStatusWatch(t *testing.T) {
	g := still(t, "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		defer w.Close()
		code <- cmdStatus(ctx, Env{Stdout: w, Stderr: os.Stderr, Getenv: func(string) string { return "" }}, []string{"--watch", "--json", "--admin", g.addr})
	}()
	dec := json.NewDecoder(r)
	for range 2 {
		var st admin.Status
		if err := dec.Decode(&st); err != nil || len(st.Upstreams) != 1 {
			t.Fatal(err)
		}
	}
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("exit %d", got)
	}
}
