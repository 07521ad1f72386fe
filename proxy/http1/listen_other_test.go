//go:build !linux

package http1

import "testing"

func listenBacklog(t *testing.T, _ int) string {
	t.Helper()
	t.Skip("needs a listener with a backlog of zero")
	return ""
}
