//go:build !linux

package http1

import "syscall"

// inherits: package net sets the options of each connection.
const inherits = false

func setListenOptions(_, _ string, _ syscall.RawConn) error { return nil }

func deferAccept(syscall.RawConn, int) {}
