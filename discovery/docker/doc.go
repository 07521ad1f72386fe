// Package docker finds servers among the containers of a Docker Engine.
//
// One hub per client keeps what the engine says: a listing of all containers, taken again after
// every event and every few seconds, and the containers that events took out since. Every Source and
// Labeled derives its sets from that, so that all of them together cost one event stream and one
// listing at a time. While the engine does not answer, the last listing counts.
//
// The engine is only read: GET /containers/json, /containers/{id}/json, /networks, /events, /_ping.
package docker
