// Package admin is how operators see and steer a running sluice: Prometheus metrics, readiness,
// status, events and a few commands, over HTTP on loopback or a Unix socket. It reads the balancer,
// the scaler and the proxy and holds no state of theirs; what it asks for is [Gateway].
package admin
