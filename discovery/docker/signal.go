package docker

import (
	"strconv"
	"strings"
)

// Linux numbers, whatever sluice itself runs on: the containers do.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "USR1": 10, "USR2": 12, "ALRM": 14, "TERM": 15,
	"WINCH": 28, "IO": 29, "PWR": 30, "RTMIN": 34, "RTMAX": 64,
}

const (
	sigKill = 9
	sigTerm = 15
)

// parseSignal reads "15", "TERM", "SIGTERM" or "SIGRTMIN+3"; 0 is unknown.
func parseSignal(s string) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if base, offset, ok := strings.Cut(name, "+"); ok {
		n, err := strconv.Atoi(offset)
		if err != nil || signals[base] == 0 {
			return 0
		}
		return signals[base] + n
	}
	return signals[name]
}

// Deadly reports whether a container that was sent signal is on its way out. stopSignal is the
// container's own, "" for the engine's default.
func Deadly(signal, stopSignal string) bool {
	n := parseSignal(signal)
	if n == sigKill || n == sigTerm {
		return true
	}
	return n != 0 && n == parseSignal(stopSignal)
}
