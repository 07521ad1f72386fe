package https

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/proxy/certs"
	"sluice/proxy/http1"
)

// result is what became of a handshake.
type result int

const (
	resultOK          result = iota
	resultTimeout            // not done within 5 s
	resultClosed             // the client left
	resultCleartext          // it spoke HTTP
	resultNotTLS             // or something else
	resultVersion            // only versions that are too old
	resultCipher             // no cipher suite, curve or signature that both have
	resultProto              // no protocol (ALPN) that both have
	resultCertificate        // there is none for the host
	resultClientCert         // the client's is missing or is not to be believed
	resultAlert              // the client refused, such as for want of trust in the certificate
	resultOther
	results
)

// resultNames are the values of the label result.
var resultNames = [results]string{"ok", "timeout", "closed", "cleartext", "not_tls", "version", "cipher", "protocol", "no_certificate", "client_certificate", "alert", "other"}

// resultOf sorts the errors of a handshake. crypto/tls has types for some of them only.
func resultOf(err error) result {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if isHTTP(e.RecordHeader) {
			return resultCleartext
		}
		return resultNotTLS
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return resultClientCert
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return resultAlert
	}
	is := func(target error) bool { return errors.Is(err, target) }
	says := func(text string) bool { return strings.Contains(err.Error(), text) }
	switch {
	case is(os.ErrDeadlineExceeded):
		return resultTimeout
	case is(io.EOF), is(io.ErrUnexpectedEOF), is(syscall.ECONNRESET), is(syscall.EPIPE), is(net.ErrClosed):
		return resultClosed
	case is(certs.ErrNone):
		return resultCertificate
	case says("client didn't provide a certificate"):
		return resultClientCert
	case says("unsupported versions"), says("client using inappropriate protocol fallback"):
		return resultVersion
	case says("no cipher suite supported"), says("no supported elliptic curves"), says("no key exchanges supported"), says("no ECDHE"),
		says("peer doesn't support any of the certificate's signature algorithms"):
		return resultCipher
	case says("unsupported application protocols"):
		return resultProto
	}
	return resultOther
}

// isHTTP tells the first bytes of a request in cleartext.
func isHTTP(header [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO", "TRACE", "CONNE", "PRI *"} {
		if string(header[:]) == method {
			return true
		}
	}
	return false
}

const plainAnswer = "bad_request: this port speaks TLS: use https\n"

// refusal is what a client is told that speaks HTTP in cleartext.
var refusal = []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 45\r\nConnection: close\r\n" +
	"X-Sluice-Reason: bad_request\r\n\r\n" + plainAnswer)

// failed counts a handshake that failed, and tells a client in cleartext what is wrong.
func (f *Front) failed(nc net.Conn, o *http1.Origin, err error) {
	why := resultOf(err)
	f.counts.add(0, why)
	if f.log.Enabled(context.Background(), slog.LevelDebug) {
		f.log.Debug("handshake failed", "client", o.Remote.String(), "listen", o.Listener, "why", resultNames[why], "error", err)
	}
	if why != resultCleartext {
		return
	}
	if _, err := nc.Write(refusal); err != nil {
		return
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = nc.SetReadDeadline(time.Now().Add(time.Second)) // unread bytes would turn the close into a reset that takes the answer away
		_, _ = io.CopyN(io.Discard, nc, 64<<10)
	}
}

// counts are handshakes by version and result.
type counts [versions][results]atomic.Uint64

const versions = 3 // none, 1.2, 1.3

func (c *counts) add(version uint16, r result) {
	i := 0
	switch version {
	case tls.VersionTLS12:
		i = 1
	case tls.VersionTLS13:
		i = 2
	}
	c[i][r].Add(1)
}

// Stats is a reading of what became of handshakes and of the certificates.
type Stats struct {
	Handshakes []Handshakes
	// Expiries tells for each name when its certificate ends.
	Expiries map[string]time.Time
	// Failures tells how often the certificate of a host could not be got or renewed; nil where none is made.
	Failures map[string]uint64
	// Broken is how many files have changed into what cannot be used; what was read before is in force.
	Broken int
}

// Handshakes counts those of one kind.
type Handshakes struct {
	Version string // "1.2", "1.3"; "" when it was not agreed on
	Result  string // "ok" or why it failed
	Count   uint64
}

// Stats reads all.
func (f *Front) Stats() Stats {
	s := Stats{Expiries: f.Certs.Expiries(), Broken: f.Certs.Broken()}
	f.mu.Lock()
	if f.refused != "" {
		s.Broken++
	}
	f.mu.Unlock()
	for v, name := range [versions]string{"", "1.2", "1.3"} {
		for r := range results {
			if n := f.counts[v][r].Load(); n > 0 {
				s.Handshakes = append(s.Handshakes, Handshakes{name, resultNames[r], n})
			}
		}
	}
	return s
}
