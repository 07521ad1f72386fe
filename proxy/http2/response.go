package http2

// Length of a body in encodeResponse, besides what was declared.
const (
	lengthChunked = -1
	lengthUnknown = -2
)

// encodeResponse encodes the head of a response that was written to s in HTTP/1.1 (link.encodeHead).
func (l *link) encodeResponse(s *Stream, section []byte) (follows, error) {
	code, fields, err := statusLine(section)
	if err != nil {
		return follows{}, err
	}
	length, err := bodyLength(fields)
	if err != nil {
		return follows{}, err
	}
	f := follows{another: code[0] == '1', length: length}
	f.none = s.bodyless || string(code) == "204" || string(code) == "304"
	if length == lengthUnknown && !f.none && !f.another {
		return f, errMessage
	}
	l.enc.add(":status", code)
	l.enc.fieldLines(fields)
	return f, nil
}

// statusLine cuts the status line off a head; 101 does not exist in HTTP/2 (RFC 9113 §8.6).
func statusLine(section []byte) (code, fields []byte, err error) {
	const version = "HTTP/1.1 "
	line, fields := nextLine(section)
	if len(line) < len(version)+3 || string(line[:len(version)]) != version {
		return nil, nil, errMessage
	}
	code = line[len(version) : len(version)+3]
	if status, ok := parseLength(code); !ok || status < 100 || status == 101 {
		return nil, nil, errMessage
	}
	return code, fields, nil
}

// bodyLength checks all field lines, so that nothing can fail once the encoder has begun, and reads the framing.
func bodyLength(fields []byte) (int64, error) {
	length := int64(lengthUnknown)
	for {
		name, value, rest, ok, err := nextField(fields)
		if err != nil {
			return 0, err
		}
		if !ok {
			return length, nil
		}
		fields = rest
		var declared int64
		switch {
		case foldedTo(name, "transfer-encoding"):
			declared = lengthChunked
		case foldedTo(name, "content-length"):
			if declared, ok = parseLength(value); !ok {
				return 0, errMessage
			}
		default:
			continue
		}
		if length != lengthUnknown {
			return 0, errMessage
		}
		length = declared
	}
}
