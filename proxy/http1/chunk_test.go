package http1

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// decode feeds b in the given pieces, as an input would: what is not used up is offered again with the next piece.
func decode(pieces ...string) (payload, trailer string, rest string, err error) {
	var k chunks
	var have []byte
	for _, p := range pieces {
		have = append(have, p...)
		for {
			data, n, e := k.next(have, maxInt)
			payload += string(data)
			if e == io.EOF {
				trailer = string(k.section)
				return payload, trailer, string(have[n:]), io.EOF
			}
			have = have[n:]
			if e == ErrMore {
				break
			}
			if e != nil {
				return payload, "", "", e
			}
		}
	}
	return payload, "", string(have), ErrMore
}

func TestChunks(t *testing.T) {
	rows := []struct{ name, in, payload, trailer, rest string }{
		{"one chunk", "5\nhello\n0\n\n", "hello", "\n", ""},
		{"no chunk", "0\n\n", "", "\n", ""},
		{"two chunks and what follows", "5\nhello\n6\n world\n000\n\nGET /", "hello world", "\n", "GET /"},
		{"upper and lower case, zeros", "00A\n0123456789\na\n0123456789\n0\n\n", "01234567890123456789", "\n", ""},
		{"extension", "5;a=b;c=\"d e\"\nhello\n0;x\n\n", "hello", "\n", ""},
		{"trailers", "1\na\n0\nA: b\nC: d\n\n", "a", "A: b\nC: d\n\n", ""},
	}
	for _, row := range rows {
		in := crlfs(row.in)
		end := len(in) - len(row.rest)
		for cut := range len(in) + 1 {
			payload, trailer, rest, err := decode(in[:cut], in[cut:])
			if err != io.EOF || payload != row.payload || trailer != crlfs(row.trailer) {
				t.Fatalf("%s cut at %d: %q, %q, %v", row.name, cut, payload, trailer, err)
			}
			if cut >= len(in) && rest != row.rest {
				t.Fatalf("%s: rest %q", row.name, rest)
			}
			if cut < end {
				if _, _, _, err := decode(in[:cut]); err != ErrMore {
					t.Fatalf("%s ends at %d of %d: %v", row.name, cut, end, err)
				}
			}
		}
		payload, _, _, err := decode(strings.Split(in, "")...)
		if err != io.EOF || payload != row.payload {
			t.Errorf("%s byte by byte: %q, %v", row.name, payload, err)
		}
	}
}

var badChunks = []struct{ name, in string }{
	{"0x", "0x5\r\nhello\r\n0\r\n\r\n"},
	{"plus", "+5\r\nhello\r\n0\r\n\r\n"},
	{"minus", "-5\r\nhello\r\n0\r\n\r\n"},
	{"space after", "5 \r\nhello\r\n0\r\n\r\n"},
	{"space before", " 5\r\nhello\r\n0\r\n\r\n"},
	{"space before extension", "5 ;a\r\nhello\r\n0\r\n\r\n"},
	{"no size", "\r\nhello\r\n0\r\n\r\n"},
	{"only extension", ";a\r\nhello\r\n0\r\n\r\n"},
	{"LF after size", "5\nhello\r\n0\r\n\r\n"},
	{"CR alone after size", "5\rhello\r\n0\r\n\r\n"},
	{"LF in extension", "5;a\nhello\r\n0\r\n\r\n"},
	{"CR in extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
	{"NUL in extension", "5;a\x00\r\nhello\r\n0\r\n\r\n"},
	{"overflow", "8000000000000000\r\n"},
	{"endless zeros", strings.Repeat("0", 17) + "5\r\nhello\r\n0\r\n\r\n"},
	{"more digits than fit", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"data longer than said", "5\r\nhello!\r\n0\r\n\r\n"},
	{"LF after data", "5\r\nhello\n0\r\n\r\n"},
	{"CR alone after data", "5\r\nhello\r0\r\n\r\n"},
	{"junk instead of the end", "5\r\nhello\r\n0\r\nX"},
	{"bare LF at the end", "5\r\nhello\r\n0\r\n\n"},
	{"folded trailer", "0\r\nA: b\r\n c\r\n\r\n"},
	{"space in trailer name", "0\r\nA b: c\r\n\r\n"},
	{"too many trailers", "0\r\n" + strings.Repeat("A: b\r\n", 33) + "\r\n"},
	{"too long a trailer", "0\r\nA: " + strings.Repeat("b", 4<<10)},
	{"endless extension", "5;" + strings.Repeat("b", 5<<10)},
}

func TestBadChunks(t *testing.T) {
	for _, row := range badChunks {
		for cut := range min(len(row.in), 40) + 1 {
			_, _, _, err := decode(row.in[:cut], row.in[cut:])
			var fault *ProtocolError
			// "junk instead of the end" is a trailer that has no colon yet: it must not be complete.
			if errors.As(err, &fault) || row.name == "junk instead of the end" && err == ErrMore {
				continue
			}
			t.Errorf("%s cut at %d: %v", row.name, cut, err)
		}
	}
}

func TestChunkLimit(t *testing.T) {
	var k chunks
	in := []byte("5\r\nhello\r\n0\r\n\r\n")
	var got string
	for {
		p, n, err := k.next(in, 2)
		got, in = got+string(p), in[n:]
		if len(p) > 2 {
			t.Fatalf("%d bytes", len(p))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got != "hello" {
		t.Errorf("%q", got)
	}
}

func TestAppendChunkSize(t *testing.T) {
	for n, want := range map[int]string{1: "1\r\n", 10: "a\r\n", 255: "ff\r\n", 65536: "10000\r\n"} {
		if got := string(appendChunkSize(nil, n)); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
