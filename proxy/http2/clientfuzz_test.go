package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// FuzzClientFrames lets a server say anything behind its SETTINGS: the request ends, and what passes for a whole answer is one that a
// parser of HTTP/1.1 takes.
func FuzzClientFrames(f *testing.F) {
	frames := func(write func(fr *h2.Framer)) []byte {
		var b bytes.Buffer
		fr := h2.NewFramer(&b, nil)
		fr.AllowIllegalWrites = true
		write(fr)
		return b.Bytes()
	}
	ok := []byte{0x88} // :status 200
	head := func(fr *h2.Framer, end bool) {
		_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: 1, BlockFragment: ok, EndHeaders: true, EndStream: end})
	}
	f.Add(frames(func(fr *h2.Framer) { head(fr, true) }))
	f.Add(frames(func(fr *h2.Framer) { head(fr, false); _ = fr.WriteData(1, true, []byte("hello")) }))
	f.Add(frames(func(fr *h2.Framer) { head(fr, false); _ = fr.WriteData(1, false, []byte("hello")); head(fr, true) }))
	f.Add(frames(func(fr *h2.Framer) { _ = fr.WriteRSTStream(1, h2.ErrCodeRefusedStream) }))
	f.Add(frames(func(fr *h2.Framer) { _ = fr.WriteGoAway(0, h2.ErrCodeNo, nil) }))
	f.Add(frames(func(fr *h2.Framer) {
		_ = fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0}, h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: 0})
		_ = fr.WritePing(false, [8]byte{1})
		_ = fr.WriteWindowUpdate(1, 5)
		head(fr, true)
	}))
	f.Fuzz(func(t *testing.T, said []byte) {
		client, server := net.Pipe()
		go func() {
			_ = server.SetDeadline(time.Now().Add(10 * time.Second))
			go func() { _, _ = io.Copy(io.Discard, server) }()
			_, _ = server.Write(append(appendSettings(nil), said...))
			_ = server.Close()
		}()
		c := NewClient(func(context.Context) (net.Conn, error) { return client, nil }, ClientSettings{MaxConns: 1})
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s, err := c.Dial(ctx)
		if err != nil {
			return
		}
		_ = s.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = io.WriteString(s, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
		_, res, body, failed := answer(s, "POST")
		if failed != nil && isTimeout(failed) {
			t.Errorf("nobody ended the request: %v", failed)
		}
		if failed == nil && (unprocessed(s) || res.ContentLength >= 0 && int64(len(body)) != res.ContentLength) {
			t.Errorf("%v %q passes, written with %v", res, body, err)
		}
		_ = s.Close()
	})
}
