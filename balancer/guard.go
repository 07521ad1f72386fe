package balancer

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Guard calls f and makes of its panic an error, and a record with the stack. Whatever a server, an engine or a resolver says, who looks
// for servers or scales them may stumble over it; the process, and with it every request, may not.
func Guard(log *slog.Logger, what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", v)
		}
	}()
	return f()
}
