package proxy

import (
	"crypto/tls"
	"sync/atomic"

	"sluice/proxy/http1"
)

// protocols counts requests by how they came.
type protocols [len(protocolNames)][len(tlsNames)]atomic.Uint64

var (
	protocolNames = [...]string{"http1", "http2"}
	tlsNames      = [...]string{"", "1.2", "1.3"}
)

// ProtocolStats is how many requests came over a protocol: http1 or http2, in cleartext ("") or over TLS 1.2 or 1.3.
type ProtocolStats struct {
	Protocol, TLS string
	Requests      uint64
}

func (p *protocols) add(o *http1.Origin) {
	protocol, version := 0, 0
	if o.HTTP2 {
		protocol = 1
	}
	if o.TLS != nil {
		if version = 2; o.TLS.Version < tls.VersionTLS13 {
			version = 1
		}
	}
	p[protocol][version].Add(1)
}

// read leaves out what never came.
func (p *protocols) read() (all []ProtocolStats) {
	for i := range p {
		for j := range p[i] {
			if n := p[i][j].Load(); n > 0 {
				all = append(all, ProtocolStats{protocolNames[i], tlsNames[j], n})
			}
		}
	}
	return all
}
