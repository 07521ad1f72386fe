package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Server answers gateways.
type Server struct {
	log  *slog.Logger
	http http.Server

	mu     sync.Mutex // guards all below
	engine Engine
	held   map[string]*Held
}

// NewServer makes a server that holds nothing yet.
func NewServer(log *slog.Logger) *Server {
	s := &Server{log: log, held: map[string]*Held{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/list", s.answers(s.list))
	mux.HandleFunc("POST /v1/scale", s.answers(s.scale))
	mux.HandleFunc("GET /v1/events", s.answers(s.events))
	mux.HandleFunc("/", s.answers(func(_ http.ResponseWriter, r *http.Request) error {
		return refusal(fmt.Sprintf("%.100q is not known: list, events and scale are", r.Method+" "+r.URL.Path))
	}))
	s.http = http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Hold replaces all that the server answers from.
func (s *Server) Hold(e Engine, held map[string]*Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.engine, s.held = e, held
}

// Serve answers on l until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends all connections.
func (s *Server) Close() { _ = s.http.Close() }

// answers writes what h returns as an error: refusals are 403 and logged.
func (s *Server) answers(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bodyMost)
		err := h(w, r)
		if err == nil {
			return
		}
		code, f := http.StatusBadGateway, failureOf(err)
		var own *failure
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			code = http.StatusRequestEntityTooLarge
			f.Kind = "refused"
		case errors.As(err, &own) && own.Kind == "refused":
			code = http.StatusForbidden
		}
		if code != http.StatusBadGateway {
			s.log.Warn("refused", "request", fmt.Sprintf("%.100s", r.Method+" "+r.URL.Path), "why", f.Message)
		}
		answer(w, code, f)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(listTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

// find is the upstream of that name, and the engine.
func (s *Server) find(name string) (*Held, Engine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.held[name]; h != nil {
		return h, s.engine, nil
	}
	return nil, s.engine, refusal(fmt.Sprintf("the scaler's configuration has no upstream %.100q on an engine", name))
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if !q.Has("upstream") {
		s.mu.Lock()
		l := listing{Engine: s.engine, Upstreams: slices.Sorted(maps.Keys(s.held))}
		s.mu.Unlock()
		answer(w, http.StatusOK, l)
		return nil
	}
	h, engine, err := s.find(q.Get("upstream"))
	if err != nil {
		return err
	}
	var l listing
	if q.Has("usage") {
		if l.Usage, err = h.usage(); err != nil {
			return err
		}
	} else if q.Has("replicas") {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // all is read; the call has a limit of its own
		if l.Replicas, err = h.replicas(r.Context(), time.Now()); err != nil {
			return err
		}
	} else {
		l = h.list()
	}
	l.Engine = engine
	answer(w, http.StatusOK, l)
	return nil
}

func (s *Server) scale(w http.ResponseWriter, r *http.Request) error {
	var o order
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return fmt.Errorf("%w: %w", refusal("the order cannot be read"), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return refusal("the order is followed by something else")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // all is read; the call has a limit of its own
	h, engine, err := s.find(o.Upstream)
	if err != nil {
		return err
	}
	if o.Kind != engine.Kind {
		return refusal(fmt.Sprintf("the engine is %s, not %.20q", engine.Kind, o.Kind))
	}
	if err := h.scale(r.Context(), o, time.Now()); err != nil {
		return err
	}
	answer(w, http.StatusOK, struct{}{})
	return nil
}

// events sends lines until the client leaves or the upstream is no longer held.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	h, _, err := s.find(r.URL.Query().Get("upstream"))
	if err != nil {
		return err
	}
	changed, leave := h.follow()
	defer leave()
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/jsonl")
	lines := json.NewEncoder(w)
	now := event{Changed: true}
	for {
		_ = c.SetWriteDeadline(time.Now().Add(silence))
		if lines.Encode(now) != nil || c.Flush() != nil {
			return nil // the client has left, or does not read
		}
		select {
		case <-changed:
			now.Changed = true
		case <-time.After(beat):
			now.Changed = false
		case <-h.gone:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}

// Shutdown ends listening, and waits until ctx ends for calls under way.
func (s *Server) Shutdown(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		s.Close()
	}
}
