package http1

// Limits bound a message head. Zero fields mean the defaults: 32 KiB and 100 fields.
type Limits struct {
	// MaxHead is the largest head in bytes, start line and final empty line included.
	MaxHead int
	// MaxFields is the largest number of field lines.
	MaxFields int
}

const (
	defaultMaxHead   = 32 << 10
	defaultMaxFields = 100
)

func (l Limits) maxHead() int {
	if l.MaxHead > 0 {
		return l.MaxHead
	}
	return defaultMaxHead
}

func (l Limits) maxFields() int {
	if l.MaxFields > 0 {
		return l.MaxFields
	}
	return defaultMaxFields
}

type span struct{ from, to int }

// field is one field line: offsets into Head.buf.
type field struct {
	line, nameEnd int32 // the line starts with the name
	val, valEnd   int32
	next          int32 // start of the next line
	kind          fieldKind
	dropped       bool
	moved         bool // val does not lie in the line: the line is written anew when forwarded
}

// Head is one checked message head: the raw bytes and the offsets of their parts. It holds no copy: all slices it gives
// belong to the buffer that was parsed and are valid until the next read of its connection. It is reused from message to
// message and not safe for concurrent use. The zero value is ready for ParseRequest or ParseResponse.
type Head struct {
	buf    []byte
	fields []field

	method, target, host span
	line                 span // status line of a response without CRLF
	query                int  // offset of '?', or -1

	status, minor int
	length        int64 // Content-Length, -1 = none

	response        bool
	bodyless        bool // a response that ends with its head: HEAD, 1xx, 204, 304
	chunked         bool
	hasTE           bool
	closeAsked      bool // Connection: close
	keepAsked       bool // Connection: keep-alive
	upgradeAsked    bool // Connection: upgrade
	listed          bool // Connection names other fields
	websocket       bool
	expect          bool
	trailers        bool // TE: trailers
	connectionNames int
	hostField       int // index, or -1
	keepAliveField  int // index, or -1
	trailerField    int // index of the first, or -1
}

func (h *Head) reset() {
	fields := h.fields[:0]
	*h = Head{fields: fields, length: -1, query: -1, hostField: -1, keepAliveField: -1, trailerField: -1}
}

// forget lets go of the buffer and of the field table, which returns to its pool. What the head said of its connection, its status and its
// length stay until the next message.
func (h *Head) forget() {
	giveFields(h.fields)
	h.buf, h.fields = nil, nil
}

func (h *Head) at(s span) []byte { return h.buf[s.from:s.to:s.to] }

// Method is the request's method as received (methods are case-sensitive).
func (h *Head) Method() []byte { return h.at(h.method) }

// Target is the request target as received; absolute form is reduced to origin form, `OPTIONS *` stays "*".
func (h *Head) Target() []byte { return h.at(h.target) }

// Path is the target up to the first '?', as received (not decoded, not normalised).
func (h *Head) Path() []byte {
	if h.query < 0 {
		return h.at(h.target)
	}
	return h.at(span{h.target.from, h.query})
}

// Query is what follows the first '?', nil when there is none.
func (h *Head) Query() []byte {
	if h.query < 0 {
		return nil
	}
	return h.at(span{h.query + 1, h.target.to})
}

// Host is the one authority of the request, host[:port] as received: that of an absolute-form target, else the Host
// field's. It is empty only for HTTP/1.0 without Host.
func (h *Head) Host() []byte { return h.at(h.host) }

// Minor is 0 or 1: the version received was HTTP/1.0 or HTTP/1.1.
func (h *Head) Minor() int { return h.minor }

// Status is the response's status code, 100…599.
func (h *Head) Status() int { return h.status }

// StatusLine is the response's status line without CRLF; its version is always HTTP/1.1, whatever was received.
func (h *Head) StatusLine() []byte { return h.at(h.line) }

// Len is the number of field lines, dropped ones included.
func (h *Head) Len() int { return len(h.fields) }

// Name is the name of field i as received.
func (h *Head) Name(i int) []byte {
	f := &h.fields[i]
	return h.buf[f.line:f.nameEnd:f.nameEnd]
}

// Value is the value of field i without the white space around it.
func (h *Head) Value(i int) []byte {
	f := &h.fields[i]
	return h.buf[f.val:f.valEnd:f.valEnd]
}

// Index is the first field at or after from with that name (any case; dropped ones count), or -1.
func (h *Head) Index(name string, from int) int {
	for i := from; i < len(h.fields); i++ {
		f := &h.fields[i]
		if int(f.nameEnd-f.line) != len(name) {
			continue
		}
		n, same := h.buf[f.line:f.nameEnd], true
		for j, c := range n {
			if c != name[j] && lower(c) != lower(name[j]) {
				same = false
				break
			}
		}
		if same {
			return i
		}
	}
	return -1
}

// Get is the value of the first field with that name, or nil. An empty value is not nil.
func (h *Head) Get(name string) []byte {
	if i := h.Index(name, 0); i >= 0 {
		return h.Value(i)
	}
	return nil
}

// ContentLength is the declared length, -1 when none was. It is also set for responses to HEAD, which have no body.
func (h *Head) ContentLength() int64 { return h.length }

// Chunked tells that the body is framed by the chunked transfer coding.
func (h *Head) Chunked() bool { return h.chunked }

// HasBody tells that bytes of a body may follow. A response with neither length nor chunks has one that ends with the
// connection (RFC 9112 §6.3).
func (h *Head) HasBody() bool {
	if h.response {
		return !h.bodyless && h.length != 0
	}
	return h.chunked || h.length > 0
}

// KeepAlive tells that the sender lets the connection live on after this message (RFC 9112 §9.3).
func (h *Head) KeepAlive() bool {
	if h.closeAsked || h.minor == 0 && !h.keepAsked {
		return false
	}
	return !h.response || h.bodyless || h.chunked || h.length >= 0
}

// Websocket tells that a request asks for, or a 101 response grants, an upgrade to WebSocket (RFC 6455 §4).
func (h *Head) Websocket() bool { return h.websocket }

// ExpectContinue tells that the client waits for 100 Continue before it sends its body.
func (h *Head) ExpectContinue() bool { return h.expect }

// TrailersAccepted tells that the request said `TE: trailers`, as gRPC does.
func (h *Head) TrailersAccepted() bool { return h.trailers }

// Drop leaves field i out when the head is forwarded.
func (h *Head) Drop(i int) { h.fields[i].dropped = true }

// AppendKept appends the field lines that were not dropped, each with its CRLF, copied in runs; the final empty line is not
// appended. In the place of the Host field stands the canonical Host.
func (h *Head) AppendKept(dst []byte) []byte {
	run := int32(-1)
	for i := range h.fields {
		f := &h.fields[i]
		if !f.dropped && !f.moved {
			if run < 0 {
				run = f.line
			}
			continue
		}
		if run >= 0 {
			dst = append(dst, h.buf[run:f.line]...)
			run = -1
		}
		if !f.dropped {
			dst = append(dst, h.buf[f.line:f.nameEnd]...)
			dst = append(dst, ": "...)
			dst = append(dst, h.buf[f.val:f.valEnd]...)
			dst = append(dst, "\r\n"...)
		}
	}
	if run >= 0 {
		dst = append(dst, h.buf[run:h.fields[len(h.fields)-1].next]...)
	}
	return dst
}
