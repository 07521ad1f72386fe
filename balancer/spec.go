package balancer

// ServerSpec says what discovery knows of one server.
type ServerSpec struct {
	// ID is the engine's name for it (container, task, pod, process), so that what the scaler asked
	// for can be joined with what became ready. Static servers use their address.
	ID string
	// Addr is host:port or unix:/path.
	Addr string
	// Weight is its share against the others; 0 is 1.
	Weight int
	// Slots is its own bound on requests in flight; 0 is the upstream's MaxConns.
	Slots int
	// Backup servers are used only while no other server is ready.
	Backup bool
}

// Outcome is what one request says of the server that had it.
type Outcome struct {
	// Failed: the server gave no answer (it could not be reached, closed, or was silent too long).
	Failed bool
	// Neutral: the request ended for a reason that says nothing of the server, as when its client left.
	Neutral bool
	// Status of the response; 0 when there was none.
	Status int
}

// bad reports whether the outcome counts against the server in outlier detection.
func (o Outcome) bad() bool {
	return o.Failed || o.Status == 502 || o.Status == 503 || o.Status == 504
}
