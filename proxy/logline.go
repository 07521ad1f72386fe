package proxy

import (
	"bytes"
	"crypto/tls"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The longest values that a line takes, in bytes.
const (
	logMethod  = 32
	logHost    = 256
	logTarget  = 2048
	logAgent   = 512
	logReferer = 1024
)

// capped cuts a value to at most n bytes.
func capped(value []byte, n int) []byte { return value[:min(len(value), n)] }

// appendLine writes the access log's line of a finished request.
func (x *Exchange) appendLine(dst []byte, format logFormat, end time.Time) []byte {
	if format == logCombined {
		return x.appendCombined(dst)
	}
	l := lineWriter{dst: dst, json: format == logJSON}
	if l.json {
		l.dst = append(l.dst, '{')
	}
	l.key("ts")
	l.quoted(func(b []byte) []byte { return x.begun.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00") })
	l.key("client")
	l.quoted(func(b []byte) []byte { return appendNode(b, x.client) })
	l.bytes("method", capped(x.head.Method(), logMethod))
	l.bytes("host", capped(x.head.Host(), logHost))
	x.line = appendRedacted(x.line[:0], capped(x.head.Target(), logTarget))
	l.bytes("path", x.line)
	l.key("proto")
	l.quoted(func(b []byte) []byte { return x.appendProto(b) })
	l.text("tls", x.tlsVersion())
	l.number("status", int64(x.status))
	l.text("reason", x.reason())
	l.number("bytes_in", x.conn.BytesIn())
	l.number("bytes_out", x.conn.BytesOut())
	l.seconds("t_queue", x.queued)
	l.seconds("t_connect", x.connect)
	l.seconds("t_first_byte", x.firstByte)
	l.seconds("t_total", end.Sub(x.begun))
	l.text("route", x.stats.route)
	l.text("upstream", x.stats.upstream)
	l.text("server", x.serverID)
	l.number("tries", int64(x.tries))
	l.bytes("request_id", x.id)
	l.bytes("user_agent", capped(x.head.Get("User-Agent"), logAgent))
	if l.json {
		l.dst = append(l.dst, '}')
	}
	return append(l.dst, '\n')
}

// appendCombined writes the line that Apache and nginx call combined.
func (x *Exchange) appendCombined(dst []byte) []byte {
	dst = append(appendNode(dst, x.client), " - - ["...)
	dst = append(x.begun.AppendFormat(dst, "02/Jan/2006:15:04:05 -0700"), `] "`...)
	dst = append(appendHexEscaped(dst, capped(x.head.Method(), logMethod)), ' ')
	x.line = appendRedacted(x.line[:0], capped(x.head.Target(), logTarget))
	dst = append(appendHexEscaped(dst, x.line), ' ')
	dst = append(x.appendProto(dst), `" `...)
	dst = append(strconv.AppendInt(dst, int64(x.status), 10), ' ')
	dst = append(strconv.AppendInt(dst, x.conn.BodyOut(), 10), ` "`...)
	x.line = appendRedacted(x.line[:0], capped(x.head.Get("Referer"), logReferer))
	dst = append(appendOrDash(dst, x.line), `" "`...)
	return append(appendOrDash(dst, capped(x.head.Get("User-Agent"), logAgent)), "\"\n"...)
}

func (x *Exchange) appendProto(dst []byte) []byte {
	if x.conn.Origin().HTTP2 {
		return append(dst, "HTTP/2.0"...)
	}
	return append(append(dst, "HTTP/1."...), '0'+byte(x.head.Minor()))
}

// tlsVersion is "1.3" or "1.2", "" without TLS.
func (x *Exchange) tlsVersion() string {
	state := x.conn.Origin().TLS
	if state == nil {
		return ""
	}
	return strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")
}

// lineWriter writes fields as JSON or logfmt.
type lineWriter struct {
	dst  []byte
	json bool
	more bool
}

func (l *lineWriter) key(name string) {
	if l.json {
		if l.more {
			l.dst = append(l.dst, ',')
		}
		l.dst = append(append(append(l.dst, '"'), name...), `":`...)
	} else {
		if l.more {
			l.dst = append(l.dst, ' ')
		}
		l.dst = append(append(l.dst, name...), '=')
	}
	l.more = true
}

// quoted writes a value that needs no escapes.
func (l *lineWriter) quoted(write func([]byte) []byte) {
	if l.json {
		l.dst = append(write(append(l.dst, '"')), '"')
	} else {
		l.dst = write(l.dst)
	}
}

func (l *lineWriter) bytes(name string, value []byte) {
	l.key(name)
	if l.json || needsQuotes(value) {
		l.dst = append(appendJSONEscaped(append(l.dst, '"'), value), '"')
	} else {
		l.dst = append(l.dst, value...)
	}
}

func (l *lineWriter) text(name, value string) {
	l.key(name)
	if l.json || needsQuotes(value) {
		l.dst = append(appendJSONEscaped(append(l.dst, '"'), value), '"')
	} else {
		l.dst = append(l.dst, value...)
	}
}

func (l *lineWriter) number(name string, n int64) {
	l.key(name)
	l.dst = strconv.AppendInt(l.dst, n, 10)
}

func (l *lineWriter) seconds(name string, d time.Duration) {
	l.key(name)
	l.dst = strconv.AppendFloat(l.dst, d.Seconds(), 'f', 6, 64)
}

// needsQuotes tells a value that logfmt puts into quotes.
func needsQuotes[T string | []byte](value T) bool {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f {
			return true
		}
	}
	return len(value) == 0
}

// appendJSONEscaped writes text for a JSON string; bytes that are not UTF-8 become U+FFFD.
func appendJSONEscaped[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			var rune4 [utf8.UTFMax]byte
			n := copy(rune4[:], text[i:])
			r, size := utf8.DecodeRune(rune4[:n])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return dst
}

// appendHexEscaped writes text as nginx does in the combined format.
func appendHexEscaped(dst, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range text {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

func appendOrDash(dst, text []byte) []byte {
	if len(text) == 0 {
		return append(dst, '-')
	}
	return appendHexEscaped(dst, text)
}

// appendRedacted copies a target or a URL with the values of secret parameters replaced by "***".
// Parameters end at "&" or ";". See isSecret for which are secret.
func appendRedacted(dst, target []byte) []byte {
	at := bytes.IndexByte(target, '?')
	if at < 0 {
		return append(dst, target...)
	}
	dst = append(dst, target[:at+1]...)
	for rest := target[at+1:]; len(rest) > 0; {
		pair, end := rest, len(rest)
		if i := bytes.IndexAny(rest, "&;"); i >= 0 {
			pair, end = rest[:i], i+1
		}
		if eq := bytes.IndexByte(pair, '='); eq >= 0 && isSecret(pair[:eq]) {
			dst = append(append(dst, pair[:eq+1]...), "***"...)
		} else {
			dst = append(dst, pair...)
		}
		dst = append(dst, rest[len(pair):end]...)
		rest = rest[end:]
	}
	return dst
}

// secretWords make a parameter secret wherever they stand in its name.
var secretWords = [...]string{"token", "secret", "passw", "pwd", "signature", "credential", "auth", "session", "jwt", "apikey"}

// isSecret tells a query parameter whose value is not logged: its name, without regard to case and
// escapes, holds one of secretWords, ends with "key", or is "sig", "code" or "sid". A name of more than
// 64 bytes is taken for secret.
func isSecret(name []byte) bool {
	var folded [64]byte
	n := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) && unhex(name[i+1]) < 16 && unhex(name[i+2]) < 16 {
			c = unhex(name[i+1])<<4 | unhex(name[i+2])
			i += 2
		}
		if n == len(folded) {
			return true
		}
		folded[n] = lower(c)
		n++
	}
	plain := folded[:n]
	for _, w := range secretWords {
		for i := 0; i+len(w) <= n; i++ {
			if string(plain[i:i+len(w)]) == w {
				return true
			}
		}
	}
	switch string(plain) {
	case "sig", "code", "sid":
		return true
	}
	return n >= 3 && string(plain[n-3:]) == "key"
}
