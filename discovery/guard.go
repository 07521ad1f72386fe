package discovery

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Guard calls f and makes of its panic an error. The stack is logged here, as it is no state of a server. What a server, an engine or a resolver
// says may cost a probe or a look at the servers, never the process.
func Guard(log *slog.Logger, what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "in", what, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", v)
		}
	}()
	return f()
}
