package proxy

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strconv"

	"sluice/proxy/http1"
)

// Secure is what a table knows of the listeners where clients speak TLS; the zero value is that there are none.
type Secure struct {
	// Covers tells whether there is a certificate for a host in lower case, without its port; nil: cleartext requests are not redirected.
	// It is called for each of them, must not keep host and may be called concurrently.
	Covers func(host []byte) bool
	// Port is where clients reach https; 443 is not written.
	Port int
	// From are the cleartext listeners whose requests are redirected.
	From []string
	// Challenge is the answer to a request of challengePath, without TLS, by host in lower case and without its port, where an authority asks
	// for it; false where nobody does, and the request is routed. nil is nowhere. It must not keep either and may be called concurrently.
	Challenge func(host, path []byte) ([]byte, bool)
	// HSTS is the value of Strict-Transport-Security in answers over TLS; "" is none.
	HSTS string
	// ClientCerts tells that clients are asked for certificates, and servers are told of them.
	ClientCerts bool
}

// challengePath is where an authority asks in cleartext whether a host is ours (RFC 8555 §8.3).
const challengePath = "/.well-known/acme-challenge/"

// toAuthority answers an authority's challenge, on every listener without TLS and before anything else; false when the request is none.
func (x *Exchange) toAuthority() bool {
	s := &x.table.secure
	if s.Challenge == nil || x.conn.TLS() || !bytes.HasPrefix(x.head.Path(), []byte(challengePath)) || string(x.head.Method()) != "GET" {
		return false
	}
	x.host = appendHost(x.host[:0], x.head.Host())
	body, ok := s.Challenge(x.host, x.head.Path())
	if !ok {
		return false
	}
	x.done = true
	x.status = 200
	x.in = append(appendStatus(x.in[:0], x.status), "Content-Type: application/octet-stream\r\n"...)
	x.respond(body)
	return true
}

// toHTTPS answers a cleartext request for a host that has a certificate with a redirect to https, before it is routed; false when it
// is to be served. What a trusted proxy has received by https is.
func (x *Exchange) toHTTPS() bool {
	s := &x.table.secure
	if s.Covers == nil || x.conn.TLS() || !slices.Contains(s.From, x.conn.Listener()) {
		return false
	}
	x.host = appendHost(x.host[:0], x.head.Host())
	if !x.redirected(s) {
		return false
	}
	x.done = true
	x.status = 308
	in := append(appendStatus(x.in[:0], x.status), "Location: "...)
	x.in = append(s.appendLocation(in, x.host, x.head.Target()), "\r\n"...)
	x.respond(nil)
	return true
}

// redirected tells whether a cleartext request for x.host is to go to https.
func (x *Exchange) redirected(s *Secure) bool {
	h := x.head
	if !bytes.HasPrefix(h.Target(), []byte("/")) || asksChallenge(h.Path()) || x.trusted && cameSecure(h) {
		return false
	}
	return s.Covers(x.host)
}

// asksChallenge tells a path below challengePath that nobody reads as another one, which dot segments lead to.
func asksChallenge(path []byte) bool {
	return bytes.HasPrefix(path, []byte(challengePath)) && plainPath(path[len(challengePath)-1:])
}

// cameSecure tells what the proxy before us says.
func cameSecure(h *http1.Head) bool {
	proto := h.Get("X-Forwarded-Proto")
	if at := bytes.IndexByte(proto, ','); at >= 0 { // the first proxy is the one that the client spoke with
		proto = proto[:at]
	}
	return isName(bytes.TrimSpace(proto), "https")
}

func (s *Secure) appendLocation(dst, host, target []byte) []byte {
	dst = append(append(dst, "https://"...), host...)
	if s.Port != 443 {
		dst = strconv.AppendInt(append(dst, ':'), int64(s.Port), 10)
	}
	return append(dst, target...)
}

// appendHSTS writes the field of an answer over TLS (RFC 6797 §7.2: never of one without), unless the route sets it.
func (x *Exchange) appendHSTS(dst []byte) []byte {
	if !x.hasHSTS() {
		return dst
	}
	return append(append(append(dst, "Strict-Transport-Security: "...), x.table.secure.HSTS...), "\r\n"...)
}

// hasHSTS tells that Strict-Transport-Security is for us to say: browsers take the first one only (RFC 6797 §8.1).
func (x *Exchange) hasHSTS() bool {
	return x.table.secure.HSTS != "" && x.conn.TLS() && (x.route == nil || edited(x.route.response, "Strict-Transport-Security") == nil)
}

// tellsOfClient tells the fields of appendClientCert, and their kin: they are never the client's to write.
func tellsOfClient(name []byte) bool {
	const ssl = "X-SSL-Client-"
	return isName(name, "client-cert") || isName(name, "client-cert-chain") || len(name) > len(ssl) && isName(name[:len(ssl)], "x-ssl-client-")
}

// appendClientCert tells the server of the client's certificate: X-SSL-Client-Verify (SUCCESS, or NONE without one), its subject in
// X-SSL-Client-S-DN (RFC 4514, in ASCII) and the certificate itself in Client-Cert (RFC 9440).
func (x *Exchange) appendClientCert(dst []byte) []byte {
	if !x.table.secure.ClientCerts || !x.conn.TLS() {
		return dst
	}
	var cert *x509.Certificate
	if state := x.conn.Origin().TLS; len(state.VerifiedChains) > 0 {
		cert = state.PeerCertificates[0]
	}
	if x.writes("X-SSL-Client-Verify") {
		verify := "NONE"
		if cert != nil {
			verify = "SUCCESS"
		}
		dst = append(append(append(dst, "X-SSL-Client-Verify: "...), verify...), "\r\n"...)
	}
	if cert == nil {
		return dst
	}
	if x.writes("X-SSL-Client-S-DN") {
		dst = append(appendDN(append(dst, "X-SSL-Client-S-DN: "...), cert.Subject.String()), "\r\n"...)
	}
	if x.writes("Client-Cert") {
		dst = base64.StdEncoding.AppendEncode(append(dst, "Client-Cert: :"...), cert.Raw)
		dst = append(dst, ":\r\n"...)
	}
	return dst
}

// appendDN writes a distinguished name so that it can stand in a field: bytes that cannot as a backslash and two hexadecimal digits
// (RFC 4514 §2.4).
func appendDN(dst []byte, name string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' {
			dst = append(dst, '\\', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
