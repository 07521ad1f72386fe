package privsep

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/scaler"
)

// Remote is one upstream on the gateway's side: its discovery.Source and its scaler.Driver, which ask the scaler.
// While that does not answer the last servers stay.
type Remote struct {
	client  *Client
	name    string
	kind    string // of the engine that the loop was made for
	log     *slog.Logger
	changed chan struct{}
	gauge   gauge

	mu      sync.Mutex // guards all below
	notes   []discovery.Note
	trouble error // why the scaler cannot tell; nil when it does
	other   error // the scaler's engine is another one now
}

// Remote is the upstream of that name, whose engine is of that kind.
func (c *Client) Remote(name, kind string, log *slog.Logger) *Remote {
	return &Remote{client: c, name: name, kind: kind, log: log.With("upstream", name), changed: make(chan struct{}, 1)}
}

// Driver is r as a driver of its kind.
func (r *Remote) Driver() scaler.Driver {
	if r.kind == "swarm" {
		return chooser{r}
	}
	return r
}

// chooser is the driver of an engine that chooses itself which replicas go.
type chooser struct{ *Remote }

// Chooses is scaler.Chooser's.
func (chooser) Chooses() {}

// retryPause is the time between two tries to follow the scaler.
const retryPause = time.Second

// Run is discovery.Source's.
func (r *Remote) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	var sent []balancer.ServerSpec
	first := true
	send := func(set []balancer.ServerSpec) {
		if !first && slices.Equal(set, sent) {
			return
		}
		select {
		case out <- set:
			first, sent = false, set
		case <-ctx.Done():
		}
	}
	for {
		err := r.follow(ctx, send)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.took(nil, err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow reads the event stream and lists at each of its lines, until either fails.
func (r *Remote) follow(ctx context.Context, send func([]balancer.ServerSpec)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("no answer within %s", silence)) })
	defer quiet.Stop()
	lines, err := r.client.open(ctx, http.MethodGet, "events", url.Values{"upstream": {r.name}}, nil)
	if err != nil {
		return because(ctx, err)
	}
	defer lines.Close()
	for events := json.NewDecoder(&lineReader{r: lines}); ; {
		var e event
		if err := events.Decode(&e); err != nil {
			return because(ctx, fmt.Errorf("the scaler at %s has ended the events: %w", r.client.path, err))
		}
		quiet.Reset(silence)
		if e.Changed {
			select {
			case r.changed <- struct{}{}:
			default:
			}
		}
		var l listing
		if err := r.client.call(ctx, http.MethodGet, "list", url.Values{"upstream": {r.name}}, nil, &l); err != nil {
			return because(ctx, err)
		}
		if r.took(&l, nil) && l.Known {
			send(l.Servers)
		}
		quiet.Reset(silence)
	}
}

// because is err, or why ctx was ended by its cause.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && cause != ctx.Err() {
		return fmt.Errorf("the scaler is silent: %w", cause)
	}
	return err
}

// took notes what came of following; it reports whether the list is one of the engine that is meant.
func (r *Remote) took(l *listing, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.trouble
	switch {
	case err != nil:
		r.trouble = err
	case l.Engine.Missing:
		r.trouble = fmt.Errorf("the scaler has no engine: %s", l.Engine.Why)
	case l.Engine.Kind != r.kind:
		r.other = refusal(fmt.Sprintf("the scaler's engine is %s now and was %s: reload sluice", l.Engine.Kind, r.kind))
		r.trouble = r.other
	default:
		r.trouble, r.other, r.notes = nil, nil, l.Notes
	}
	switch {
	case r.trouble != nil && (was == nil || was.Error() != r.trouble.Error()):
		r.log.Error("cannot learn the servers, keeping the last ones", "error", r.trouble)
	case r.trouble == nil && was != nil:
		r.log.Info("the scaler answers again")
	}
	return r.trouble == nil
}

// Notes says what the scaler found and does not route, or why it cannot tell.
func (r *Remote) Notes() []discovery.Note {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble != nil {
		return []discovery.Note{{Name: "scaler", Why: r.trouble.Error() + "; the last servers are kept"}}
	}
	return slices.Clone(r.notes)
}

// Changed is scaler.Changer's.
func (r *Remote) Changed() <-chan struct{} { return r.changed }

// List is scaler.Driver's.
func (r *Remote) List(ctx context.Context) ([]scaler.Replica, error) {
	if err := r.wrong(); err != nil {
		return nil, err
	}
	var l listing
	err := r.client.call(ctx, http.MethodGet, "list", url.Values{"upstream": {r.name}, "replicas": {"1"}}, nil, &l)
	return l.Replicas, err
}

// Scale is scaler.Driver's.
func (r *Remote) Scale(ctx context.Context, n int, victims []string) error {
	if err := r.wrong(); err != nil {
		return err
	}
	var done struct{}
	return r.client.call(ctx, http.MethodPost, "scale", nil, order{r.name, r.kind, n, victims}, &done)
}

func (r *Remote) wrong() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.other
}

// lineReader bounds what is read at once of a stream without end: json.Decoder grows only with a value that does not
// end, and a value of events is short.
type lineReader struct {
	r io.Reader
	n int // bytes since the last newline
}

func (l *lineReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	for _, b := range p[:n] {
		if l.n++; b == '\n' {
			l.n = 0
		}
		if l.n > bodyMost {
			return 0, fmt.Errorf("a line of more than %d bytes", bodyMost)
		}
	}
	return n, err
}
