package main

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// A peer's configuration is a template in the folder peers, filled in for each start.
//
//go:embed peers
var peerFiles embed.FS

// peer is a proxy that is measured.
type peer struct {
	name    string
	program string   // looked up in PATH; sluice itself is built
	debian  string   // package that has the program; "" where Debian has none
	files   []string // templates; the first is the one that the command line names
	args    []string // FILE stands for the path of the first file, DIR for its folder
	check   []string // arguments that only check the configuration; nil: there is no such thing
	plain   bool     // its configuration here has neither TLS nor HTTP/2
	others  int      // upstreams that no request is for, each with ten routes and ten servers; such a peer is measured when it is named
}

// peers are all that can be measured. What the ratios are to is baseOf, and the order is that of the table.
var peers = []peer{
	{"nginx", "nginx", "nginx-light", []string{"nginx.conf"}, []string{"-c", "FILE", "-p", "DIR", "-e", "stderr"}, []string{"-t", "-q"}, false, 0},
	{"sluice", "", "", []string{"sluice.toml"}, []string{"run", "-c", "FILE"}, nil, false, 0},
	{"sluice-large", "", "", []string{"sluice.toml"}, []string{"run", "-c", "FILE"}, nil, false, 1000},
	{"haproxy", "haproxy", "haproxy", []string{"haproxy.cfg", "openssl.cnf"}, []string{"-db", "-f", "FILE"}, []string{"-c", "-q"}, false, 0},
	{"caddy", "caddy", "caddy", []string{"Caddyfile"}, []string{"run", "--adapter", "caddyfile", "--config", "FILE"}, nil, false, 0},
	{"traefik", "traefik", "", []string{"traefik.yml", "traefik-routes.yml"}, []string{"--configfile=FILE"}, nil, true, 0},
}

// peerSettings is what the templates are filled with.
type peerSettings struct {
	Port, AdminPort int
	Backends        []string // host:port
	Cores           int      // that the peer may use
	Dir             string   // for its files
	Root            bool     // it is started by root
	Clients         int      // connections of clients at once
	Connections     int      // of both sides
	Descriptors     int      // that its processes may have open
	Slots           int      // requests that a server gets at once
	Others          int      // upstreams that no request is for
	OtherServers    []string // of each of them, host:port

	TLSPort, H2CPort int         // further ports, for HTTP/1.1 and HTTP/2 over TLS, and for HTTP/2 without; 0: none
	Certificate      certificate // for TLSPort
	HTTP2Directive   bool        // nginx has "http2 on"
}

// usual are the bounds for all workloads that do not ask for more.
var usual = peerSettings{Clients: 6000, Connections: 8192, Descriptors: 16384, Slots: 1024}

// configure writes the configuration into s.Dir and returns the arguments of the program.
func (p peer) configure(s peerSettings) ([]string, error) {
	s.Others = p.others
	for _, name := range p.files {
		t, err := template.ParseFS(peerFiles, "peers/"+name)
		if err != nil {
			return nil, err
		}
		f, err := os.Create(filepath.Join(s.Dir, name))
		if err != nil {
			return nil, err
		}
		if err := cmp.Or(t.Execute(f, s), f.Close()); err != nil {
			return nil, err
		}
	}
	args := slices.Clone(p.args)
	for i, a := range args {
		args[i] = strings.NewReplacer("FILE", filepath.Join(s.Dir, p.files[0]), "DIR", s.Dir).Replace(a)
	}
	return args, nil
}

// find returns the path of the program, or says how to get it.
func (p peer) find() (string, error) {
	path, err := exec.LookPath(p.program)
	if err == nil {
		return path, nil
	}
	// Debian keeps servers where only root's PATH looks.
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", p.program)); err == nil {
		return path, nil
	}
	if p.debian == "" {
		return "", fmt.Errorf("%s is not installed, and Debian has no package of it", p.name)
	}
	return "", fmt.Errorf("%s is not installed: apt-get install --no-install-recommends %s", p.name, p.debian)
}

// hasHTTP2Directive is whether this nginx, of 1.25.1 or later, has the directive "http2". "listen … http2" is warned of since then.
func hasHTTP2Directive(ctx context.Context, program string) bool {
	out, err := exec.CommandContext(ctx, program, "-v").CombinedOutput()
	_, version, _ := strings.Cut(string(out), "nginx/")
	var v [3]int
	if n, _ := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil || n < 3 {
		return false
	}
	return slices.Compare(v[:], []int{1, 25, 1}) >= 0
}

// findPeer is nil when there is none of that name.
func findPeer(name string) *peer {
	for i := range peers {
		if peers[i].name == name {
			return &peers[i]
		}
	}
	return nil
}
