package config

import (
	"sluice/proxy"
	"sluice/proxy/http1"
)

// secure checks how the servers of an upstream are reached: protocol and tls.
func (k *checker) secure(u *Upstream, v *value) {
	p := &u.Proxy
	at := v.get("protocol")
	k.oneOf(at, p.Protocol, proxy.ProtocolHTTP1, proxy.ProtocolH2, proxy.ProtocolH2C)
	if at != nil && at.sound() && v.sound("tls") {
		switch {
		case p.Protocol == proxy.ProtocolH2 && p.TLS.Off():
			k.failHint(at, `add tls = true, or say "h2c" for HTTP/2 without TLS`, "protocol h2 needs tls")
		case p.Protocol == proxy.ProtocolH2C && !p.TLS.Off():
			k.failHint(at, `did you mean "h2"?`, "protocol h2c is HTTP/2 without TLS, and tls is on")
		}
	}
	if pp := v.get("proxy_protocol"); pp != nil && pp.sound() && (p.Protocol == proxy.ProtocolH2 || p.Protocol == proxy.ProtocolH2C) {
		k.failKey(pp, "", "the connections of protocol %s carry requests of many clients, and proxy_protocol tells of one", p.Protocol)
	}
	if sig := v.get("scale", "signals"); sig != nil && sig.sound() && u.Scale != nil && u.Scale.Signals != nil && u.Scale.Signals.Port == 0 {
		switch {
		case !p.TLS.Off():
			k.failKey(sig, "give signals a port of their own", "servers are asked for their signals without TLS")
		case p.Protocol == proxy.ProtocolH2C:
			k.failKey(sig, "give signals a port of their own", "servers are asked for their signals by HTTP/1.1")
		}
	}
	if h := v.get("health_check", "grpc"); h != nil && h.sound() && u.Discovery.HealthCheck.GRPC != "" {
		if v.sound("protocol") && p.Protocol == proxy.ProtocolHTTP1 {
			k.failKey(h, `add protocol = "h2c", or "h2" with tls`, "a gRPC health check needs a server that speaks HTTP/2")
		}
		if path := v.get("health_check", "path"); path != nil {
			k.failKey(path, "", "a health check has one of path and grpc")
		}
	}
	t := v.get("tls")
	if t == nil || !t.sound() || p.TLS.Off() {
		return
	}
	if p.TLS.Verify && p.TLS.ServerName == "" {
		for i, s := range u.Discovery.Servers {
			if _, ok := http1.SocketPath(s.Addr); ok {
				k.failHint(v.get("servers").element(i).near("addr"), "add tls.server_name", "a Unix socket has no name that a certificate could be for")
			}
		}
	}
	for _, key := range []string{"ca", "cert", "key"} {
		if file := t.get(key); file != nil && file.label != "" {
			k.fail(file, "a label names no file of the gateway's")
			return
		}
	}
	if key, err := p.TLS.Check(); err != nil && t.sound(key) {
		k.fail(t.near(key), "%s", err)
	}
	if name := t.get("server_name"); name != nil && name.sound() && p.TLS.ServerName != "" && !isAddr(p.TLS.ServerName) {
		if err := checkName(p.TLS.ServerName); err != nil {
			k.fail(name, "%s", err)
		}
	}
}
