//go:build !linux

package http1

type spot struct{}

func (s *spot) seen() {}

func (s *spot) leave() {}

func (u *UpConn) lookAt(fd uintptr) peekResult { return peekFD(int(fd)) }
