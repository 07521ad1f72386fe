package main

import (
	"cmp"
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
}

// peers are all that can be measured. The ratios are to nginx, and the order is that of the table.
var peers = []peer{
	{"nginx", "nginx", "nginx-light", []string{"nginx.conf"}, []string{"-c", "FILE", "-p", "DIR", "-e", "stderr"}, []string{"-t", "-q"}},
	{"sluice", "", "", []string{"sluice.toml"}, []string{"run", "-c", "FILE"}, nil},
	{"haproxy", "haproxy", "haproxy", []string{"haproxy.cfg"}, []string{"-db", "-f", "FILE"}, []string{"-c", "-q"}},
	{"caddy", "caddy", "caddy", []string{"Caddyfile"}, []string{"run", "--adapter", "caddyfile", "--config", "FILE"}, nil},
	{"traefik", "traefik", "", []string{"traefik.yml", "traefik-routes.yml"}, []string{"--configfile=FILE"}, nil},
}

// peerSettings is what the templates are filled with.
type peerSettings struct {
	Port, AdminPort int
	Backends        []string // host:port
	Cores           int      // that the peer may use
	Dir             string   // for its files
	Root            bool     // it is started by root
}

// configure writes the configuration into s.Dir and returns the arguments of the program.
func (p peer) configure(s peerSettings) ([]string, error) {
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

// findPeer is nil when there is none of that name.
func findPeer(name string) *peer {
	for i := range peers {
		if peers[i].name == name {
			return &peers[i]
		}
	}
	return nil
}
