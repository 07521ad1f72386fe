package privsep

import (
	"errors"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/scaler"
)

const (
	bodyMost   = 64 << 10 // bytes of a request
	answerMost = 16 << 20 // bytes of an answer
	listTime   = 10 * time.Second
	scaleTime  = 30 * time.Second
	beat       = 3 * time.Second  // between lines of an event stream
	silence    = 10 * time.Second // after which a stream counts as broken
)

// Engine is the scaler's engine, as the status shows it.
type Engine struct {
	Kind string `json:"kind"` // none, docker, swarm or kubernetes
	Why  string `json:"why"`
	// Missing: it is wanted and has not answered yet.
	Missing bool `json:"missing,omitempty"`
}

// listing answers list.
type listing struct {
	Engine    Engine                `json:"engine"`
	Upstreams []string              `json:"upstreams,omitempty"`
	Known     bool                  `json:"known,omitempty"` // Servers is what the engine says, and not only nothing yet
	Servers   []balancer.ServerSpec `json:"servers,omitempty"`
	Notes     []discovery.Note      `json:"notes,omitempty"`
	Replicas  []scaler.Replica      `json:"replicas,omitempty"`
	Usage     []usage               `json:"usage,omitempty"`
}

// event is one line of events.
type event struct {
	Changed bool `json:"changed"` // else it only says that the scaler lives
}

// order asks for scale.
type order struct {
	Upstream string   `json:"upstream"`
	Kind     string   `json:"kind"` // of the engine that it is meant for
	N        int      `json:"n"`
	Victims  []string `json:"victims,omitempty"`
}

// failure is the answer to whatever is not done, and the error that the client makes of it.
type failure struct {
	Message string `json:"error"`
	Kind    string `json:"kind,omitempty"` // start or refused: the sentinel that it wraps
}

func (f *failure) Error() string { return f.Message }

// Unwrap is the sentinel of the scaler that the driver's error wrapped.
func (f *failure) Unwrap() error {
	switch f.Kind {
	case "start":
		return scaler.ErrStart
	case "refused":
		return scaler.ErrRefused
	}
	return nil
}

// failureOf is err for the wire.
func failureOf(err error) *failure {
	f := &failure{Message: err.Error()}
	switch {
	case errors.Is(err, scaler.ErrStart):
		f.Kind = "start"
	case errors.Is(err, scaler.ErrRefused):
		f.Kind = "refused"
	}
	return f
}

// refusal is a request that the scaler's configuration does not allow.
func refusal(message string) *failure { return &failure{Message: message, Kind: "refused"} }
