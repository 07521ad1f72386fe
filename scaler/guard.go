package scaler

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Guard calls f and makes of its panic an error, and a record with the stack: whatever an engine or a server says, scaling may
// stumble over it, the process, and with it every request, may not.
func Guard(log *slog.Logger, what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", v)
		}
	}()
	return f()
}
