package http2

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

func TestPipe(t *testing.T) {
	var b pipe
	var in, out bytes.Buffer
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := make([]byte, rnd.IntN(5000))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		in.Write(p)
		b.write(p)
		q := make([]byte, rnd.IntN(6000))
		out.Write(q[:b.read(q)])
		if b.size != in.Len()-out.Len() {
			t.Fatalf("size %d, want %d", b.size, in.Len()-out.Len())
		}
	}
	rest := make([]byte, b.size)
	out.Write(rest[:b.read(rest)])
	if !bytes.Equal(in.Bytes(), out.Bytes()) || len(b.blocks) != 0 {
		t.Error("what was read is not what was written")
	}
}

// A window's worth of bytes in frames of one byte each takes no more memory than in large ones.
func TestPipePacks(t *testing.T) {
	var b pipe
	held := func() (n int) {
		for _, block := range b.blocks {
			n += cap(block)
		}
		return n
	}
	for range 64 << 10 {
		b.write([]byte{'x'})
	}
	if held() > 64<<10+frameSize {
		t.Errorf("64 KiB take %d bytes", held())
	}
	if unread := b.drop(); unread != 64<<10 || held() != 0 {
		t.Errorf("dropped %d, %d left", unread, held())
	}
}

func TestTextChunks(t *testing.T) {
	for size := 1; size < 40; size++ {
		s := text{framing: chunked, trailers: []byte("a: b\r\n")}
		s.setHead([]byte("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"))
		var in pipe
		var got strings.Builder
		payload := 0
		read := func(ended bool) {
			for p := make([]byte, size); ; {
				n, took := s.read(p, &in, ended)
				if payload += took; n == 0 {
					return
				}
				got.Write(p[:n])
			}
		}
		read(false)
		in.write([]byte("hello"))
		read(false)
		in.write([]byte("0123456789abcdef"))
		read(false)
		read(true)
		want := "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\na: b\r\n\r\n"
		if got.String() != want || payload != 21 {
			t.Fatalf("in reads of %d: %q, %d", size, got.String(), payload)
		}
	}
}

// The last byte of a body whose length was declared waits for the end of the stream.
func TestTextHoldsBack(t *testing.T) {
	s := text{framing: sized, left: 5}
	var in pipe
	in.write([]byte("hello"))
	p := make([]byte, 10)
	if n, _ := s.read(p, &in, false); string(p[:n]) != "hell" {
		t.Fatalf("%q", p[:n])
	}
	if n, _ := s.read(p, &in, false); n != 0 {
		t.Fatalf("%q", p[:n])
	}
	if n, payload := s.read(p, &in, true); string(p[:n]) != "o" || payload != 1 {
		t.Fatalf("%q", p[:n])
	}
}

func TestWindows(t *testing.T) {
	w := newRecvWindow(100)
	if !w.receive(60) || w.receive(41) || !w.receive(40) {
		t.Error("the window is not what was granted")
	}
	if w.taken(49) != 0 || w.taken(1) != 50 || w.left != 50 {
		t.Errorf("%+v", w)
	}
	s := sendWindow(maxWindow - 10)
	if s.add(11) || !s.add(10) || !s.add(-1<<31) {
		t.Error("the largest window is 2^31-1")
	}
}

func TestAllowance(t *testing.T) {
	now := time.Now()
	a := newAllowance(10, 2, now)
	for range 10 {
		if !a.spend(1, now) {
			t.Fatal("less than the burst")
		}
	}
	if a.spend(1, now) || a.spend(1, now.Add(400*time.Millisecond)) || !a.spend(1, now.Add(500*time.Millisecond)) {
		t.Error("two come back in a second")
	}
	a.earn(100)
	if !a.spend(10, now) || a.spend(1, now) {
		t.Error("never more than the burst")
	}
}

func TestTurns(t *testing.T) {
	var q turns
	a, b, c := new(Stream), new(Stream), new(Stream)
	order := func() (s []*Stream) {
		for at := q.first; at != nil; at = at.turn.behind {
			s = append(s, at)
		}
		return s
	}
	q.add(a)
	q.add(b)
	q.add(c)
	q.add(a)
	if o := order(); len(o) != 3 || o[0] != a || o[2] != c {
		t.Error(o)
	}
	if !q.remove(b) || q.remove(b) || len(order()) != 2 {
		t.Error("b is still there")
	}
	q.remove(a)
	q.remove(c)
	if q.first != nil || q.last != nil {
		t.Error("not empty")
	}
	q.add(b)
	if q.first != b || q.last != b {
		t.Error("b is not there")
	}
}

