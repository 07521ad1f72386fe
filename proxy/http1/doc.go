// Package http1 is a strict HTTP/1.1 engine for a gateway: what RFC 9112 lets two parties read in two ways is refused here, and what
// passes is passed on as the bytes that came, without the fields that concern one connection only. It knows nothing of routes.
//
// Life of a request: Server.Serve accepts; Conn.serve waits without buffers (await), reads and checks the head (receive,
// Head.ParseRequest) and calls the Handler, which gets a connection to the server (Transport.Get), sends head and body
// (UpConn.Send), reads the response head (UpConn.ReadHead, Head.ParseResponse), gives it to the client (Conn.WriteHead), copies the
// body (Conn.CopyBody), ends the response (Conn.Finish) and the exchange (UpConn.Release). Conn.settle then reads what is left of
// the request body or closes the connection so that the answer still arrives.
//
// Of that, a request whose bytes came with one read is served inside of the wait for it (inside.go), a request that goes out whole is sent
// inside of the wait for its answer (readhead.go), after a look at the connection (peek.go, lookout_linux.go), a large body of known length
// passes through a pipe (splice_linux.go), and what a slow client does not take is read ahead (ahead.go). What is held of a message is held only while it is under way (message.go, buffers.go). How many clients are taken depends on what is left for servers
// (room.go).
//
// What a connection needs before its first request (PROXY protocol, TLS) is an Opener's, HTTP/2 is handed over whole and its streams come
// back as connections of one request (origin.go).
//
// All reading goes through input, all writing through output; an epoll of our own (watch_linux.go) tells when a client leaves.
// A kept-alive request allocates nothing.
package http1
