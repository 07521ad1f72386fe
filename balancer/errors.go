package balancer

import "errors"

// What Acquire and Execute refuse with. Each is one reason code of the gateway.
var (
	// ErrNoHealthyServer: no server is ready and none is on its way.
	ErrNoHealthyServer = errors.New("no healthy server")
	// ErrBreakerOpen: the circuit breaker of the server, or of every server, is open.
	ErrBreakerOpen = errors.New("circuit breaker open")
	// ErrQueueFull: as many requests wait as may wait.
	ErrQueueFull = errors.New("queue full")
	// ErrQueueTimeout: no slot became free in the time a request may wait.
	ErrQueueTimeout = errors.New("queue timeout")
	// ErrCanceled: Cancel was called, the client has left.
	ErrCanceled = errors.New("canceled")
	// ErrDraining: the upstream is no longer in the configuration.
	ErrDraining = errors.New("draining")
	// ErrServerStatus is what the function given to Execute returns for a response whose status is
	// 500 or more: a failure for the breaker, and still an answer for the client.
	ErrServerStatus = errors.New("server answered with a failure status")
)
