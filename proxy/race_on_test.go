//go:build race

package proxy

// raceEnabled tells that the tests run under the race detector, which allocates and is slow.
const raceEnabled = true
