package http1

import "io"

var (
	faultChunkSize    = badRequest("bad chunk size")
	faultChunkExt     = badRequest("bad chunk extension")
	faultChunkEnd     = badRequest("chunk data not followed by CRLF")
	faultChunkTrailer = badRequest("trailer section too large")
)

const (
	maxSizeDigits = 16 // leading zeros are legal; without end they are a body that no limit counts
	// Extensions mean nothing to us and cost work: these bound them per message (the largest line is bounded with them).
	maxChunkExtensions = 4 << 10
	maxTrailerSection  = 3 << 10 // fits the least room that a body has behind its head
	maxTrailerFields   = 32
)

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailers
	chunkDone
)

// chunks decodes the chunked transfer coding (RFC 9112 §7.1) strictly: 1*HEXDIG, then ';' or CRLF and nothing else; CRLF line
// ends only; data followed by CRLF; the end is there only with the empty line after the last chunk. The zero value stands
// before the first chunk.
type chunks struct {
	state  chunkState
	digits int   // of the size so far
	left   int64 // of the chunk's data
	ext    int   // extension bytes so far
	// fields and section are the trailer section, set when next returns io.EOF; they point into the buffer of that call.
	fields  []field
	section []byte
}

// next decodes from b: payload, of at most limit bytes, lies in b; n bytes of b are used up (payload included). With ErrMore n
// bytes are used up and more are needed; with io.EOF the message is complete. Any other error is a *ProtocolError.
func (k *chunks) next(b []byte, limit int) (payload []byte, n int, err error) {
	for n < len(b) {
		c := b[n]
		switch k.state {
		case chunkSize:
			v, ok := hexValue(c)
			switch {
			case ok:
				if k.digits++; k.left >= 1<<58 || k.digits > maxSizeDigits {
					return nil, n, faultChunkSize
				}
				k.left = k.left<<4 | int64(v)
			case k.digits == 0:
				return nil, n, faultChunkSize
			case c == ';':
				k.state = chunkExt
			case c == '\r':
				k.state = chunkSizeLF
			default:
				return nil, n, controlFault(c, faultChunkSize)
			}
			n++
		case chunkExt:
			if c == '\r' {
				k.state = chunkSizeLF
			} else if class[c]&valueByte == 0 {
				return nil, n, controlFault(c, faultChunkExt)
			} else if k.ext++; k.ext > maxChunkExtensions {
				return nil, n, faultChunkExt
			}
			n++
		case chunkSizeLF:
			if c != '\n' {
				return nil, n, faultBareCR
			}
			n++
			k.digits = 0
			if k.state = chunkData; k.left == 0 {
				k.state = chunkTrailers
			}
		case chunkData:
			take := min(len(b)-n, limit)
			if int64(take) > k.left {
				take = int(k.left)
			}
			payload = b[n : n+take : n+take]
			n += take
			if k.left -= int64(take); k.left == 0 {
				k.state = chunkDataCR
				// The CRLF is taken along when it is there, so that a complete body shows as complete early.
				if len(b)-n >= 2 && b[n] == '\r' && b[n+1] == '\n' {
					n, k.state = n+2, chunkSize
				}
			}
			return payload, n, nil
		case chunkDataCR:
			if c != '\r' {
				return nil, n, faultChunkEnd
			}
			n++
			k.state = chunkDataLF
		case chunkDataLF:
			if c != '\n' {
				return nil, n, faultChunkEnd
			}
			n++
			k.state = chunkSize
		case chunkTrailers:
			fields, end, err := scanFields(b[n:], 0, k.fields[:0], maxTrailerFields)
			k.fields = fields
			if err == ErrMore && len(b)-n >= maxTrailerSection || end > maxTrailerSection {
				return nil, n, faultChunkTrailer
			}
			if err != nil {
				return nil, n, err
			}
			k.section = b[n : n+end]
			k.state = chunkDone
			return nil, n + end, io.EOF
		case chunkDone:
			return nil, n, io.EOF
		}
	}
	if k.state == chunkDone {
		return nil, n, io.EOF
	}
	return nil, n, ErrMore
}

func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// appendChunkSize appends the line before a chunk's data.
func appendChunkSize(dst []byte, n int) []byte {
	const digits = "0123456789abcdef"
	var line [16]byte
	i := len(line)
	for ; n > 0; n >>= 4 {
		i--
		line[i] = digits[n&15]
	}
	return append(append(dst, line[i:]...), "\r\n"...)
}
