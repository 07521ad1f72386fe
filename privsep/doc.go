// Package privsep separates the privilege of the engine's socket from the gateway that faces the internet: one
// process, the scaler, holds the engine; the gateway asks it over a Unix socket. There are three verbs only, and what
// may be scaled how far is the scaler's own configuration, never what the gateway sends:
//
//	GET  /v1/list                          the engine, and the names of the upstreams
//	GET  /v1/list?upstream=NAME            its servers, and why what was found is not routed
//	GET  /v1/list?upstream=NAME&replicas=1 its replicas, as the engine lists them
//	GET  /v1/list?upstream=NAME&usage=1    what they use, where that is measured
//	GET  /v1/events?upstream=NAME          a line whenever either may have changed, and at least every few seconds
//	POST /v1/scale                         {"upstream": NAME, "kind": ENGINE, "n": N, "victims": [ID]}
//
// Whoever may connect and is hostile can set the number of replicas within the bounds, and nothing else.
package privsep
