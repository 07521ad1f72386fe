package http2

// Classes of bytes: what may stand where in the HTTP/1.1 form of a message. They are no wider than those of proxy/http1, which
// checks again: token (RFC 9110 §5.6.2) in field names without upper case (RFC 9113 §8.2.1), field values without control bytes
// (RFC 9110 §5.5), targets without space, control or '#'.
const (
	tokenByte uint8 = 1 << iota
	nameByte
	valueByte
	targetByte
	hostByte
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			t[c] = tokenByte | nameByte | hostByte
		case 'A' <= c && c <= 'Z':
			t[c] = tokenByte | hostByte
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= valueByte
		}
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= targetByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tokenByte | nameByte
	}
	for _, c := range "-._:[]" {
		t[c] |= hostByte
	}
	return t
}()

func allOf[T ~string | ~[]byte](s T, want uint8) bool {
	for i := 0; i < len(s); i++ {
		if class[s[i]]&want == 0 {
			return false
		}
	}
	return true
}

// validName tells field names that may be sent: never empty, no pseudo fields.
func validName[T ~string | ~[]byte](s T) bool { return len(s) > 0 && allOf(s, nameByte) }

// validValue tells field values: without white space around them.
func validValue(s string) bool {
	return allOf(s, valueByte) && (s == "" || !isBlank(s[0]) && !isBlank(s[len(s)-1]))
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// foldedTo compares with a name in lower case.
func foldedTo[T ~string | ~[]byte](s T, low string) bool {
	if len(s) != len(low) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != low[i] {
			return false
		}
	}
	return true
}

// sameHost compares two authorities in any case.
func sameHost(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func trimBlank(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isBlank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// parseLength reads 1*DIGIT that fits an int64.
func parseLength[T ~string | ~[]byte](s T) (n int64, ok bool) {
	if len(s) == 0 || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// ofConnection tells the fields that concern one connection and do not exist in HTTP/2 (RFC 9113 §8.2.2). Te is another matter.
func ofConnection(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}
