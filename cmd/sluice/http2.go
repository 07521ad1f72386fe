package main

import (
	"net"

	"sluice/proxy"
	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// serveHTTP2 serves a connection of HTTP/2 (http1.Server.HTTP2): each of its streams is served as a connection of HTTP/1.1.
func (g *gateway) serveHTTP2(nc net.Conn, o http1.Origin, drain <-chan struct{}) {
	o.HTTP2 = true
	g.http2.Serve(nc, drain, func(s *http2.Stream) { g.http.ServeStream(s, o) })
}

// http2Settings are the bounds of front connections of HTTP/2. A head is measured in its form of HTTP/1.1, as any other: HTTP/2 counts
// 32 bytes more for each field. It refuses only what is twice as much, so that nearly all that is too large is answered, counted and
// logged as over HTTP/1.1.
func http2Settings(c proxy.ClientConfig) http2.Settings {
	return http2.Settings{
		MaxHeaderList:    2 * (c.MaxHeader + 32*c.MaxFields),
		HandshakeTimeout: c.HeaderTimeout,
		IdleTimeout:      c.KeepAlive,
		WriteTimeout:     c.BodyTimeout,
	}
}
