package http1

import "errors"

var (
	faultStatusLine = badResponse("malformed status line")
	faultStatus     = badResponse("status outside 100…599")
	faultUpgrade    = badResponse("101 that is no WebSocket upgrade")
	faultUnasked    = badResponse("101 that was not asked for")
	faultInterim    = badResponse("too many interim responses")
)

// ParseResponse checks the response head at the start of buf and returns its length in bytes; requestMethod decides whether
// it has a body. ErrMore when buf does not hold all of it; else a *ProtocolError with status 502. h refers to buf, whose
// version is overwritten with HTTP/1.1.
func (h *Head) ParseResponse(buf []byte, requestMethod []byte, lim Limits) (n int, err error) {
	h.reset()
	h.response = true
	pos, err := h.statusLine(buf)
	if err == nil {
		h.fields, n, err = scanFields(buf, pos, h.fields, lim.maxFields())
	}
	if err != nil {
		return 0, asResponse(tooLarge(err, len(buf), lim))
	}
	if n > lim.maxHead() {
		return 0, asResponse(faultTooLarge)
	}
	h.buf = buf[:n:n]
	if fault := h.framing(); fault != nil {
		return 0, asResponse(fault)
	}
	h.bodyless = h.status < 200 || h.status == 204 || h.status == 304 || string(requestMethod) == "HEAD"
	h.websocket = h.websocket && h.status == 101
	if h.status == 101 && !h.websocket {
		return 0, faultUpgrade
	}
	h.buf[h.line.from+7] = '1'
	return n, nil
}

// statusLine reads version SP 3DIGIT [SP reason] CRLF (RFC 9112 §4). Servers that leave out the space before an empty reason
// are known; Conn.WriteHead puts it in.
func (h *Head) statusLine(b []byte) (pos int, err error) {
	const start = "HTTP/1.1 200"
	for i := 0; i < len(start); i++ {
		if i == len(b) {
			return 0, ErrMore
		}
		switch {
		case i == 7:
			if b[i] != '0' && b[i] != '1' {
				return 0, faultStatusLine
			}
		case i >= 9:
			if !isDigit(b[i]) {
				return 0, faultStatusLine
			}
		case b[i] != start[i]:
			return 0, faultStatusLine
		}
	}
	h.minor = int(b[7] - '0')
	h.status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if h.status < 100 || h.status > 599 {
		return 0, faultStatus
	}
	end := valueEnd(b, len(start))
	if end > len(start) && b[len(start)] != ' ' {
		return 0, faultStatusLine
	}
	if end == len(b) {
		return 0, ErrMore
	}
	if b[end] != '\r' {
		return 0, controlFault(b[end], faultStatusLine)
	}
	if end+1 == len(b) {
		return 0, ErrMore
	}
	if b[end+1] != '\n' {
		return 0, faultBareCR
	}
	h.line = span{0, end}
	return end + 2, nil
}

// asResponse gives a fault of the shared scanner the status of the other direction.
func asResponse(err error) error {
	var fault *ProtocolError
	if errors.As(err, &fault) && fault.Status != 502 {
		return badResponse(fault.Detail)
	}
	return err
}
