// Package discovery finds the servers of an upstream and probes their health.
//
// A Source learns which servers there are: a fixed list, a DNS name, an engine (each engine that
// needs a library has a folder of its own). A Watcher runs one source for one upstream, hands every
// set it sends to Upstream.Update, of which it is the only caller, and runs one loop of health
// probes per server. A server gets requests only after its first good probe.
package discovery
