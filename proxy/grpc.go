package proxy

import (
	"strconv"
	"time"

	"sluice/proxy/http1"
)

// gRPC is POST over HTTP/2 with trailers (PROTOCOL-HTTP2.md of grpc/grpc): requests of it take the way of all others. What is special is
// that a call's outcome is not the HTTP status, so that a refusal has to be a response of gRPC as well, and that a call tells by when it
// wants its answer. Nor does sluice look at the outcome of what a server answers: retries, the circuit breaker and outlier detection go
// by HTTP alone.

// The codes of gRPC that sluice answers with (statuscodes.md).
const (
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

// grpcCode is what a client makes of an HTTP status (http-grpc-status-mapping.md), but for the reasons that gRPC has a code for.
func grpcCode(failed, status int) int {
	switch failed {
	case firstByteTimeout, idleTimeout:
		return grpcDeadlineExceeded
	case bodyTooLarge, headerTooLarge:
		return grpcResourceExhausted
	}
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404:
		return grpcUnimplemented
	case 429, 502, 503, 504:
		return grpcUnavailable
	}
	return grpcUnknown
}

// isGRPC tells that the request is a call of gRPC.
func (x *Exchange) isGRPC() bool { return string(x.head.Method()) == "POST" && http1.IsGRPC(x.head) }

// refuseGRPC answers a call that cannot be served: a response that has nothing but trailers, in the place of its head. The access log
// and the counters have the status that any other request would have got. in is its head so far.
func (x *Exchange) refuseGRPC(in []byte, failed, status int, message string) []byte {
	code := grpcCode(failed, status)
	if code == grpcUnavailable && x.late() {
		code = grpcDeadlineExceeded // whatever else broke off then: servers reset a call at the end of its time
	}
	in = append(in, "Content-Type: application/grpc\r\nGrpc-Status: "...)
	in = append(strconv.AppendInt(in, int64(code), 10), "\r\nGrpc-Message: "...)
	// The messages are plain text without what would have to be percent-encoded.
	return append(append(append(append(in, message...), " ("...), failures[failed].Reason...), ")\r\n"...)
}

// late tells that the time of a call is over.
func (x *Exchange) late() bool {
	return !x.ticket.Deadline.IsZero() && !time.Now().Before(x.ticket.Deadline)
}

// grpcDeadline reads grpc-timeout: at most eight digits and a unit. The zero time when there is none, or none that can be read.
func grpcDeadline(head *http1.Head, begun time.Time) time.Time {
	value := head.Get("Grpc-Timeout")
	if len(value) < 2 || len(value) > 9 {
		return time.Time{}
	}
	n, last := int64(0), len(value)-1
	for _, c := range value[:last] {
		if c < '0' || c > '9' {
			return time.Time{}
		}
		n = n*10 + int64(c-'0')
	}
	var unit time.Duration
	switch value[last] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return time.Time{}
	}
	if n > int64(longestDeadline/unit) {
		return time.Time{}
	}
	return begun.Add(time.Duration(n) * unit)
}

// longestDeadline is what counts: more is as good as none, and would overflow.
const longestDeadline = 1000 * time.Hour
