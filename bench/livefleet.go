package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/bench/simulator"
)

// livePlan is what every variant of a live run meets.
type livePlan struct {
	trace simulator.Trace // sped up
	setup simulator.Setup
	// peak is the part of the trace with the most load.
	peakFrom, peakTo time.Duration
}

// timeout is how long a request may take: one that waits for the whole of the trace is late, not lost.
func (p livePlan) timeout() time.Duration { return p.trace.Length + time.Minute }

// livePlace is where the variants of a run are started.
type livePlace struct {
	*workshop
	image string // of the replicas; "": they are processes
}

// liveVariant is one gateway with replicas of its own: a fixed number of them, or as many as it decides.
type liveVariant struct {
	policy string // as the simulator names it
	fixed  int    // 0: scaled
	plan   livePlan

	owner   string // of its containers; "": they are processes
	gateway *gateway
	client  *client
}

func newLiveVariant(plan livePlan, fixed int) *liveVariant {
	v := &liveVariant{policy: "ltd", fixed: fixed, plan: plan}
	if fixed > 0 {
		v.policy = fmt.Sprintf("fixed:%d", fixed)
	}
	return v
}

// scale is the key of the configuration.
func (v *liveVariant) scale() string {
	s := v.plan.setup
	if v.fixed > 0 {
		return fmt.Sprintf("min = %d, max = %d, start_time = %q", v.fixed, v.fixed, s.Start)
	}
	scale := fmt.Sprintf("min = %d, max = %d, start_time = %q", s.Min, s.Max, s.Start)
	if s.InFlight > 0 {
		scale += fmt.Sprintf(", in_flight_per_replica = %d", s.InFlight)
	} else if s.Headroom > 0 {
		scale += fmt.Sprintf(", headroom = %g", s.Headroom)
	}
	if s.Cooldown > 0 {
		scale += fmt.Sprintf(", cooldown_down = %q", s.Cooldown)
	}
	return scale
}

// config is the configuration file of the variant.
func (v *liveVariant) config(port int, admin, image string) string {
	s := v.plan.setup
	engine := `kind = "none"`
	source := fmt.Sprintf(`process = { command = ["$SLUICE", "demo-backend", "--port", "$PORT", "--concurrency", "%d", "--start-delay", %q] }`, s.Slots, s.Start)
	if image != "" {
		engine = fmt.Sprintf("kind = \"docker\"\nproject = %q", v.owner)
		source = fmt.Sprintf(`container = { image = %q, command = ["demo-backend", "--addr", "0.0.0.0:8000", "--concurrency", "%d", "--start-delay", %q], port = 8000 }`, image, s.Slots, s.Start)
	}
	return fmt.Sprintf(`listen = ["127.0.0.1:%d"]
pid = "off"
[engine]
%s
[admin]
listen = %q
[log]
access = "off"
[[route]]
upstream = "live"
[upstream.live]
%s
timeouts = { first_byte = %[5]q }
max_conns = %[6]d
queue = { size = 100000, timeout = %[5]q }
health_check = { path = "/healthz", interval = "250ms" }
scale = { %[7]s }
`, port, engine, admin, source, v.plan.timeout(), s.Slots, v.scale())
}

// start starts the gateway. It returns when as many replicas are ready as the trace begins with.
func (v *liveVariant) start(ctx context.Context, place livePlace) error {
	own, err := place.room(fmt.Sprintf("%d-%s-%d", v.plan.setup.Seed, v.policy[:3], v.fixed))
	if err != nil {
		return err
	}
	if place.image != "" {
		v.owner = fmt.Sprintf("%s-%s", place.image, filepath.Base(own.dir))
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	admin, file := "unix:"+filepath.Join(own.dir, "admin.sock"), filepath.Join(own.dir, "config.toml")
	if err := os.WriteFile(file, []byte(v.config(ports[0], admin, place.image)), 0o644); err != nil {
		return err
	}
	if v.gateway, err = own.launch(ctx, file, settings{admin: admin}); err != nil {
		return err
	}
	if v.client, err = newClient(fmt.Sprintf("http://127.0.0.1:%d/", ports[0]), v.plan.timeout()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.plan.setup.Start*3+2*time.Minute)
	defer cancel()
	for want := max(v.fixed, v.plan.setup.Initial); ; {
		u, err := v.gateway.status(ctx, "live")
		if err == nil && u.Ready >= want {
			return nil
		}
		if !sleepUntil(ctx, time.Now().Add(100*time.Millisecond)) {
			return fmt.Errorf("%s: %d of %d replicas got ready\n%s", v.policy, u.Ready, want, v.gateway.tail())
		}
	}
}

// stop ends the gateway and its replicas.
func (v *liveVariant) stop() (err error) {
	if v.client != nil {
		v.client.close()
	}
	if v.gateway != nil {
		err = v.gateway.stop(stopGrace)
	}
	if v.owner != "" {
		err = errors.Join(err, removeContainers(v.owner))
	}
	return err
}

// run replays the trace and watches the replicas meanwhile.
func (v *liveVariant) run(ctx context.Context, begin time.Time) liveRow {
	row := liveRow{Policy: v.policy}
	if v.fixed == 0 {
		row.Policy = "scaled" // by the law or by an objective
	}
	done := make(chan []answer, 1)
	go func() { done <- replay(ctx, v.client, v.plan.trace, begin) }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last, wanted, direction := begin, -1, 0
	var paid float64
	var before upstreamStatus
	for {
		select {
		case answers := <-done:
			paid += float64(before.replicas()) * time.Since(last).Seconds()
			row.ReplicaSeconds = paid
			row.finish(v.plan, answers)
			return row
		case <-tick.C:
			u, err := v.gateway.status(ctx, "live")
			if err != nil {
				continue // the last one stands for the time until the next
			}
			now := time.Now()
			if now.Before(begin) {
				before = u
				continue
			}
			paid += float64(u.replicas()) * now.Sub(last).Seconds()
			last, before = now, u
			row.Peak = max(row.Peak, float64(u.replicas()))
			if step := u.Wanted - wanted; wanted >= 0 && step != 0 {
				row.Actions++
				if step*direction < 0 {
					row.Flips++
				}
				direction = step
			}
			wanted = u.Wanted
		}
	}
}
