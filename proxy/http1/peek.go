package http1

import "syscall"

type peekResult uint8

const (
	peekQuiet peekResult = iota // open, nothing to read
	peekData
	peekEnd // FIN or error
)

// peek looks at what a read would give, without waiting and without taking it.
func peek(raw syscall.RawConn) peekResult {
	result := peekEnd
	_ = raw.Control(func(fd uintptr) { result = peekFD(int(fd)) })
	return result
}
