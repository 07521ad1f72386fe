package http2

import (
	"fmt"
	"strings"
	"testing"
)

// parse takes text apart, given in pieces of n bytes, sending at most m bytes of payload at a time.
func parse(text string, n, m int) (events string, err error) {
	var b strings.Builder
	var msg message
	data := ""
	flush := func() {
		if data != "" {
			fmt.Fprintf(&b, "data(%s)", data)
		}
		data = ""
	}
	for len(text) > 0 {
		piece := []byte(text[:min(n, len(text))])
		text = text[len(piece):]
		for len(piece) > 0 {
			what, used, err := msg.next(piece)
			if err != nil {
				return b.String(), err
			}
			switch what {
			case partHead:
				line, fields := nextLine(msg.section)
				fmt.Fprintf(&b, "head(%s)", line)
				length, err := bodyLength(fields)
				if err != nil {
					return b.String(), err
				}
				msg.expect(strings.Contains(string(line), " 1"), max(length, -1))
			case partData:
				used = min(used, m)
				data += string(piece[:used])
				msg.took(used)
			case partTrailers:
				flush()
				fmt.Fprintf(&b, "end(%s)", strings.TrimSpace(string(msg.section)))
			}
			piece = piece[used:]
		}
	}
	flush()
	if msg.state == atEnd {
		b.WriteString(".")
	}
	return b.String(), nil
}

func TestMessageInPieces(t *testing.T) {
	tests := []struct{ text, want string }{
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "head(HTTP/1.1 200 OK)data(hello)."},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "head(HTTP/1.1 200 OK)."},
		{"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "head(HTTP/1.1 103 Early)head(HTTP/1.1 200 OK)data(x)."},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n, 10 bytes\r\n0\r\n\r\n", "head(HTTP/1.1 200 OK)data(hello, 10 bytes)end()."},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n", "head(HTTP/1.1 200 OK)end(a: b)."},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "head(HTTP/1.1 200 OK)data(hel)"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "head(HTTP/1.1 200 OK)data(hel)"},
	}
	for _, test := range tests {
		for n := 1; n <= len(test.text); n++ {
			for _, m := range []int{1, 3, 1000} {
				got, err := parse(test.text, n, m)
				if err != nil || got != test.want {
					t.Fatalf("%q in pieces of %d, %d: got %q, %v, want %q", test.text, n, m, got, err, test.want)
				}
			}
		}
	}
}

func TestMessageFaults(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\na: b\rc\r\n\r\n",
		chunked + "x\r\n",
		chunked + "\r\n",
		chunked + "5\r\nhello0\r\n\r\n",
		chunked + "5 \r\nhello\r\n0\r\n\r\n",
		chunked + "fffffffffffffffff\r\n",
		chunked + "0\r\n\r\nmore",
		strings.Repeat("a: b\r\n", maxSection/6+2),
	} {
		for _, n := range []int{1, 7, len(text)} {
			if got, err := parse(text, n, 1000); err == nil {
				t.Errorf("%.80q in pieces of %d: %q", text, n, got)
			}
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n", 3)
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 2)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if n < 1 || n > 1<<20 {
			return
		}
		whole, wholeErr := parse(text, len(text)+1, 1<<20)
		pieces, err := parse(text, n, 5)
		if (err == nil) != (wholeErr == nil) || err == nil && whole != pieces {
			t.Errorf("%q at once: %q, %v; in pieces: %q, %v", text, whole, wholeErr, pieces, err)
		}
	})
}
