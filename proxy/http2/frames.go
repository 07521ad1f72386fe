package http2

import (
	"encoding/binary"
	"errors"

	h2 "golang.org/x/net/http2"
)

const (
	preface       = h2.ClientPreface
	frameHeader   = 9        // bytes before each frame's payload
	maxFrame      = 16 << 10 // the largest payload we take, and the largest we send (SETTINGS_MAX_FRAME_SIZE's least)
	maxWindow     = 1<<31 - 1
	defaultWindow = 1<<16 - 1 // of everything until SETTINGS or WINDOW_UPDATE say otherwise
	maxStreamID   = 1<<31 - 1
)

// The append functions write frames (RFC 9113 §4.1, §6) behind what is there: a Framer would copy each payload twice.

func appendFrameHeader(dst []byte, length int, t h2.FrameType, flags h2.Flags, id uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendSettings(dst []byte, settings ...h2.Setting) []byte {
	dst = appendFrameHeader(dst, 6*len(settings), h2.FrameSettings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Val)
	}
	return dst
}

func appendSettingsAck(dst []byte) []byte {
	return appendFrameHeader(dst, 0, h2.FrameSettings, h2.FlagSettingsAck, 0)
}

func appendPing(dst []byte, flags h2.Flags, data [8]byte) []byte {
	return append(appendFrameHeader(dst, len(data), h2.FramePing, flags, 0), data[:]...)
}

func appendReset(dst []byte, id uint32, code h2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, h2.FrameRSTStream, 0, id), uint32(code))
}

func appendGoAway(dst []byte, last uint32, code h2.ErrCode, why string) []byte {
	dst = appendFrameHeader(dst, 8+len(why), h2.FrameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, why...)
}

// appendWindowUpdate grants n more bytes; id 0 is the connection.
func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHeader(dst, 4, h2.FrameWindowUpdate, 0, id), n)
}

func appendData(dst []byte, id uint32, end bool, payload []byte) []byte {
	var flags h2.Flags
	if end {
		flags = h2.FlagDataEndStream
	}
	return append(appendFrameHeader(dst, len(payload), h2.FrameData, flags, id), payload...)
}

// appendHeaders writes a header block as HEADERS and as many CONTINUATION frames as it takes.
func appendHeaders(dst []byte, id uint32, end bool, block []byte) []byte {
	t := h2.FrameHeaders
	var flags h2.Flags
	if end {
		flags = h2.FlagHeadersEndStream
	}
	for {
		part := block[:min(len(block), maxFrame)]
		block = block[len(part):]
		if len(block) == 0 {
			flags |= h2.FlagHeadersEndHeaders // the same bit in both
		}
		dst = append(appendFrameHeader(dst, len(part), t, flags, id), part...)
		if len(block) == 0 {
			return dst
		}
		t, flags = h2.FrameContinuation, 0
	}
}

// frameHeaderSize is what every frame begins with (RFC 9113 §4.1).
const frameHeaderSize = 9

// readFrame reads one frame. Its errors are a connError, a streamError, or as they came from the connection.
func readFrame(framer *h2.Framer) (h2.Frame, error) {
	fh, err := framer.ReadFrameHeader()
	if err != nil {
		return nil, frameFault(framer, err)
	}
	f, err := framer.ReadFrameForHeader(fh)
	if err == nil {
		return f, nil
	}
	var stream h2.StreamError
	switch {
	case !errors.As(err, &stream):
		return nil, frameFault(framer, err)
	case fh.Type == h2.FrameHeaders: // its block is lost, and with it what later blocks refer to
		return nil, connError{stream.Code, "malformed HEADERS"}
	}
	return nil, streamError{stream.StreamID, stream.Code, "malformed " + fh.Type.String()}
}

// frameFault is what the framer finds wrong with a connection.
func frameFault(framer *h2.Framer, err error) error {
	var fault h2.ConnectionError
	switch {
	case errors.As(err, &fault):
		why := "malformed frame"
		if detail := framer.ErrorDetail(); detail != nil {
			why = detail.Error()
		}
		return connError{h2.ErrCode(fault), why}
	case errors.Is(err, h2.ErrFrameTooLarge):
		return connError{h2.ErrCodeFrameSize, "frame too large"}
	}
	return err
}
