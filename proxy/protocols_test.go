package proxy

import (
	"crypto/tls"
	"slices"
	"testing"

	"sluice/proxy/http1"
)

func TestProtocols(t *testing.T) {
	var p protocols
	state := func(version uint16) *tls.ConnectionState { return &tls.ConnectionState{Version: version} }
	for _, o := range []http1.Origin{
		{}, {}, {TLS: state(tls.VersionTLS12)}, {TLS: state(tls.VersionTLS13), HTTP2: true}, {HTTP2: true}, {TLS: state(tls.VersionTLS13), HTTP2: true},
	} {
		p.add(&o)
	}
	want := []ProtocolStats{{"http1", "", 2}, {"http1", "1.2", 1}, {"http2", "", 1}, {"http2", "1.3", 2}}
	if got := p.read(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
