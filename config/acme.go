package config

import (
	"slices"

	"sluice/proxy/certs/acme"
	"sluice/proxy/https"
)

// defaultACME is [tls] as [acme] has it where it is not written: certificates are for port 443.
func (c *Config) defaultACME() {
	if c.ACME == nil {
		return
	}
	if c.TLS == nil {
		c.TLS = &https.Config{}
		c.TLS.SetDefaults()
	}
	if c.TLS.Listen == nil {
		c.TLS.Listen = []string{":443"}
	}
}

// Uncertified is a host of a route that clients can reach with TLS and that the authority gives no certificate for.
type Uncertified struct {
	Host string
	Why  error
}

// ACMEHosts are the hosts to get certificates for, each once and in lower case, and those of routes that have to do without. covered tells
// of a host that there is a certificate of files for it; such hosts are in neither.
func (c *Config) ACMEHosts(covered func(host string) bool) (hosts []string, without []Uncertified) {
	if c.ACME == nil {
		return nil, nil
	}
	seen := map[string]bool{}
	for _, host := range c.ACME.Hosts {
		if host = acme.Name(host); !seen[host] && !covered(host) {
			hosts = append(hosts, host)
		}
		seen[host] = true
	}
	for _, r := range c.Routes {
		if r.Listen != "" && !slices.Contains(c.TLSListen(), r.Listen) {
			continue
		}
		for _, host := range r.Host {
			host = acme.Name(host)
			if seen[host] || covered(host) {
				continue
			}
			seen[host] = true
			switch why := c.ACME.Certifiable(host); {
			case why != nil:
				without = append(without, Uncertified{host, why})
			case len(c.ACME.Hosts) == 0:
				hosts = append(hosts, host)
			}
		}
	}
	return hosts, without
}
