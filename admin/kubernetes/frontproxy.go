package kubernetes

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// caller is who asks, as the API server says.
type caller struct {
	name, uid string
	groups    []string
	extra     map[string][]string
}

// frontProxy is the API server as the one who passes requests on, told by its client certificate. What is believed
// (which authority, which names, which header fields) the API server publishes in a configmap; authorities are
// replaced while clusters live, so it is read again and again, and at once when a certificate is not known.
type frontProxy struct {
	cli Client
	log *slog.Logger

	failed atomic.Pointer[string] // why the configmap could not be read, for the status; nil when it could

	mu     sync.Mutex // guards all below; held while the configmap is read
	trust  *trust     // as last read; nil: never
	readAt time.Time
	err    error // of the last reading
}

// trust is what the configmap says.
type trust struct {
	authorities                        *x509.CertPool // nil: the API server has no front proxy
	names                              []string       // common names; none: any that the authorities certify
	userFields, uidFields, groupFields []string
	extraPrefixes                      []string
}

const (
	trustNamespace = "kube-system"
	trustName      = "extension-apiserver-authentication"

	// trustMemory is how long the configmap is taken for what was last read of it, and trustPause how often it is read at
	// most: whoever has no good certificate makes no more calls of the API server than that.
	trustMemory = time.Minute
	trustPause  = 5 * time.Second
	callTimeout = 5 * time.Second
)

var errNoCertificate = errors.New("no client certificate")

// authenticate says who asks. An error means that the request did not come through the API server.
func (p *frontProxy) authenticate(r *http.Request, now time.Time) (caller, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return caller{}, errNoCertificate
	}
	t, err := p.read(r.Context(), now, trustMemory)
	if err == nil {
		if err = t.verify(r.TLS.PeerCertificates, now); err != nil {
			if t, err = p.read(r.Context(), now, trustPause); err == nil {
				err = t.verify(r.TLS.PeerCertificates, now)
			}
		}
	}
	if err != nil {
		return caller{}, err
	}
	return t.caller(r.Header)
}

// read is what the configmap says, at most memory old while it can be read, and as old as it may be while it cannot.
func (p *frontProxy) read(ctx context.Context, now time.Time, memory time.Duration) (*trust, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := now.Sub(p.readAt)
	if p.err != nil {
		memory = trustPause
	}
	if p.readAt.IsZero() || since >= memory || since < 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout) // others wait for it too
		defer cancel()
		before := p.err
		p.readAt = now
		var t *trust
		p.failed.Store(nil)
		if t, p.err = p.fetch(ctx); p.err == nil {
			p.trust = t
		} else {
			why := p.err.Error()
			p.failed.Store(&why)
		}
		switch {
		case p.err != nil && before == nil:
			p.log.Warn("the metrics API cannot learn whom to answer", "error", p.err)
		case p.err == nil && before != nil:
			p.log.Info("the metrics API knows whom to answer")
		}
	}
	if p.trust == nil {
		return nil, p.err
	}
	return p.trust, nil
}

func (p *frontProxy) fetch(ctx context.Context) (*trust, error) {
	m, err := p.cli.GetConfigMap(ctx, trustNamespace, trustName)
	if apierrors.IsForbidden(err) {
		return nil, fmt.Errorf("the service account may not read the configmap %s/%s (deploy/kubernetes/metrics-api has the role): %w", trustNamespace, trustName, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the configmap %s/%s: %w", trustNamespace, trustName, err)
	}
	t, err := trustOf(m.Data)
	if err != nil {
		return nil, fmt.Errorf("the configmap %s/%s: %w", trustNamespace, trustName, err)
	}
	return t, nil
}

// trustOf reads the keys that kube-apiserver writes of its flags --requestheader-*.
func trustOf(data map[string]string) (*trust, error) {
	t := &trust{}
	if pem := data["requestheader-client-ca-file"]; pem != "" {
		t.authorities = x509.NewCertPool()
		if !t.authorities.AppendCertsFromPEM([]byte(pem)) {
			return nil, errors.New("requestheader-client-ca-file holds no certificate")
		}
	}
	for key, to := range map[string]*[]string{
		"requestheader-allowed-names": &t.names, "requestheader-username-headers": &t.userFields, "requestheader-uid-headers": &t.uidFields,
		"requestheader-group-headers": &t.groupFields, "requestheader-extra-headers-prefix": &t.extraPrefixes,
	} {
		if text := data[key]; text != "" {
			if err := json.Unmarshal([]byte(text), to); err != nil {
				return nil, fmt.Errorf("%s is no list: %w", key, err)
			}
		}
	}
	return t, nil
}

// verify returns an error unless the chain is the front proxy's.
func (t *trust) verify(chain []*x509.Certificate, now time.Time) error {
	if t.authorities == nil {
		return errors.New("the API server names no authority for its front proxy (--requestheader-client-ca-file)")
	}
	options := x509.VerifyOptions{Roots: t.authorities, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return fmt.Errorf("the client certificate is not the front proxy's: %w", err)
	}
	if name := chain[0].Subject.CommonName; len(t.names) > 0 && !slices.Contains(t.names, name) {
		return fmt.Errorf("the client certificate is of %q, which is none of the front proxy's names", name)
	}
	return nil
}

// caller reads the fields that say who asks.
func (t *trust) caller(h http.Header) (caller, error) {
	first := func(fields []string) string {
		for _, field := range fields {
			if v := h.Get(field); v != "" {
				return v
			}
		}
		return ""
	}
	c := caller{name: first(t.userFields), uid: first(t.uidFields)}
	if c.name == "" {
		return caller{}, errors.New("the front proxy does not say who asks")
	}
	for _, field := range t.groupFields {
		for _, group := range h.Values(field) {
			if group != "" {
				c.groups = append(c.groups, group)
			}
		}
	}
	for _, prefix := range t.extraPrefixes {
		for field, values := range h {
			if len(field) <= len(prefix) || !strings.EqualFold(field[:len(prefix)], prefix) {
				continue
			}
			key := strings.ToLower(field[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			if c.extra == nil {
				c.extra = map[string][]string{}
			}
			c.extra[key] = append(c.extra[key], values...)
		}
	}
	return c, nil
}
