// Package balancer holds the servers of an upstream, hands out their slots and keeps the requests
// that wait for one.
//
// An Upstream is a named group of interchangeable servers. A request asks it for a slot with
// Acquire, is sent to the server it was given, and gives the slot back with Release. Discovery is
// the only caller of Update, which swaps the set of servers; probes, requests and the circuit
// breaker change the state of each server; the scaler drains servers and reads the meter.
//
// The package imports nothing of ours: proxy, discovery, scaler and admin all stand on it.
package balancer

import "time"

// epoch anchors the monotonic nanoseconds that atomics hold instead of a time.Time. The offset keeps
// them positive whatever the clock says (tests run in the year 2000), so that 0 can mean "never".
var epoch = time.Now()

const offset = 1 << 62

// nanos is now in nanoseconds, on the monotonic clock where now has one.
func nanos(now time.Time) int64 { return int64(now.Sub(epoch)) + offset }

// instant is the inverse of nanos.
func instant(ns int64) time.Time { return epoch.Add(time.Duration(ns - offset)) }
