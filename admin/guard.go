package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

const secFetchSite = "Sec-Fetch-Site"

// guard decides who may ask. It never changes; a reload puts a new one in its place.
type guard struct {
	// token is the digest of the token, so that comparing takes the same time whatever its length; nil is none.
	token *[sha256.Size]byte
	// loopback is set for a TCP listener that only this machine reaches. A browser on this machine reaches it
	// too, and a foreign page can make its own name resolve to 127.0.0.1 (DNS rebinding): the Host field
	// then still carries the foreign name.
	loopback bool
	// host is the name of the listener in the configuration, without the port.
	host string
	// readOnly serves /metrics, /healthz and /readyz and nothing else, to anybody.
	readOnly bool
}

func newGuard(listen, token string, readOnly bool) *guard {
	g := &guard{readOnly: readOnly}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		g.token = &sum
	}
	if _, unix := socketPath(listen); !unix {
		g.loopback = onlyLocal(listen)
		g.host, _, _ = net.SplitHostPort(listen)
	}
	return g
}

// check returns nil when the request may go on to r.
func (g *guard) check(ctx *fasthttp.RequestCtx, r *resource) *failure {
	if g.loopback && !g.knownHost(string(ctx.Host())) {
		return fail(fasthttp.StatusMisdirectedRequest, "unknown_host", "the Host field does not name this listener")
	}
	if g.token != nil && !r.open && !g.knows(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)) {
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, `Bearer realm="sluice"`)
		return fail(fasthttp.StatusUnauthorized, "unauthorized", "send the admin token as Authorization: Bearer …")
	}
	if r.changes {
		return sameOrigin(ctx)
	}
	return nil
}

func (g *guard) knownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return isLoopback(host) || strings.EqualFold(host, g.host)
}

func (g *guard) knows(authorization []byte) bool {
	scheme, token, _ := bytes.Cut(authorization, []byte(" "))
	sum := sha256.Sum256(bytes.TrimSpace(token))
	return subtle.ConstantTimeCompare(sum[:], g.token[:]) == 1 && bytes.EqualFold(scheme, []byte("bearer"))
}

// sameOrigin refuses what a page of another origin can make a browser send. Browsers say where a POST comes
// from (Origin, Sec-Fetch-Site); those that do not can without a preflight only send the content
// types of forms, which are therefore taken from programs alone (curl -d).
func sameOrigin(ctx *fasthttp.RequestCtx) *failure {
	h := &ctx.Request.Header
	if origin := string(h.Peek(fasthttp.HeaderOrigin)); origin != "" {
		if u, err := url.Parse(origin); err != nil || u.Host == "" || !strings.EqualFold(u.Host, string(ctx.Host())) {
			return fail(fasthttp.StatusForbidden, "cross_origin", "a page of another origin may not change anything here")
		}
	}
	switch string(h.Peek(secFetchSite)) {
	case "", "same-origin", "none":
	default:
		return fail(fasthttp.StatusForbidden, "cross_origin", "a page of another origin may not change anything here")
	}
	kind, _, _ := bytes.Cut(h.ContentType(), []byte(";"))
	kind = bytes.TrimSpace(kind)
	if len(kind) > 0 && !bytes.EqualFold(kind, []byte("application/json")) && fromBrowser(h) {
		return fail(fasthttp.StatusUnsupportedMediaType, "unsupported_media_type", "send Content-Type: application/json")
	}
	return nil
}

func fromBrowser(h *fasthttp.RequestHeader) bool {
	return len(h.Peek(fasthttp.HeaderOrigin)) > 0 || len(h.Peek(secFetchSite)) > 0 ||
		len(h.Peek(fasthttp.HeaderReferer)) > 0 || bytes.HasPrefix(h.UserAgent(), []byte("Mozilla/"))
}
