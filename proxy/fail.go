package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// The reason codes: every response that sluice makes itself has exactly one, the same in the header
// X-Sluice-Reason, the body, the access log and sluice_rejected_total.
const (
	ReasonNoRoute          = "no_route"           // 404: no route matches
	ReasonNoHealthyServer  = "no_healthy_server"  // 503: no server of the upstream is ready
	ReasonConnectRefused   = "connect_refused"    // 502: the server refused the connection, or could not be reached
	ReasonConnectTimeout   = "connect_timeout"    // 504: timeouts.connect passed
	ReasonUpstreamTLS      = "upstream_tls"       // 502: the server and we could not agree in the handshake: its certificate is not valid, …
	ReasonFirstByteTimeout = "first_byte_timeout" // 504: timeouts.first_byte passed before the response's head, or a call's grpc-timeout at its server
	ReasonIdleTimeout      = "idle_timeout"       // 408, 504 when it was the server, else a cut response: silence in a body
	ReasonServerClosed     = "server_closed"      // 502: the server closed the connection before its response was whole
	ReasonBadResponse      = "bad_response"       // 502: the response breaks HTTP/1.1
	ReasonQueueFull        = "queue_full"         // 503: queue.size requests wait already, or too many of one fair_by key, or one of a higher priority took the place
	ReasonQueueTimeout     = "queue_timeout"      // 503: no slot became free within queue.timeout, or none would
	ReasonRateLimited      = "rate_limited"       // 429, or rate_limit.status
	ReasonConnLimited      = "conn_limited"       // 503, or limit_conn.status; also 503 when this machine has no descriptor or port left
	ReasonBreakerOpen      = "breaker_open"       // 503: the circuit breaker of every server is open
	ReasonBodyTooLarge     = "body_too_large"     // 413: more than max_body
	ReasonHeaderTooLarge   = "header_too_large"   // 431: more than client.max_header or max_fields
	ReasonBadRequest       = "bad_request"        // 400: the request breaks HTTP/1.1 or is ambiguous
	ReasonMethodNotAllowed = "method_not_allowed" // 405: CONNECT
	ReasonDenied           = "denied"             // 403: deny or allow
	ReasonClientClosed     = "client_closed"      // 499, logged and counted only: the client left
	ReasonDraining         = "draining"           // 503: sluice, or the upstream, is going away
	ReasonInternal         = "internal"           // 500: a fault of sluice itself
)

// failure is one reason with what a client is told. Its position in failures is its counter.
type failure struct {
	Reason     string
	Status     int
	Message    string
	RetryAfter time.Duration // told with 429 and 503 unless something better is known
}

// longestRetryAfter bounds what a predicted wait makes of Retry-After: much may change in that time.
const longestRetryAfter = 5 * time.Minute

// untaken is idleTimeout where it was the server that did not take the request.
var untaken = failure{ReasonIdleTimeout, 504, "The server did not take the request in time.", 0}

// The positions in failures.
const (
	noRoute = iota
	noHealthyServer
	connectRefused
	connectTimeout
	upstreamTLS
	firstByteTimeout
	idleTimeout
	serverClosed
	badResponse
	queueFull
	queueTimeout
	rateLimited
	connLimited
	breakerOpen
	bodyTooLarge
	headerTooLarge
	badRequest
	methodNotAllowed
	denied
	clientClosed
	draining
	internal
	reasons // how many there are
)

// failures are all of them, in the order of the constants above.
var failures = [reasons]failure{
	{ReasonNoRoute, 404, "No route matches this request.", 0},
	{ReasonNoHealthyServer, 503, "No server is ready to answer.", 2 * time.Second},
	{ReasonConnectRefused, 502, "The server could not be reached.", 0},
	{ReasonConnectTimeout, 504, "The server did not accept the connection in time.", 0},
	{ReasonUpstreamTLS, 502, "No secure connection to the server could be made.", 0},
	{ReasonFirstByteTimeout, 504, "The server did not answer in time.", 0},
	{ReasonIdleTimeout, 408, "The request did not arrive in time.", 0},
	{ReasonServerClosed, 502, "The server closed the connection without a whole answer.", 0},
	{ReasonBadResponse, 502, "The server's answer was not valid.", 0},
	{ReasonQueueFull, 503, "Too many requests are waiting.", 1 * time.Second},
	{ReasonQueueTimeout, 503, "No server became free in time.", 1 * time.Second},
	{ReasonRateLimited, 429, "Too many requests.", 1 * time.Second},
	{ReasonConnLimited, 503, "Too many requests at the same time.", 1 * time.Second},
	{ReasonBreakerOpen, 503, "The servers fail too often and get a pause.", 2 * time.Second},
	{ReasonBodyTooLarge, 413, "The request's body is too large.", 0},
	{ReasonHeaderTooLarge, 431, "The request's header is too large.", 0},
	{ReasonBadRequest, 400, "The request is not valid.", 0},
	{ReasonMethodNotAllowed, 405, "The method is not allowed.", 0},
	{ReasonDenied, 403, "Access is denied.", 0},
	{ReasonClientClosed, 499, "The client closed the connection.", 0},
	{ReasonDraining, 503, "The gateway is going away.", 1 * time.Second},
	{ReasonInternal, 500, "The gateway failed.", 0},
}

// What the proxy itself refuses with.
var (
	errNoRoute      = errors.New("no route")
	errDenied       = errors.New("denied")
	errRateLimited  = errors.New("rate limited")
	errConnLimited  = errors.New("connection limited")
	errDraining     = errors.New("draining")
	errOverdue      = errors.New("the call's time is over")
	errUnasked101   = errors.New("the server switched protocols unasked")
	errManyInterims = errors.New("the server sent more than 10 interim responses")
)

