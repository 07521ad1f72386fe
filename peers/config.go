package peers

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
)

// Config is the table [peers]: several gateways with the same configuration work as one. nil (default) is
// off. Exactly one of Dir and Service is set.
type Config struct {
	// Dir is a folder that all gateways on this host share, on a file system of the host. It is made if it is
	// missing. "" (default): the gateways are on several hosts.
	Dir string `toml:"dir"`

	// Service is sluice's own service, whose pods (Kubernetes: a headless Service that publishes addresses which
	// are not ready) or tasks (Swarm) the gateways are; the lease is kept under that name too, as a Lease or in the
	// labels of a config object. "" (default): they are on one host.
	Service string `toml:"service"`
	// Listen is host:port where the other gateways ask this one what it does; required with Service. On Kubernetes
	// the port of the Service says where the others are, else all have this one.
	Listen string `toml:"listen"`
	// Token is what only the gateways know, at least 16 bytes; required with Service. "env:NAME" or "file:PATH",
	// never a literal. It proves questions and answers, and is itself never sent.
	Token string `toml:"token" unit:"secret"`
}

const (
	// dirMost leaves room for a socket's name within the 104 bytes that the shortest of systems allows.
	dirMost = 70
	// tokenLeast keeps it from being guessed out of an answer that somebody listened to.
	tokenLeast = 16
)

var serviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Check says which key is wrong, and how. Whether Listen is an address is for others to say.
func (c *Config) Check() (key string, err error) {
	switch {
	case c.Dir == "" && c.Service == "":
		return "dir", errors.New("dir is missing: a folder that all gateways on this host share; for gateways on several hosts: service")
	case c.Dir != "" && c.Service != "":
		return "service", errors.New("dir is for gateways on one host and service for those on several: set one of them")
	case c.Dir != "":
		return c.checkDir()
	case !serviceName.MatchString(c.Service):
		return "service", fmt.Errorf("%q is no name of a service", c.Service)
	case c.Listen == "":
		return "listen", errors.New(`listen is missing: where the other gateways ask this one, as ":9903"`)
	case c.Token == "":
		return "token", errors.New(`token is missing: what only the gateways know, as "env:SLUICE_PEERS_TOKEN"`)
	case len(c.Token) < tokenLeast:
		return "token", fmt.Errorf("token has %d bytes, at least %d keep it from being guessed", len(c.Token), tokenLeast)
	}
	return "", nil
}

func (c *Config) checkDir() (key string, err error) {
	switch {
	case c.Listen != "":
		return "listen", errors.New("listen is for gateways on several hosts (service); in dir they have sockets")
	case c.Token != "":
		return "token", errors.New("token is for gateways on several hosts (service); dir is kept by its file mode")
	case !filepath.IsAbs(c.Dir):
		return "dir", fmt.Errorf("%q is no absolute path", c.Dir)
	case len(c.Dir) > dirMost:
		return "dir", fmt.Errorf("the path has %d bytes, a socket in it leaves room for %d", len(c.Dir), dirMost)
	}
	return "", nil
}
