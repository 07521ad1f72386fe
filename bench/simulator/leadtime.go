package simulator

import (
	"time"

	"sluice/scaler"
)

// leadTime is the product: its Meter makes the signals and its Decide decides, in the order of scaler.Loop.
type leadTime struct {
	setup  Setup
	sizing scaler.Sizing
	meter  scaler.Meter
	state  scaler.State
	starts scaler.StartTimes
	guess  time.Duration
	known  bool // a start has been measured
}

func newLeadTime(s Setup) *leadTime {
	var cfg scaler.Config
	cfg.SetDefaults()
	cfg.Min, cfg.Max = s.Min, s.Max
	if s.Headroom > 0 {
		cfg.Headroom = s.Headroom
	}
	cfg.InFlightPerReplica = s.InFlight
	if s.Cooldown > 0 {
		cfg.CooldownDown = s.Cooldown
	}
	return &leadTime{setup: s, sizing: cfg.Sizing(), guess: cfg.StartTime}
}

func (p *leadTime) decide(l look) int {
	for _, d := range l.starts {
		p.starts.Add(d)
		p.known = true
	}
	return p.ask(l, p.meter.Measure(l.reading))
}

func (p *leadTime) wake(l look) int { return p.ask(l, p.meter.Glance(l.reading)) }

func (p *leadTime) ask(l look, s scaler.Signal) int {
	s.Slots, s.Replicas, s.Start = p.setup.Slots, l.active, p.starts.P90(p.guess)
	if !p.known {
		s.Start = max(s.Start, l.slowest)
	}
	var d scaler.Decision
	p.state, d = scaler.Decide(p.sizing, p.state, s, l.reading.At)
	return d.Wanted
}
