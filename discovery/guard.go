package discovery

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// guard calls f and makes of its panic an error. The stack is logged here, as it is no state of a server. What a server or a resolver
// says may cost a probe or a look at the servers, never the process.
func guard(log *slog.Logger, what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", v)
		}
	}()
	return f()
}
