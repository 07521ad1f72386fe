package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
)

// view is all that an answer is made of. It is never changed; a new configuration puts another in its place.
type view struct {
	namespace string // whose Services the upstreams stand for; metrics are shown in it and in no other
	window    time.Duration
	upstreams []Upstream
	windows   *windows
	proxy     *frontProxy
	reviewer  *reviewer
	cert      *certificate
	log       *slog.Logger
}

// serve answers one request: who asks, for what, may they, and then what it is.
func (v *view) serve(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	who, err := v.proxy.authenticate(r, now)
	if err != nil {
		v.log.Debug("metrics API: refused", "client", r.RemoteAddr, "path", r.URL.Path, "why", err)
		send(w, nil, errUnknown)
		return
	}
	t, ok := parse(r.URL.Path)
	if !ok { // the API server asks for /openapi/v2 and v3 as a user without rights: that there is none it has to be told
		send(w, nil, errNoPath)
		return
	}
	if r.Method != http.MethodGet {
		send(w, nil, apierrors.NewMethodNotSupported(t.groupResource(), strings.ToLower(r.Method)))
		return
	}
	if err := v.permit(r, who, t, now); err != nil {
		v.log.Debug("metrics API: refused", "user", who.name, "path", r.URL.Path, "why", err)
		send(w, nil, err)
		return
	}
	switch {
	case t.resource != "":
		list, err := v.value(t, r.URL.Query(), now)
		send(w, list, err)
	case t.group == "" && wantsAggregated(r.Header.Get("Accept")):
		w.Header().Set("Content-Type", aggregatedType)
		send(w, aggregated(), nil)
	default:
		if d := document(t); d != nil {
			send(w, d, nil)
			return
		}
		send(w, nil, errNoPath)
	}
}

// permit returns an error unless who may do this.
func (v *view) permit(r *http.Request, who caller, t target, now time.Time) error {
	may, why, err := v.reviewer.allows(r.Context(), t.review(who), now)
	switch {
	case err != nil:
		v.log.Warn("the metrics API cannot ask what users may do", "error", err)
		return apierrors.NewInternalError(fmt.Errorf("cannot ask what %q may do: %w", who.name, err))
	case may:
		return nil
	}
	text := fmt.Sprintf("User %q cannot %s path %q", who.name, t.verb(), t.path)
	if t.resource != "" {
		text = fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", who.name, t.verb(), t.resource+slashed(t.subresource), t.group, t.namespace)
	}
	if why != "" {
		text += ": " + why
	}
	return apierrors.NewForbidden(t.groupResource(), t.name, errors.New(text))
}

func slashed(subresource string) string {
	if subresource == "" {
		return ""
	}
	return "/" + subresource
}

// send writes what, or a Status that tells err.
func send(w http.ResponseWriter, what any, err error) {
	code := http.StatusOK
	if err != nil {
		status := statusOf(err)
		what, code = status, int(status.Code)
	}
	body, err := json.Marshal(what)
	if err != nil { // a value that no JSON can hold
		code, body = http.StatusInternalServerError, nil
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	}
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