// What the encoder keeps must not change with the buffer it came from.
func TestEncoderKeepsCopies(t *testing.T) {
	e := newFieldEncoder()
	d := hpack.NewDecoder(4096, nil)
	line := []byte("Server: one\r\nSet-Cookie: a=1\r\nKeep-Alive: x\r\nX-Long: " + strings.Repeat("l", 300) + "\r\n\r\n")
	for range 3 {
		e.begin()
		if n := e.fieldLines(line); n != 3 {
			t.Fatalf("%d fields", n)
		}
		fields, err := d.DecodeFull(e.block)
		if err != nil || len(fields) != 3 || fields[0].Value != "one" || fields[0].Name != "server" || fields[1].Value != "a=1" {
			t.Fatal(fields, err)
		}
		copy(line, "Server: two\r\nSet-Cookie: b=2")
		e.begin()
		e.fieldLines(line)
		if fields, err = d.DecodeFull(e.block); err != nil || fields[0].Value != "two" || fields[1].Value != "b=2" {
			t.Fatal(fields, err)
		}
		copy(line, "Server: one\r\nSet-Cookie: a=1")
	}
}

// A field that came before is known by its number, wherever its bytes lie now.
func TestEncoderKnowsFields(t *testing.T) {
	e := newFieldEncoder()
	first := []byte("Server: one\r\n\r\n")
	e.begin()
	e.fieldLines(first)
	copy(first, "Server: two")
	e.begin()
	if e.fieldLines([]byte("Server: one\r\n\r\n")); len(e.block) != 1 {
		t.Errorf("%d bytes", len(e.block))
	}
}

func TestEncoderAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	e := newFieldEncoder()
	lines := []byte("Server: one\r\nContent-Type: text/plain\r\nContent-Length: 12345\r\nETag: \"abc\"\r\n\r\n")
	status := []byte("200")
	if n := testing.AllocsPerRun(20000, func() {
		e.begin()
		e.add(":status", status)
		e.fieldLines(lines)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A header block is bounded as it comes, as it is decoded, and in the strings that it holds.
func TestDecoderBounds(t *testing.T) {
	const max = 1 << 10
	literal := func(value string, huffman bool) []byte {
		b := []byte{0, 1, 'a'}
		if !huffman {
			return append(append(b, 0x7f, byte(len(value)-127)&0x7f|0x80, byte((len(value)-127)>>7)), value...)
		}
		n := hpack.HuffmanEncodeLength(value)
		return hpack.AppendHuffmanString(append(b, 0xff, byte(n-127)&0x7f|0x80, byte((n-127)>>7)), value)
	}
	within, large := strings.Repeat("a", max-33), strings.Repeat("a", 2*max-100)
	tests := []struct {
		name      string
		fragments [][]byte
		large     bool
		err       string
	}{
		{"the largest list", [][]byte{literal(within, false)}, false, ""},
		{"a larger list", [][]byte{literal(within, false), {0, 1, 'a', 1, 'b'}}, true, ""},
		{"a large field", [][]byte{literal(large, false)}, true, ""},
		{"a block that is too large", [][]byte{literal(large, false), literal(within, false)}, true, "header block too large"},
		{"a field that becomes too large", [][]byte{literal(strings.Repeat("a", 3*max), true)}, false, "header field too large"},
		{"too many fragments", make([][]byte, maxFragments+1), false, "header block too large"},
		{"cut", [][]byte{literal(within, false)[:100]}, false, "malformed header block"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := newFieldDecoder(max)
			d.begin()
			var err error
			for i, f := range test.fragments {
				if err = d.add(f, i == len(test.fragments)-1); err != nil {
					break
				}
			}
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasSuffix(err.Error(), test.err)) || d.large != test.large {
				t.Errorf("large %v, %v", d.large, err)
			}
		})
	}
}
