package https

import (
	"fmt"
	"strings"
	"time"
)

// Explain tells in words what a client that asks for host, in lower case and without its port, is shown and offered.
func (f *Front) Explain(host string) []string {
	f.mu.Lock()
	cfg, protos := f.config, f.protos
	f.mu.Unlock()
	if cfg == nil {
		return nil
	}
	var all []string
	list, standIn := f.Certs.Served(host)
	switch made := f.Certs.Covers([]byte(host)); {
	case standIn && made:
		all = append(all, "the certificate that was made for "+host)
	case standIn && len(list) == 0:
		all = append(all, "no certificate: the handshake fails")
	case standIn:
		all = append(all, fmt.Sprintf("no certificate is for %s: clients are shown the first one and will not trust it", host))
		fallthrough
	default:
		for _, c := range list {
			all = append(all, fmt.Sprintf("certificate %s (%s) for %s, until %s", c.Files.Cert, c.Kind(), strings.Join(c.Names(), " "), c.Expiry().UTC().Format(time.DateTime)))
		}
	}
	all = append(all, fmt.Sprintf("TLS %s or later, %s", cfg.MinVersion, strings.Join(protos, ", ")))
	switch cfg.Auth() {
	case "require":
		all = append(all, "the client needs a certificate of "+cfg.ClientCA)
	case "request":
		all = append(all, "the client may have a certificate of "+cfg.ClientCA)
	}
	return all
}
