package acme

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
)

// ChallengePath is what the path of a challenge begins with (RFC 8555 §8.3); the token follows.
const ChallengePath = "/.well-known/acme-challenge/"

// Answer is the body for a GET of that path on that host (HTTP-01), when its token is under way here or at another gateway with the same
// storage; false otherwise. It may read a file.
func (m *Manager) Answer(host, path string) (body []byte, ok bool) {
	a, name := m.account.Load(), Name(host)
	if a == nil || a.host(name) == nil || !strings.HasPrefix(path, ChallengePath) {
		return nil, false
	}
	r := &http.Request{Method: http.MethodGet, Host: name, URL: &url.URL{Path: path}, RequestURI: path, Header: http.Header{}}
	w := answer{header: http.Header{}}
	ok = a.issuer.HandleHTTPChallenge(&w, r)
	return w.Bytes(), ok
}

// answer is what certmagic writes its answer to.
type answer struct {
	bytes.Buffer
	header http.Header
}

func (w *answer) Header() http.Header { return w.header }
func (w *answer) WriteHeader(int)     {}
