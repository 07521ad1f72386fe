package http2

import (
	"errors"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFragments bounds the frames of one header block: a list of the largest size needs a few.
const maxFragments = 32

// fieldDecoder decodes header blocks. Every block has to be decoded, also of a message that nobody wants, because the
// next ones refer to it; fields beyond the limit are not kept.
type fieldDecoder struct {
	fields []hpack.HeaderField // of the block at hand
	large  bool                // there were more than max bytes of them

	dec       *hpack.Decoder
	max       int // as SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 §6.5.2)
	size      int // so far
	block     int // encoded bytes so far
	fragments int
}

func newFieldDecoder(max int) *fieldDecoder {
	d := &fieldDecoder{max: max}
	d.dec = hpack.NewDecoder(4096, d.emit)
	d.dec.SetMaxStringLength(2 * max)
	return d
}

func (d *fieldDecoder) begin() {
	clear(d.fields)
	d.fields = d.fields[:0]
	d.large, d.size, d.block, d.fragments = false, 0, 0, 0
	d.dec.SetEmitEnabled(true)
}

func (d *fieldDecoder) emit(f hpack.HeaderField) {
	if d.size += int(f.Size()); d.size > d.max {
		d.large = true
		d.dec.SetEmitEnabled(false)
		return
	}
	d.fields = append(d.fields, f)
}

// add decodes one fragment of the block; last ends it. Errors end the connection: its state is lost.
func (d *fieldDecoder) add(fragment []byte, last bool) error {
	d.fragments++
	d.block += len(fragment)
	if d.fragments > maxFragments || d.block > 2*d.max {
		return connError{h2.ErrCodeEnhanceYourCalm, "header block too large"}
	}
	_, err := d.dec.Write(fragment)
	if err == nil && last {
		err = d.dec.Close()
	}
	switch {
	case errors.Is(err, hpack.ErrStringLength):
		return connError{h2.ErrCodeEnhanceYourCalm, "header field too large"}
	case err != nil:
		return connError{h2.ErrCodeCompression, "malformed header block"}
	}
	return nil
}
