// Package http2 is HTTP/2 (RFC 9113) for a gateway whose engine speaks HTTP/1.1: each stream is a net.Conn on which the request is
// read, and the response written, in HTTP/1.1. So there is one set of rules for what passes (proxy/http1), and this package
// sees to what HTTP/2 alone can do wrong: nothing malformed becomes HTTP/1.1, and no client makes it work or hold more than
// its limits say (limits.go).
//
// Life of a request: serverConn.readAll reads frames; onHeaders decodes the fields, checks them (parseRequest) and calls the
// handler with a Stream that gives them as text. DATA comes into the stream's pipe (onData), and Stream.Read grants the client as
// much again as was read. Stream.Write takes the response apart (message), encodes heads (encodeResponse), waits for
// the client's windows (Stream.await) and appends frames to link.out, which one goroutine writes (link.write).
//
// What both ends of a connection have in common is in link, receive, stream, text, message, encode, decode, pipe, window, turns
// and frames; the rest is of the server. One mutex a connection guards its streams; whoever holds it never waits for anything else.
package http2
