package proxy

import (
	"encoding/hex"
	"math/rand/v2"
)

// longestID bounds a request id that is taken over.
const longestID = 128

// name gives the request its id: the one that a trusted proxy gave it, else 128 random bits. It only has
// to be unique, not secret.
func (x *Exchange) name() {
	if x.trusted {
		if i := x.head.Index("X-Request-Id", 0); i >= 0 && isID(x.head.Value(i)) {
			x.id = append(x.id[:0], x.head.Value(i)...)
			return
		}
	}
	var bits [16]byte
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		bits[i], bits[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	x.id = hex.AppendEncode(x.id[:0], bits[:])
}

// isID tells an id that can stand in a header and a log line as it is.
func isID(id []byte) bool {
	if len(id) == 0 || len(id) > longestID {
		return false
	}
	for _, c := range id {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