// reasonOf is the only map from what went wrong to a reason and thereby to a status.
func reasonOf(err error) int {
	if e, ok := errors.AsType[*http1.ProtocolError](err); ok {
		for i := range failures {
			if failures[i].Reason == e.Reason {
				return i
			}
		}
		return badRequest
	}
	_, client := errors.AsType[http1.ErrClient](err)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(errNoRoute):
		return noRoute
	case is(errPathEscape), is(errPathNUL), is(errPathClimbs), is(errPathDiffer):
		return badRequest
	case is(errDenied):
		return denied
	case is(errRateLimited):
		return rateLimited
	case is(errConnLimited):
		return connLimited
	case is(http1.ErrBodyTooLarge):
		return bodyTooLarge
	case is(balancer.ErrCanceled), is(http1.ErrCanceled):
		return clientClosed
	case is(balancer.ErrNoHealthyServer):
		return noHealthyServer
	case is(balancer.ErrBreakerOpen):
		return breakerOpen
	case is(balancer.ErrQueueFull):
		return queueFull
	case is(balancer.ErrQueueTimeout):
		return queueTimeout
	case is(balancer.ErrDraining), is(errDraining):
		return draining
	case short(err): // as when a connection of a client cannot be taken for the same reason
		return connLimited
	case is(http1.ErrConnectRefused), is(http1.ErrConnect):
		return connectRefused
	case is(http1.ErrHandshake):
		return upstreamTLS
	case is(http1.ErrConnectTimeout):
		return connectTimeout
	case is(http1.ErrFirstByteTimeout), is(errOverdue):
		return firstByteTimeout
	case is(http1.ErrIdleTimeout):
		return idleTimeout
	case client:
		return clientClosed
	case is(errUnasked101), is(errManyInterims):
		return badResponse
	case is(http1.ErrServerClosed), is(http1.ErrBodyCut), is(http1.ErrClosed):
		return serverClosed
	}
	if _, ok := errors.AsType[http1.ErrUpstream](err); ok {
		return serverClosed
	}
	return internal
}

// fail answers a request that cannot be served, or cuts it when its answer has begun.
func (x *Exchange) fail(err error) {
	x.done = true
	failed := reasonOf(err)
	switch failed {
	case internal:
		x.proxy.log.Error("request failed", "route", x.stats.route, "request_id", string(x.id), "error", err)
	case upstreamTLS: // nothing else says why
		x.proxy.log.Warn("handshake with a server failed", "route", x.stats.route, "server", x.serverID, "request_id", string(x.id), "error", err)
	}
	x.refuse(failed, err)
}

// Refuse answers a request that breaks HTTP/1.1 (http1.Server.Refuse). It has no route.
func (p *Proxy) Refuse(c *http1.Conn, err *http1.ProtocolError) {
	x := p.begin(c)
	defer x.end()
	x.done = true
	x.refuse(reasonOf(err), err)
}

func (x *Exchange) refuse(failed int, err error) {
	f := &failures[failed]
	if _, ok := errors.AsType[http1.ErrUpstream](err); ok && failed == idleTimeout {
		f = &untaken
	}
	if failed == clientClosed || x.conn.Started() {
		x.note(failed)
		x.conn.Abort()
		return
	}
	status, wait := f.Status, f.RetryAfter
	if l, ok := errors.AsType[*limited](err); ok {
		status, wait = l.status, max(l.wait, wait)
	}
	switch failed {
	case queueFull, queueTimeout, noHealthyServer, breakerOpen:
		if after := x.ticket.RetryAfter(); after > 0 {
			wait = min(after, longestRetryAfter)
		}
	}
	if e, ok := errors.AsType[*http1.ProtocolError](err); ok && failed != badResponse {
		status = e.Status
	}
	x.status = status
	x.note(failed)
	json, grpc := acceptsJSON(x.head), x.isGRPC()
	x.line = appendFailure(x.line[:0], f, status, x.id, json)
	sent := status
	if grpc {
		x.line, sent = x.line[:0], 200
	}
	in := appendStatus(x.in[:0], sent)
	in = append(append(append(in, "X-Sluice-Reason: "...), f.Reason...), "\r\n"...)
	if grpc {
		in = x.refuseGRPC(in, failed, status, f.Message)
	} else if json {
		in = append(in, "Content-Type: application/json\r\n"...)
	} else {
		in = append(in, "Content-Type: text/plain; charset=utf-8\r\n"...)
	}
	if status == 429 || status == 503 {
		seconds := max(1, (wait+time.Second-1)/time.Second)
		in = append(strconv.AppendInt(append(in, "Retry-After: "...), int64(seconds), 10), "\r\n"...)
	}
	if status == 405 {
		in = append(in, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	x.in = in
	x.respond(x.line)
}

// appendFailure writes the body of a failure.
func appendFailure(dst []byte, f *failure, status int, id []byte, json bool) []byte {
	if !json {
		dst = append(append(append(dst, f.Message...), "\nreason: "...), f.Reason...)
		return append(append(append(dst, "\nrequest: "...), id...), '\n')
	}
	dst = strconv.AppendInt(append(dst, `{"status":`...), int64(status), 10)
	dst = append(append(append(dst, `,"reason":"`...), f.Reason...), `","message":"`...)
	dst = append(append(append(dst, f.Message...), `","request_id":"`...), id...)
	return append(dst, "\"}\n"...)
}

// acceptsJSON tells a client that asks for JSON by name (RFC 9110 §12.5.1).
func acceptsJSON(head fields) bool {
	for i := head.Index("Accept", 0); i >= 0; i = head.Index("Accept", i+1) {
		if bytes.Contains(bytes.ToLower(head.Value(i)), []byte("json")) {
			return true
		}
	}
	return false
}
