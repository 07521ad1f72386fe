package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// settings are the few keys of a config.toml that the bench needs to find its way; sluice itself checks the file.
type settings struct {
	url   string // of the first listener
	ports []string
	admin string // host:port or unix:/path
	token string
	// The first upstream that scales.
	upstream     string
	min, max     int
	maxConns     int // 0: no bound or learned
	cooldownDown time.Duration
}

// readSettings reads file; an error is about what the bench cannot do without.
func readSettings(file string) (settings, error) {
	var doc struct {
		Listen any
		Admin  struct{ Listen, Token string }
		Route  []struct{ Upstream, Path string }
		// The rest of an upstream is none of our business.
		Upstream map[string]struct {
			MaxConns any `toml:"max_conns"`
			Scale    *struct {
				Min          *int
				Max          *int
				CooldownDown string `toml:"cooldown_down"`
			}
		}
	}
	if _, err := toml.DecodeFile(file, &doc); err != nil {
		return settings{}, err
	}
	s := settings{admin: "127.0.0.1:9901", token: doc.Admin.Token, min: 1, max: 10, cooldownDown: 30 * time.Second}
	switch v := doc.Listen.(type) {
	case string:
		s.ports = []string{v}
	case []any:
		for _, e := range v {
			s.ports = append(s.ports, fmt.Sprint(e))
		}
	}
	if len(s.ports) == 0 {
		s.ports = []string{":8080"}
	}
	if doc.Admin.Listen != "" {
		s.admin = doc.Admin.Listen
	}
	if name, ok := strings.CutPrefix(s.token, "env:"); ok {
		s.token = os.Getenv(name)
	} else if path, ok := strings.CutPrefix(s.token, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return s, err
		}
		s.token = strings.TrimSpace(string(b))
	}
	host, port, err := net.SplitHostPort(s.ports[0])
	if err != nil {
		return s, fmt.Errorf("%s: listen: %w", file, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	for _, r := range doc.Route {
		u, ok := doc.Upstream[r.Upstream]
		if !ok || u.Scale == nil {
			continue
		}
		s.upstream = r.Upstream
		s.url = "http://" + net.JoinHostPort(host, port) + "/" + strings.TrimPrefix(r.Path, "/")
		if u.Scale.Min != nil {
			s.min = *u.Scale.Min
		}
		if u.Scale.Max != nil {
			s.max = *u.Scale.Max
		}
		if d, err := time.ParseDuration(u.Scale.CooldownDown); err == nil {
			s.cooldownDown = d
		}
		if n, ok := u.MaxConns.(int64); ok {
			s.maxConns = int(n)
		}
		return s, nil
	}
	return s, fmt.Errorf("%s: no route leads to an upstream with scale", file)
}

// free tells which of the addresses that sluice will listen on is taken.
func (s settings) free() error {
	for _, addr := range append(slices.Clone(s.ports), s.admin) {
		network := "tcp"
		if strings.HasPrefix(addr, "unix:") {
			continue
		}
		ln, err := net.Listen(network, addr)
		if err != nil {
			return fmt.Errorf("sluice cannot listen on %s: %w", addr, err)
		}
		ln.Close()
	}
	return nil
}
