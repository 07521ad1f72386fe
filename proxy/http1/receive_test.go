package http1

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// Four requests that were sent ahead are answered as they came, and their bodies can be read again, whatever buffers they fit and wherever
// the bytes are cut.
func TestPipelinedFitTheirBuffers(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		first, err := io.ReadAll(c.Body())
		if err != nil {
			t.Error(err)
		}
		if c.Body().Rewindable() {
			c.Body().Rewind()
			if again, err := io.ReadAll(c.Body()); err != nil || string(again) != string(first) {
				t.Errorf("%d bytes, and again %d, %v", len(first), len(again), err)
			}
		} else if len(first) <= slowSize {
			t.Errorf("%d bytes cannot be read again", len(first))
		}
		reply(c, fmt.Sprintf("%s %s %s %s", c.Head().Method(), c.Head().Path(), c.Head().Get("X"), first))
	})})
	for _, size := range []int{1, headSize - 300, headSize, slowSize - 300, slowSize, inSize - headSize, inSize, bigSize} {
		var all strings.Builder
		var want []string
		for i := range 4 {
			field, body := strings.Repeat("y", 100*i), ""
			method, length := "GET", ""
			if i%2 == 1 {
				body = strings.Repeat(string(rune('a'+i)), size)
				method, length = "POST", fmt.Sprintf("Content-Length: %d\r\n", size)
			}
			fmt.Fprintf(&all, "%s /%d HTTP/1.1\r\nHost: a\r\nX: %s\r\n%s\r\n%s", method, i, field, length, body)
			want = append(want, fmt.Sprintf("%s /%d %s %s", method, i, field, body))
		}
		for _, cut := range []int{1, 30, 100, headSize - 1, headSize, headSize + 1, slowSize, inSize, all.Len()} {
			c, cut := f.dial(t), min(cut, all.Len())
			var sent sync.WaitGroup
			sent.Go(func() { // it may be more than what lies between the two
				for _, part := range []string{all.String()[:cut], all.String()[cut:]} {
					if _, err := io.WriteString(c, part); err != nil {
						t.Error(err)
					}
				}
			})
			for i, w := range want {
				if _, body := c.response([]string{"GET", "POST"}[i%2]); body != w {
					t.Fatalf("size %d, cut at %d: answer %d is %d bytes that begin %.30q, not %d", size, cut, i, len(body), body, len(w))
				}
			}
			sent.Wait()
			_ = c.Close()
		}
	}
}
