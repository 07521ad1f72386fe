package proxy

import (
	"errors"
	"syscall"

	"sluice/balancer"
	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// retry decides whether the request is tried again after err, and makes it ready for that. It is the only
// place that does. A request is tried again only when
//   - nothing of a response was passed on,
//   - nothing of the request can have reached a server, or its method is idempotent and its body can be
//     sent again (RFC 9110 §9.2.2),
//   - attempts and the upstream's budget allow it.
//
// A server that was silent for timeouts.first_byte may still be at work on the request: that is not
// tried again. Refusals of the balancer are final too.
func (x *Exchange) retry(err error) bool {
	u := x.route.upstream
	x.readClock()
	switch {
	case x.server == nil: // none was had
	case !retryable(err):
	case x.interim || x.conn.Started():
	case x.written && !idempotent(x.head.Method()):
	case x.tries > u.Retry().Attempts:
	case !x.rewind():
	case x.hasLeft():
	case !u.mayRetry(x.now):
	default:
		x.ticket.Avoid(x.server)
		x.server = nil
		return true
	}
	return false
}

// retryable tells the failures of one server that another may not have.
func retryable(err error) bool {
	if _, ok := errors.AsType[http1.ErrClient](err); ok {
		return false
	}
	for _, final := range []error{http1.ErrFirstByteTimeout, http1.ErrCanceled, http1.ErrBodyTooLarge} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// rewind makes the body ready to be sent again, if it can be.
func (x *Exchange) rewind() bool {
	if !x.head.HasBody() {
		return true
	}
	body := x.conn.Body()
	if !body.Rewindable() {
		return false
	}
	body.Rewind()
	return true
}

// idempotent tells the methods that may be delivered twice (RFC 9110 §9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// neutral tells an error that says nothing of the server: the client left or sent a bad body, or
// this machine has no descriptor or port left to reach any server.
func neutral(err error) bool {
	if _, ok := errors.AsType[http1.ErrClient](err); ok {
		return true
	}
	for _, own := range []error{http1.ErrCanceled, http1.ErrBodyTooLarge, http1.ErrClosed, balancer.ErrBreakerOpen} {
		if errors.Is(err, own) {
			return true
		}
	}
	return short(err)
}

// short tells that this machine has no descriptor, memory or port left to reach any server.
func short(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// noDescriptor tells that this process has no descriptor left.
func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// outcome is what a failed try says of its server.
func outcome(err error) balancer.Outcome {
	return balancer.Outcome{Failed: !neutral(err), Neutral: neutral(err)}
}

// outcome is what a failed try says of its server. One that cancels a call of gRPC at the end of the call's time has done nothing wrong.
func (x *Exchange) outcome(err error) balancer.Outcome {
	if http2.Canceled(err) && x.late() {
		return balancer.Outcome{Neutral: true}
	}
	return outcome(err)
}
