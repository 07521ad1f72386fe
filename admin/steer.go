package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/balancer"
)

func (s *Server) reload(ctx *fasthttp.RequestCtx, _ target) *failure {
	if err := s.gateway.Reload(ctx); err != nil {
		var invalid InvalidConfig
		if errors.As(err, &invalid) {
			return fail(fasthttp.StatusUnprocessableEntity, "config_invalid", "%v", err)
		}
		return fail(fasthttp.StatusInternalServerError, "reload_failed", "%v", err)
	}
	writeJSON(ctx, fasthttp.StatusOK, s.gateway.Running().Config)
	return nil
}

// ScaleRequest is the body of POST /api/v1/upstreams/NAME/scale.
type ScaleRequest struct {
	// Replicas pins the number of replicas; "auto" gives it back to the scaler. Required.
	Replicas *Replicas `json:"replicas"`
	// For is how long the pin holds, as "1h"; nil is until "auto".
	For *string `json:"for,omitempty"`
}

// Replicas is a number of replicas; below 0 it is "auto".
type Replicas int

// Auto leaves the number of replicas to the scaler.
const Auto Replicas = -1

// MarshalJSON writes a number, or "auto".
func (r Replicas) MarshalJSON() ([]byte, error) {
	if r < 0 {
		return []byte(`"auto"`), nil
	}
	return json.Marshal(int(r))
}

// UnmarshalJSON reads a number from 0, or "auto".
func (r *Replicas) UnmarshalJSON(b []byte) error {
	if string(b) == `"auto"` {
		*r = Auto
		return nil
	}
	var n int
	if err := json.Unmarshal(b, &n); err != nil || n < 0 {
		return fmt.Errorf("replicas is %s: a whole number from 0, or \"auto\", is needed", b)
	}
	*r = Replicas(n)
	return nil
}

func (s *Server) scale(ctx *fasthttp.RequestCtx, t target) *failure {
	u, f := s.upstream(t.upstream)
	if f != nil {
		return f
	}
	var req ScaleRequest
	if f := readJSON(ctx, &req); f != nil {
		return f
	}
	if req.Replicas == nil {
		return fail(fasthttp.StatusBadRequest, "bad_request", `replicas is missing: a number or "auto"`)
	}
	n := *req.Replicas
	var until time.Time
	if req.For != nil {
		d, err := time.ParseDuration(*req.For)
		if err != nil || d <= 0 {
			return fail(fasthttp.StatusBadRequest, "bad_request", `for is %q: a time above 0 like "90s" or "1h" is needed; without for the pin holds until "auto"`, *req.For)
		}
		if n == Auto {
			return fail(fasthttp.StatusBadRequest, "bad_request", `"auto" holds until the next pin: leave out for`)
		}
		until = time.Now().Add(d)
	}
	if u.Scaler == nil {
		return fail(fasthttp.StatusConflict, "not_scaled", "upstream %q has a fixed set of servers: it has no scale in the configuration", t.upstream)
	}
	if u.Scaler.Status().Follows {
		return fail(fasthttp.StatusConflict, "not_acting", "another gateway scales: ask the one that acts")
	}
	st := u.Scaler.Status()
	if st.Mode != "" && st.Mode != modeApply {
		return fail(fasthttp.StatusConflict, "not_scaled", "upstream %q has scale.mode %q: sluice starts and stops nothing there", t.upstream, st.Mode)
	}
	if n != Auto && int(n) > st.Max {
		return fail(fasthttp.StatusConflict, "beyond_max", "%d replicas are more than scale.max allows, which is %d", n, st.Max)
	}
	if n == Auto {
		u.Scaler.Unpin()
	} else {
		u.Scaler.Pin(int(n), until)
	}
	writeJSON(ctx, fasthttp.StatusOK, struct {
		Upstream string     `json:"upstream"`
		Replicas Replicas   `json:"replicas"`
		Until    *time.Time `json:"until,omitempty"`
	}{t.upstream, n, instant(until)})
	return nil
}

func (s *Server) drain(ctx *fasthttp.RequestCtx, t target) *failure {
	return s.eachWay(ctx, t, (*balancer.Server).Hold)
}

func (s *Server) enable(ctx *fasthttp.RequestCtx, t target) *failure {
	return s.eachWay(ctx, t, (*balancer.Server).Enable)
}

// eachWay drains or enables, and answers with the server's status.
func (s *Server) eachWay(ctx *fasthttp.RequestCtx, t target, do func(*balancer.Server)) *failure {
	u, f := s.upstream(t.upstream)
	if f != nil {
		return f
	}
	if len(ctx.PostBody()) > 0 {
		if f := readJSON(ctx, &struct{}{}); f != nil {
			return f
		}
	}
	server := u.Server(t.server)
	if server == nil {
		return fail(fasthttp.StatusNotFound, "unknown_server", "upstream %q has no server %q", t.upstream, t.server)
	}
	do(server)
	writeJSON(ctx, fasthttp.StatusOK, serverStatus(server, time.Now()))
	return nil
}

func (s *Server) upstream(name string) (Upstream, *failure) {
	var known []string
	for _, u := range s.gateway.Upstreams() {
		if u.Name() == name {
			return u, nil
		}
		known = append(known, u.Name())
	}
	sort.Strings(known)
	return Upstream{}, fail(fasthttp.StatusNotFound, "unknown_upstream", "there is no upstream %q; there are: %s", name, strings.Join(known, ", "))
}
