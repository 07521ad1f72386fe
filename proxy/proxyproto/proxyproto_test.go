package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// v2 makes a header of version 2 from its bytes; its length is added.
func v2(command, kind byte, rest ...string) string {
	body := strings.Join(rest, "")
	return start2 + string([]byte{command, kind}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
}

func tlv(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

// summed puts the checksum into the TLV at the end.
func summed(header string) string {
	b := []byte(header + "\x00\x00\x00\x00")
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

const (
	ip4  = "\x01\x02\x03\x04" + "\x0a\x00\x00\x01" + "\xdc\x04" + "\x01\xbb" // 1.2.3.4:56324 to 10.0.0.1:443
	ip6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x01" + "\x00\x50"
	map6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01" + "\xdc\x04" + "\x01\xbb"
)

func told(src, to string) Header {
	return Header{Source: netip.MustParseAddrPort(src), Destination: netip.MustParseAddrPort(to)}
}

var good = map[string]struct {
	text string
	want Header
}{
	"TCP4":          {"PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\n", told("1.2.3.4:56324", "10.0.0.1:443")},
	"TCP4 shortest": {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", told("0.0.0.0:0", "0.0.0.0:0")},
	"TCP4 longest":  {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", told("255.255.255.255:65535", "255.255.255.255:65535")},
	"TCP6":          {"PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n", told("[2001:db8::1]:1", "[2001:db8::2]:80")},
	"TCP6 shortest": {"PROXY TCP6 :: :: 0 0\r\n", told("[::]:0", "[::]:0")},
	"TCP6 longest": {"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
		told("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
	"TCP6 mapped":     {"PROXY TCP6 ::ffff:1.2.3.4 ::ffff:10.0.0.1 56324 443\r\n", told("1.2.3.4:56324", "10.0.0.1:443")},
	"UNKNOWN":         {"PROXY UNKNOWN\r\n", Header{Local: true}},
	"UNKNOWN longest": {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header{Local: true}},
	"UNKNOWN odd":     {"PROXY UNKNOWN  what ever\r\n", Header{Local: true}},

	"v2 INET":            {v2(0x21, 0x11, ip4), told("1.2.3.4:56324", "10.0.0.1:443")},
	"v2 INET datagrams":  {v2(0x21, 0x12, ip4), told("1.2.3.4:56324", "10.0.0.1:443")},
	"v2 INET6":           {v2(0x21, 0x21, ip6), told("[2001:db8::1]:1", "[2001:db8::2]:80")},
	"v2 INET6 mapped":    {v2(0x21, 0x21, map6), told("1.2.3.4:56324", "10.0.0.1:443")},
	"v2 UNIX":            {v2(0x21, 0x31, strings.Repeat("x", 216)), Header{}},
	"v2 UNSPEC":          {v2(0x21, 0x00), Header{Local: true}},
	"v2 UNSPEC and more": {v2(0x21, 0x00, "what ever"), Header{Local: true}},
	"v2 LOCAL":           {v2(0x20, 0x00), Header{Local: true}},
	"v2 LOCAL and more":  {v2(0x20, 0x11, "what ever"), Header{Local: true}},
	"v2 TLVs":            {v2(0x21, 0x11, ip4, tlv(0x02, "example.com"), tlv(0x04, ""), tlv(0xea, "\x01vpce")), told("1.2.3.4:56324", "10.0.0.1:443")},
	"v2 checksum":        {summed(v2(0x21, 0x11, ip4, tlv(0x02, "example.com"), "\x03\x00\x04\x00\x00\x00\x00")[:12+4+12+14+3]), told("1.2.3.4:56324", "10.0.0.1:443")},
	"v2 longest":         {v2(0x21, 0x11, ip4, tlv(0x04, strings.Repeat("x", MaxSize-16-12-3))), told("1.2.3.4:56324", "10.0.0.1:443")},
}

func init() {
	for name, c := range good { // the longest line as the specification writes it
		c.text = strings.ReplaceAll(c.text, "ffff:f...f:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
		good[name] = c
	}
}

var bad = map[string]struct {
	text string
	want error
}{
	"a request":             {"GET / HTTP/1.1\r\n\r\n", ErrNone},
	"lower case":            {"proxy TCP4 1.2.3.4 10.0.0.1 56324 443\r\n", ErrNone},
	"TLS":                   {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ErrNone},
	"nearly version 2":      {"\r\n\r\n\x00\r\nQUIT\r\n\r\n\r\n", ErrNone},
	"PRI":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrNone},
	"bare LF":               {"PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\n", ErrMalformed},
	"CR inside":             {"PROXY TCP4 1.2.3.4 10.0.0.1 56324\r443\r\n", ErrMalformed},
	"two blanks":            {"PROXY TCP4  1.2.3.4 10.0.0.1 56324 443\r\n", ErrMalformed},
	"blank at the end":      {"PROXY TCP4 1.2.3.4 10.0.0.1 56324 443 \r\n", ErrMalformed},
	"a tab":                 {"PROXY TCP4 1.2.3.4 10.0.0.1 56324\t443\r\n", ErrMalformed},
	"no destination":        {"PROXY TCP4 1.2.3.4 56324 443\r\n", ErrMalformed},
	"TCP5":                  {"PROXY TCP5 1.2.3.4 10.0.0.1 56324 443\r\n", ErrMalformed},
	"UNKNOWNS":              {"PROXY UNKNOWNS\r\n", ErrMalformed},
	"nothing":               {"PROXY \r\nGET / HTTP/1.1\r\n", ErrMalformed},
	"TCP4 with IPv6":        {"PROXY TCP4 ::1 ::1 56324 443\r\n", ErrMalformed},
	"TCP6 with IPv4":        {"PROXY TCP6 1.2.3.4 10.0.0.1 56324 443\r\n", ErrMalformed},
	"zone":                  {"PROXY TCP6 fe80::1%eth0 fe80::2 56324 443\r\n", ErrMalformed},
	"leading zero, address": {"PROXY TCP4 1.2.3.04 10.0.0.1 56324 443\r\n", ErrMalformed},
	"leading zero, port":    {"PROXY TCP4 1.2.3.4 10.0.0.1 056324 443\r\n", ErrMalformed},
	"port too large":        {"PROXY TCP4 1.2.3.4 10.0.0.1 65536 443\r\n", ErrMalformed},
	"port with sign":        {"PROXY TCP4 1.2.3.4 10.0.0.1 +1 443\r\n", ErrMalformed},
	"names":                 {"PROXY TCP4 localhost 10.0.0.1 1 443\r\n", ErrMalformed},
	"108 bytes":             {"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", ErrMalformed},
	"no end":                {"PROXY UNKNOWN " + strings.Repeat("x", 1000), ErrMalformed},

	"v2 of version 1":          {v2(0x11, 0x11, ip4), ErrMalformed},
	"v2 command 2":             {v2(0x22, 0x11, ip4), ErrMalformed},
	"v2 family 4":              {v2(0x21, 0x41, strings.Repeat("x", 300)), ErrMalformed},
	"v2 transport 3":           {v2(0x21, 0x13, ip4), ErrMalformed},
	"v2 too short":             {v2(0x21, 0x11, ip4[:11]), ErrMalformed},
	"v2 INET6 with INET":       {v2(0x21, 0x21, ip4), ErrMalformed},
	"v2 too long":              {v2(0x21, 0x11, ip4, strings.Repeat("x", MaxSize-16-12+1)), ErrMalformed},
	"v2 LOCAL too long":        {v2(0x20, 0x00, strings.Repeat("x", 65535)), ErrMalformed},
	"v2 TLV cut":               {v2(0x21, 0x11, ip4, "\x02\x00"), ErrMalformed},
	"v2 TLV beyond":            {v2(0x21, 0x11, ip4, "\x02\x00\x05abcd"), ErrMalformed},
	"v2 checksum wrong":        {v2(0x21, 0x11, ip4, tlv(0x03, "abcd")), ErrMalformed},
	"v2 checksum of two bytes": {v2(0x21, 0x11, ip4, tlv(0x03, "ab")), ErrMalformed},
}

// tail is what follows a header: not one byte of it is taken.
const tail = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestHeaders(t *testing.T) {
	for name, c := range good {
		t.Run(name, func(t *testing.T) {
			h, n, err := Parse([]byte(c.text + tail))
			if err != nil || n != len(c.text) || h != c.want {
				t.Fatalf("Parse: %+v, %d of %d, %v", h, n, len(c.text), err)
			}
			for how, wrap := range map[string]func(io.Reader) io.Reader{
				"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "by halves": iotest.HalfReader, "with the end": iotest.DataErrReader,
			} {
				from := strings.NewReader(c.text + tail)
				h, err := Read(wrap(from))
				if rest, _ := io.ReadAll(from); err != nil || h != c.want || string(rest) != tail && how != "with the end" {
					t.Errorf("Read %s: %+v, %v, left %q", how, h, err, rest)
				}
			}
			for cut := range len(c.text) {
				if _, _, err := Parse([]byte(c.text[:cut])); err != errMore {
					t.Fatalf("Parse of %d bytes: %v", cut, err)
				}
				want := io.ErrUnexpectedEOF
				if cut == 0 {
					want = io.EOF
				}
				if _, err := Read(strings.NewReader(c.text[:cut])); err != want {
					t.Fatalf("Read of %d bytes: %v", cut, err)
				}
			}
			if _, err := Read(iotest.DataErrReader(strings.NewReader(c.text))); err != nil {
				t.Errorf("Read to the end: %v", err)
			}
		})
	}
}

func TestNoHeaders(t *testing.T) {
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			if h, _, err := Parse([]byte(c.text + tail)); !errors.Is(err, c.want) || h != (Header{}) {
				t.Errorf("Parse: %+v, %v", h, err)
			}
			if h, err := Read(iotest.OneByteReader(strings.NewReader(c.text + tail))); !errors.Is(err, c.want) || h != (Header{}) {
				t.Errorf("Read: %+v, %v", h, err)
			}
		})
	}
}

// The first byte that does not belong is enough: nobody waits for the rest of what cannot become a header.
func TestRefusedAtOnce(t *testing.T) {
	for text := range strings.FieldsFuncSeq("G PROXX \r\nG PROXY_", func(r rune) bool { return r == ' ' }) {
		if _, _, err := Parse([]byte(text)); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAppend(t *testing.T) {
	for name, c := range map[string]struct {
		h      Header
		v1, v2 string
	}{
		"INET":            {told("1.2.3.4:56324", "10.0.0.1:443"), "PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\n", v2(0x21, 0x11, ip4)},
		"INET6":           {told("[2001:db8::1]:1", "[2001:db8::2]:80"), "PROXY TCP6 2001:db8::1 2001:db8::2 1 80\r\n", v2(0x21, 0x21, ip6)},
		"mixed":           {told("[2001:db8::1]:1", "10.0.0.1:443"), "PROXY TCP6 2001:db8::1 ::ffff:10.0.0.1 1 443\r\n", v2(0x21, 0x21, ip6[:16], map6[16:32], "\x00\x01\x01\xbb")},
		"no destination":  {Header{Source: netip.MustParseAddrPort("1.2.3.4:56324")}, "PROXY TCP4 1.2.3.4 0.0.0.0 56324 0\r\n", v2(0x21, 0x11, "\x01\x02\x03\x04\x00\x00\x00\x00\xdc\x04\x00\x00")},
		"no destination6": {Header{Source: netip.MustParseAddrPort("[2001:db8::1]:1")}, "PROXY TCP6 2001:db8::1 :: 1 0\r\n", v2(0x21, 0x21, ip6[:16], strings.Repeat("\x00", 16), "\x00\x01\x00\x00")},
		"zone":            {told("[fe80::1%lo]:1", "[fe80::2%lo]:2"), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n", ""},
		"Unix":            {Header{}, "PROXY UNKNOWN\r\n", v2(0x21, 0x31, strings.Repeat("\x00", 216))},
		"local":           {Header{Local: true}, "PROXY UNKNOWN\r\n", v2(0x20, 0x00)},
	} {
		if got := string(Append([]byte("x"), 1, c.h)); got != "x"+c.v1 {
			t.Errorf("%s, version 1: %q", name, got)
		}
		if got := string(Append([]byte("x"), 2, c.h)); c.v2 != "" && got != "x"+c.v2 {
			t.Errorf("%s, version 2: %q", name, got)
		}
	}
}

// Whatever comes: what Parse takes, Read takes as well and not a byte more, and what is told can be told on.
func FuzzParse(f *testing.F) {
	for _, c := range good {
		f.Add([]byte(c.text))
	}
	for _, c := range bad {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			if h != (Header{}) || n != 0 {
				t.Fatalf("%+v, %d with %v", h, n, err)
			}
			if _, readErr := Read(bytes.NewReader(b)); readErr == nil {
				t.Fatalf("Read takes what Parse refuses: %v", err)
			}
			return
		}
		if n < least || n > len(b) || n > MaxSize {
			t.Fatalf("length %d of %d", n, len(b))
		}
		from := iotest.OneByteReader(bytes.NewReader(b))
		got, err := Read(from)
		rest, _ := io.ReadAll(from)
		if err != nil || got != h || !bytes.Equal(rest, b[n:]) {
			t.Fatalf("Read: %+v for %+v, %v, %d left of %d", got, h, err, len(rest), len(b)-n)
		}
		if h.Source.IsValid() != h.Destination.IsValid() || h.Local && h.Source.IsValid() {
			t.Fatalf("%+v", h)
		}
		for version := 1; version <= 2; version++ {
			want := h
			if version == 1 && !h.Source.IsValid() {
				want = Header{Local: true}
			}
			again, _, err := Parse(Append(nil, version, h))
			if err != nil || again != want {
				t.Fatalf("version %d: %+v becomes %+v, %v", version, h, again, err)
			}
		}
	})
}
