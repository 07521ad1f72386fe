// Package process runs the replicas of an upstream as local child processes. It is driver and source in one:
// it starts and stops them and tells discovery their addresses.
//
// Every replica hangs on a guard: the sluice binary itself, run as `sluice guard`, which starts the command
// in a process group of its own and holds one end of a socket pair, the lifeline. The other end is sluice's.
// When it closes, because sluice ended however it did (kill -9 included), the guard ends the group: SIGTERM,
// the grace, SIGKILL. The same line carries the pid and the exit status back, so a sluice that did not start
// the replica (after a binary upgrade) learns of its end just as soon as its parent would.
package process
