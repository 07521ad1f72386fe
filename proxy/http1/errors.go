package http1

import (
	"errors"
	"fmt"
)

// What can end an exchange. They are compared with errors.Is; where the fault matters they come wrapped in ErrClient or ErrUpstream.
var (
	// ErrMore tells that a head is not complete yet: read on and parse again.
	ErrMore = errors.New("http1: head incomplete")
	// ErrCanceled is what I/O on an UpConn fails with after Cancel.
	ErrCanceled = errors.New("http1: canceled")
	// ErrConnectRefused, ErrConnectTimeout and ErrConnect (any other reason) are dial errors: nothing was sent.
	ErrConnectRefused = errors.New("http1: connection refused")
	ErrConnectTimeout = errors.New("http1: connect timeout")
	ErrConnect        = errors.New("http1: cannot connect")
	// ErrHandshake: the server was reached and could not be agreed with: its certificate is not valid, it wants another one of ours, it
	// speaks no TLS, or not the protocol that is wanted. Nothing was sent.
	ErrHandshake = errors.New("http1: handshake with the server failed")
	// ErrFirstByteTimeout: no response head within TransportConfig.FirstByte of the request's last byte.
	ErrFirstByteTimeout = errors.New("http1: no response head in time")
	// ErrIdleTimeout: a peer neither sent nor took a byte of a body for longer than allowed.
	ErrIdleTimeout = errors.New("http1: peer silent for too long")
	// ErrServerClosed: the server closed or reset the connection before its response head was complete.
	ErrServerClosed = errors.New("http1: connection closed by server")
	// ErrBodyCut: the connection ended before the body did (RFC 9112 §8). Never reported as io.EOF.
	ErrBodyCut = errors.New("http1: body cut short")
	// ErrBodyTooLarge: the request body is longer than Body.Limit allows.
	ErrBodyTooLarge = errors.New("http1: body too large")
	// ErrBodyLength: a handler wrote more or fewer bytes than it declared to WriteHead.
	ErrBodyLength = errors.New("http1: wrong number of body bytes written")
	// ErrHeadSent: WriteHead or WriteInterim after the response head was given.
	ErrHeadSent = errors.New("http1: response head already given")
	// ErrNotStarted: a body was written before WriteHead.
	ErrNotStarted = errors.New("http1: no response head given")
	// ErrClosed: the connection or the transport was closed by ourselves.
	ErrClosed = errors.New("http1: closed")
)

// Reason codes of a ProtocolError; the words are those of the access log and of X-Sluice-Reason.
const (
	reasonBadRequest       = "bad_request"
	reasonHeaderTooLarge   = "header_too_large"
	reasonMethodNotAllowed = "method_not_allowed"
	reasonBadResponse      = "bad_response"
	reasonIdleTimeout      = "idle_timeout"
	reasonConnLimited      = "conn_limited"
)

// ProtocolError is a message that breaks RFC 9112 or our limits. The values are fixed and shared: do not modify them.
type ProtocolError struct {
	// Status is what the client is answered: 400, 405, 408, 417, 431 or 505 for requests, 502 for responses.
	Status int
	// Reason is the reason code: bad_request, header_too_large, method_not_allowed, idle_timeout or bad_response.
	Reason string
	// Detail says in words what was wrong; it holds no bytes of the message.
	Detail string
}

// Error implements error.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("http1: %s (%d): %s", e.Reason, e.Status, e.Detail)
}

// ErrClient wraps an error of the client's making: it left, was silent, or sent a bad body.
type ErrClient struct{ Err error }

// Error implements error.
func (e ErrClient) Error() string { return "client: " + e.Err.Error() }

// Unwrap gives the cause.
func (e ErrClient) Unwrap() error { return e.Err }

// ErrUpstream wraps an error of the server's making: it closed, was silent, or sent a bad body.
type ErrUpstream struct{ Err error }

// Error implements error.
func (e ErrUpstream) Error() string { return "upstream: " + e.Err.Error() }

// Unwrap gives the cause.
func (e ErrUpstream) Unwrap() error { return e.Err }

// CutError is Shutdown's when its context ended first.
type CutError struct {
	// Conns is the number of connections that had a request or a tunnel under way and were cut.
	Conns int
}

// Error implements error.
func (e *CutError) Error() string {
	return fmt.Sprintf("http1: %d connections cut at the end of the drain", e.Conns)
}

func badRequest(detail string) *ProtocolError {
	return &ProtocolError{Status: 400, Reason: reasonBadRequest, Detail: detail}
}

func badResponse(detail string) *ProtocolError {
	return &ProtocolError{Status: 502, Reason: reasonBadResponse, Detail: detail}
}
