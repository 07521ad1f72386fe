// Package simulator replays a trace of requests against scaling policies: one FIFO at the gateway, c slots a
// replica, replicas that take their time to start. Every policy meets the same arrivals, service times and
// start times; the product's own law is driven through scaler.Meter and scaler.Decide as the product drives it.
package simulator
