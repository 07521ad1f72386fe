package http1

// Faults of a field section; the two directions give them their own status.
var (
	faultBareCR    = badRequest("bare CR")
	faultBareLF    = badRequest("bare LF as line end")
	faultNUL       = badRequest("NUL or control byte")
	faultFold      = badRequest("white space at the start of a field line (obs-fold)")
	faultName      = badRequest("bad byte in a field name")
	faultNoName    = badRequest("empty field name")
	faultTooMany   = &ProtocolError{Status: 431, Reason: reasonHeaderTooLarge, Detail: "too many fields"}
	faultTooLarge  = &ProtocolError{Status: 431, Reason: reasonHeaderTooLarge, Detail: "head too large"}
	faultLength    = badRequest("bad Content-Length")
	faultLengths   = badRequest("more than one Content-Length")
	faultTE        = badRequest("Transfer-Encoding other than chunked")
	faultTELength  = badRequest("Transfer-Encoding with Content-Length")
	faultTEVersion = badRequest("Transfer-Encoding in HTTP/1.0")
	faultOptions   = badRequest("too many Connection options")
)

// maxConnectionNames bounds the work of dropping the fields that Connection lists.
const maxConnectionNames = 64

// scanFields reads field lines from b[pos:] up to and including the empty line and appends them to fields. It returns the
// offset after the empty line. Every byte is checked (RFC 9112 §5): token names directly followed by a colon, no folding,
// CRLF line ends only, no control bytes. ErrMore when b ends first.
func scanFields(b []byte, pos int, fields []field, max int) ([]field, int, error) {
	for {
		if pos >= len(b) {
			return fields, 0, ErrMore
		}
		switch b[pos] {
		case '\r':
			if pos+1 == len(b) {
				return fields, 0, ErrMore
			}
			if b[pos+1] != '\n' {
				return fields, 0, faultBareCR
			}
			return fields, pos + 2, nil
		case ' ', '\t':
			return fields, 0, faultFold
		}
		i := pos
		for i < len(b) && class[b[i]]&tokenByte != 0 {
			i++
		}
		if i == len(b) {
			return fields, 0, ErrMore
		}
		if b[i] != ':' {
			return fields, 0, controlFault(b[i], faultName)
		}
		if i == pos {
			return fields, 0, faultNoName
		}
		val := i + 1
		end := valueEnd(b, val)
		if end == len(b) {
			return fields, 0, ErrMore
		}
		if b[end] != '\r' {
			return fields, 0, controlFault(b[end], faultNUL)
		}
		if end+1 == len(b) {
			return fields, 0, ErrMore
		}
		if b[end+1] != '\n' {
			return fields, 0, faultBareCR
		}
		if len(fields) == max {
			return fields, 0, faultTooMany
		}
		next := end + 2
		for val < end && (b[val] == ' ' || b[val] == '\t') {
			val++
		}
		for end > val && (b[end-1] == ' ' || b[end-1] == '\t') {
			end--
		}
		if len(fields) == cap(fields) {
			fields = moreFields(fields)
		}
		fields = append(fields, field{line: int32(pos), nameEnd: int32(i), val: int32(val), valEnd: int32(end), next: int32(next)})
		pos = next
	}
}

func controlFault(c byte, other *ProtocolError) *ProtocolError {
	switch {
	case c == '\n':
		return faultBareLF
	case c == '\r':
		return faultBareCR
	case c == 0:
		return faultNUL
	}
	return other
}

// framing reads what both directions share out of the scanned fields: Content-Length, Transfer-Encoding and the
// Connection options. It leaves the checks that need the version to its callers.
func (h *Head) framing() *ProtocolError {
	for i := range h.fields {
		f := &h.fields[i]
		f.kind = kindOf(h.buf[f.line:f.nameEnd])
		if f.kind == kindOther {
			continue
		}
		value := h.buf[f.val:f.valEnd]
		switch f.kind {
		case kindContentLength:
			if h.length >= 0 {
				return faultLengths
			}
			n, ok := parseLength(value)
			if !ok {
				return faultLength
			}
			h.length = n
		case kindTransferEncoding:
			if h.hasTE || !equalFold(value, "chunked") {
				return faultTE
			}
			h.hasTE, h.chunked = true, true
		case kindConnection:
			if !h.connection(value) {
				return faultOptions
			}
		case kindTE:
			for item, rest := nextItem(value); ; item, rest = nextItem(rest) {
				if equalFold(item, "trailers") {
					h.trailers = true
				}
				if rest == nil {
					break
				}
			}
		case kindUpgrade:
			h.websocket = equalFold(value, "websocket")
		case kindKeepAlive:
			h.keepAliveField = i
		case kindTrailer:
			if h.trailerField < 0 {
				h.trailerField = i
			}
		}
	}
	if h.chunked {
		if h.length >= 0 {
			return faultTELength
		}
		if h.minor == 0 {
			return faultTEVersion
		}
	}
	h.websocket = h.websocket && h.upgradeAsked
	return nil
}

// connection reads one Connection field (RFC 9110 §7.6.1); false when it lists too much.
func (h *Head) connection(value []byte) bool {
	for item, rest := nextItem(value); ; item, rest = nextItem(rest) {
		switch {
		case len(item) == 0:
		case equalFold(item, "close"):
			h.closeAsked = true
		case equalFold(item, "keep-alive"):
			h.keepAsked = true
		case equalFold(item, "upgrade"):
			h.upgradeAsked = true
		default:
			h.listed = true
			if h.connectionNames++; h.connectionNames > maxConnectionNames {
				return false
			}
		}
		if rest == nil {
			return true
		}
	}
}

// tooLarge turns "read on" into a refusal once the head is over its limit.
func tooLarge(err error, have int, lim Limits) error {
	if err == ErrMore && have >= lim.maxHead() {
		return faultTooLarge
	}
	return err
}

// headEnds tells whether an empty line, with whatever line ends, lies in b at or after from-3. It is what keeps a head that
// comes byte by byte from being parsed anew at each of them.
func headEnds(b []byte, from int) bool {
	for i := max(from-3, 0); i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		if i+1 < len(b) && b[i+1] == '\n' || i+2 < len(b) && b[i+1] == '\r' && b[i+2] == '\n' {
			return true
		}
	}
	return false
}
