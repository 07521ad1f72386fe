// Package signals asks what the gateway cannot see: a Prometheus query, and what servers tell of their own queues, caches
// and models. It only asks and remembers; what follows from it scaler.Decide says.
package signals
