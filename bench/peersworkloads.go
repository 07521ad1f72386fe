package main

import (
	"fmt"
	"slices"
	"strings"
)

// workload is what is asked of every peer.
type workload struct {
	name, title string
	kind        workloadKind
	connections int
	target      string   // path and query
	answer      int64    // length of the answer's body
	body        int64    // of the request; 0: a GET
	fields      []string // further ones of the request, without CRLF
	tls         bool
	streams     int // of HTTP/2, on each connection
}

type workloadKind int

const (
	kept        workloadKind = iota // requests on kept connections
	single                          // a new connection for each
	events                          // streams of server-sent events
	idle                            // connections that do nothing
	multiplexed                     // requests on the streams of kept connections of HTTP/2
	held                            // streams of server-sent events, most of the time silent
)

// workloads are all that can be measured.
var workloads = []workload{
	{name: "64", title: "GET 64 B", connections: 64, target: "/64", answer: 64},
	{name: "1k", title: "GET 1 KiB", connections: 64, target: "/1k", answer: 1 << 10},
	{name: "1k-256", title: "GET 1 KiB, 256 connections", connections: 256, target: "/1k", answer: 1 << 10},
	{name: "browser", title: "GET 1 KiB, 11 more header fields", connections: 64, target: "/1k", answer: 1 << 10, fields: browserFields},
	{name: "64k", title: "GET 64 KiB", connections: 64, target: "/64k", answer: 64 << 10},
	{name: "1m", title: "GET 1 MiB", connections: 16, target: "/1m", answer: 1 << 20},
	{name: "post-16k", title: "POST 16 KiB", connections: 64, target: "/upload?n=16384", answer: 8, body: 16 << 10},
	{name: "post-1m", title: "POST 1 MiB", connections: 16, target: "/upload?n=1048576", answer: 8, body: 1 << 20},
	{name: "connect", title: "GET 1 KiB, new connection per request", kind: single, connections: 64, target: "/1k", answer: 1 << 10, fields: []string{"Connection: close"}},
	{name: "events", title: "server-sent events, 50 streams of 50/s", kind: events, connections: 50},
	{name: "idle", title: "2,000 idle connections", kind: idle, connections: 2000, target: "/64", answer: 64},
	{name: "tls", title: "GET 1 KiB over TLS 1.3, kept connections", connections: 64, target: "/1k", answer: 1 << 10, tls: true},
	{name: "tls-handshake", title: "GET 1 KiB, full TLS 1.3 handshake each (P-256)", kind: single, connections: 64, target: "/1k", answer: 1 << 10, fields: []string{"Connection: close"}, tls: true},
	{name: "h2", title: "GET 1 KiB, HTTP/2 over TLS 1.3, 8 × 8 streams", kind: multiplexed, connections: 8, streams: 8, target: "/1k", answer: 1 << 10, tls: true},
	{name: "h2c", title: "GET 1 KiB, HTTP/2 without TLS, 8 × 8 streams", kind: multiplexed, connections: 8, streams: 8, target: "/1k", answer: 1 << 10},
	{name: "sse-9000", title: "9,000 streams of server-sent events held open", kind: held, connections: 9000},
}

// browserFields are what a browser adds.
var browserFields = []string{
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
	"Accept-Language: de-CH,de;q=0.8,en-US;q=0.5,en;q=0.3",
	"Accept-Encoding: gzip, deflate, br, zstd",
	"Referer: http://www.example.com/some/page/that/links/here.html",
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=all; _ga=GA1.2.1234567890.1234567890",
	"Upgrade-Insecure-Requests: 1",
	"Sec-Fetch-Dest: document",
	"Sec-Fetch-Mode: navigate",
	"Sec-Fetch-Site: same-origin",
	"Priority: u=0, i",
}

// request is the whole of it as it goes over the wire.
func (w workload) request() []byte {
	method := "GET"
	if w.body > 0 {
		method = "POST"
	}
	b := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: www.example.com\r\n", method, w.target)
	for _, f := range w.fields {
		b = append(append(b, f...), "\r\n"...)
	}
	if w.body > 0 {
		b = fmt.Appendf(b, "Content-Length: %d\r\n", w.body)
	}
	b = append(b, "\r\n"...)
	return append(b, pattern(int(w.body))...)
}

// pickWorkloads reads names separated by commas; none is all of them.
func pickWorkloads(names string) ([]workload, error) {
	if names == "" {
		return workloads, nil
	}
	var picked []workload
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == strings.TrimSpace(name) })
		if i < 0 {
			var known []string
			for _, w := range workloads {
				known = append(known, w.name)
			}
			return nil, fmt.Errorf("unknown workload %q; there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, workloads[i])
	}
	return picked, nil
}

// pickPeers is pickWorkloads for peers.
func pickPeers(names string) ([]peer, error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return p.others > 0 }), nil
	}
	var picked []peer
	for name := range strings.SplitSeq(names, ",") {
		p := findPeer(strings.TrimSpace(name))
		if p == nil {
			var known []string
			for _, p := range peers {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("unknown peer %q; there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, *p)
	}
	return picked, nil
}
