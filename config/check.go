package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"sluice/proxy/http1"
)

// checker looks for contradictions in a decoded configuration and reports each at its place. Where
// a key is not written its default holds, which is right by itself.
type checker struct {
	*report
	c      *Config
	serves bool // clients, so that the files of [tls] must be there, and the folders that it writes to
}

func (k *checker) config(root *value) {
	c := k.c
	c.defaultACME()
	k.listeners(root)
	network := func(s string) error { _, err := parsePrefix(s); return err }
	k.list(root.get("trusted_proxies"), c.TrustedProxies, "network", network)
	k.list(root.get("proxy_protocol"), c.ProxyProtocol, "network", network)
	k.atLeast(root.get("shutdown_delay"), c.ShutdownDelay, 0)
	k.atLeast(root.get("drain_timeout"), c.DrainTimeout, 0)
	k.filled(root.get("pid"), c.PID, `a file, or "off" for none`)
	if c.PID != "off" && c.PID != Default().PID { // run does without the default's folder
		k.writable(root.get("pid"), c.PID)
	}

	client := root.get("client")
	if client != nil {
		k.between(client.get("max_header"), c.Client.MaxHeader, 1<<10, 1<<20)
		k.between(client.get("max_fields"), c.Client.MaxFields, 1, 256)
		k.between(client.get("max_connections"), c.Client.MaxConnections, 0, 1<<30)
	}
	k.oneOf(root.get("log", "access"), c.Log.Access, "json", "combined", "logfmt", "off")
	k.oneOf(root.get("log", "level"), c.Log.Level, "debug", "info", "warn", "error")
	k.writable(root.get("log", "file"), c.Log.File)
	k.oneOf(root.get("engine", "kind"), c.Engine.Kind, "auto", "none", "docker", "swarm", "kubernetes")
	k.namespace(root.get("engine", "namespace"), c.Engine.Namespace)
	k.socket(root.get("engine", "socket"), c.Engine.Socket)
	k.scaler(root)
	k.between(root.get("scale", "max_replicas"), c.Scale.MaxReplicas, 0, 100000)
	k.stateFile(root.get("scale", "state_file"))

	k.tls(root)
	k.acme(root)
	k.metricsAPI(root)
	k.peers(root)

	k.upstreams(root)
	k.routes(root)
}

// peers checks that gateways can share what they have.
func (k *checker) peers(root *value) {
	at := root.get("peers")
	if at == nil || !at.sound() || k.c.Peers == nil {
		return
	}
	if key, err := k.c.Peers.Check(); err != nil && root.sound("peers", key) {
		k.fail(root.near("peers", key), "%s", err)
	}
	if v := root.get("peers", "service"); v != nil && v.sound() && k.c.Peers.Service != "" && (k.c.Engine.Kind == "none" || k.c.Engine.Kind == "docker") {
		k.failHint(v, "use dir for gateways on one host", "gateways on several hosts need Kubernetes or Swarm, and [engine] kind is %s", k.c.Engine.Kind)
	}
	for name, u := range k.c.Upstreams {
		if u != nil && u.Replicas.Process != nil {
			k.failHint(root.near("upstream", name, "process"), "use container or service, or leave out [peers]",
				"processes belong to the gateway that started them; with [peers] others cannot use them")
		}
	}
}

// listeners checks all addresses that sluice would listen on, against each other too.
func (k *checker) listeners(root *value) {
	c := k.c
	type opened struct {
		addr string
		at   *value
	}
	var open []opened
	add := func(at *value, addr string) {
		for _, o := range open {
			if clash(o.addr, addr) {
				what := "port"
				if _, ok := http1.SocketPath(addr); ok {
					what = "socket"
				}
				k.fail(at, "%q and %q%s are the same %s and cannot both be opened", addr, o.addr, elsewhere(o.at, at), what)
				return
			}
		}
		open = append(open, opened{addr, at})
	}
	listen := root.near("listen")
	if v := root.get("listen"); v != nil && v.sound() && len(c.Listen) == 0 && len(c.TLSListen()) == 0 {
		if len(c.Routes) == 0 || slices.ContainsFunc(c.Routes, func(r route) bool { return r.Listen == "" }) {
			k.fail(v, "listen is empty, but there are routes without a listen of their own")
		}
	}
	for i, addr := range c.Listen {
		at := listen
		if v := root.get("listen"); v != nil {
			at = v.element(i)
		}
		if at.bad {
			continue
		}
		if err := checkListen(addr); err != nil {
			k.fail(at, "%s", err)
			continue
		}
		add(at, addr)
	}
	k.tlsListeners(root, add)
	if root.sound("admin", "listen") {
		k.adminListen(root.near("admin", "listen"), root, func(at *value, addr string) {
			if root.get("admin", "listen") == nil && slices.ContainsFunc(open, func(o opened) bool { return clash(o.addr, addr) }) {
				k.fail(root.near("listen"), "the admin API listens on %s by default; give [admin] another listen, or \"off\"", addr)
				return
			}
			add(at, addr)
		})
	}
	if v := root.get("metrics", "listen"); v != nil && v.sound() && c.Metrics.Listen != "" && c.Metrics.Listen != "off" {
		if _, _, err := splitAddress(c.Metrics.Listen, 0); err != nil {
			k.fail(v, "%s", err)
		} else {
			add(v, c.Metrics.Listen)
		}
	}
	if v := root.get("metrics_api", "listen"); v != nil && v.sound() && !c.MetricsAPI.Off() {
		if _, _, err := splitAddress(c.MetricsAPI.Listen, 0); err != nil {
			k.fail(v, "%s", err)
		} else {
			add(v, c.MetricsAPI.Listen)
		}
	}
	if v := root.get("peers", "listen"); v != nil && v.sound() && c.Peers != nil && c.Peers.Listen != "" {
		if _, _, err := splitAddress(c.Peers.Listen, 0); err != nil {
			k.fail(v, "%s", err)
		} else {
			add(v, c.Peers.Listen)
		}
	}
	for i, r := range c.Routes {
		v := root.get("route").element(i).get("listen")
		if v == nil || !v.sound() {
			continue
		}
		if r.Listen == "" {
			k.fail(v, "listen is empty")
		} else if err := checkListen(r.Listen); err != nil {
			k.fail(v, "%s", err)
		} else if !slices.ContainsFunc(open, func(o opened) bool { return o.addr == r.Listen && !isAdmin(c, r.Listen) }) {
			add(v, r.Listen)
		}
	}
}

func isAdmin(c *Config, addr string) bool {
	return addr == c.Admin.Listen || addr == c.Metrics.Listen || addr == c.MetricsAPI.Listen || c.Peers != nil && addr == c.Peers.Listen
}

// metricsAPI checks all but the address. An engine that may turn out to be another one is no mistake: one file serves
// on several.
func (k *checker) metricsAPI(root *value) {
	m := k.c.MetricsAPI
	if v := root.get("metrics_api", "listen"); v != nil && v.sound() && !m.Off() && k.c.Engine.Kind != "auto" && k.c.Engine.Kind != "kubernetes" {
		k.fail(v, "the metrics API is Kubernetes', and [engine] kind is %s", k.c.Engine.Kind)
	}
	if at := root.get("metrics_api", "cert"); at != nil && at.sound() && m.Cert != "" && m.Key == "" {
		k.fail(at, "cert and key belong together: key is missing")
	}
	if at := root.get("metrics_api", "key"); at != nil && at.sound() && m.Key != "" && m.Cert == "" {
		k.fail(at, "cert and key belong together: cert is missing")
	}
	if at := root.get("metrics_api", "window"); at != nil && at.sound() && (m.Window < time.Second || m.Window > 5*time.Minute) {
		k.fail(at, "%s is out of range: 1s to 5m", m.Window)
	}
}

// adminListen checks the admin API's address. It can stop servers and change what runs, so only this
// machine may reach it without a token.
func (k *checker) adminListen(at, root *value, add func(*value, string)) {
	addr := k.c.Admin.Listen
	if addr == "off" {
		return
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if !filepath.IsAbs(path) {
			k.fail(at, "%q: a Unix socket is written \"unix:/path\"", addr)
			return
		}
		add(at, addr)
		return
	}
	host, _, err := splitAddress(addr, 0)
	if err != nil {
		k.failHint(at, didYouMean(addr, []string{"off"}), "%s", err)
		return
	}
	if !loopback(host) && k.c.Admin.Token == "" && root.sound("admin", "token") {
		k.failHint(at, `add token = "env:NAME" or listen on 127.0.0.1`, "the admin API on %q can be reached from elsewhere and has no token", addr)
	}
	add(at, addr)
}

func (k *checker) socket(at *value, s string) {
	if at == nil || !at.sound() {
		return
	}
	kind, rest, ok := strings.Cut(s, "://")
	switch {
	case ok && kind == "unix" && filepath.IsAbs(rest):
	case ok && kind == "tcp":
		if _, _, err := splitAddress(rest, 1); err != nil {
			k.fail(at, "%s", err)
		}
	case filepath.IsAbs(s):
		k.failHint(at, fmt.Sprintf("did you mean %q?", "unix://"+s), "%q has no scheme", s)
	default:
		k.fail(at, `%q is no socket: write "unix:///path" or "tcp://host:port"`, s)
	}
}

// scaler checks how the gateway and the process with the engine meet.
func (k *checker) scaler(root *value) {
	e := k.c.Engine
	if at := root.get("engine", "scaler"); at != nil && at.sound() && e.Scaler != "" && (!filepath.IsAbs(e.Scaler) || len(e.Scaler) > 100) {
		k.fail(at, "%q is no socket: write the absolute path of one, of 100 bytes at most", e.Scaler)
	}
	at := root.get("engine", "scaler_clients")
	if at == nil || !at.sound() {
		return
	}
	for i, uid := range e.ScalerClients {
		k.between64(at.element(i), int64(uid), 0, 1<<32-2)
	}
}

// elsewhere names the line of another value, for messages about two.
func elsewhere(other, here *value) string {
	if other.src != here.src || other.label != "" || other.src.pos(other.at).Line == here.src.pos(here.at).Line {
		return ""
	}
	return fmt.Sprintf(" (line %d)", other.src.pos(other.at).Line)
}

// between checks a number that is written.
func (k *checker) between(at *value, n, least, most int) {
	k.between64(at, int64(n), int64(least), int64(most))
}

func (k *checker) between64(at *value, n, least, most int64) {
	if at != nil && (n < least || n > most) {
		k.fail(at, "%d is out of range: %d to %d", n, least, most)
	}
}

// atLeast checks a duration that is written.
func (k *checker) atLeast(at *value, d, least time.Duration) {
	if at == nil || d >= least {
		return
	}
	if least <= time.Nanosecond {
		k.fail(at, "%s is too short: it must be more than 0s", d)
		return
	}
	k.fail(at, "%s is too short: %s at least", d, least)
}

func (k *checker) oneOf(at *value, s string, words ...string) {
	if at != nil && !slices.Contains(words, s) {
		last := len(words) - 1
		k.failHint(at, didYouMean(s, words), "%q is none of %s and %s", s, strings.Join(words[:last], ", "), words[last])
	}
}

func (k *checker) filled(at *value, s, what string) {
	if at != nil && s == "" {
		k.fail(at, "it is empty: %s is wanted", what)
	}
}

// writable checks what a start would find out too late to say where: that a file to write can stand where it is said to.
func (k *checker) writable(at *value, file string) {
	if at == nil || !at.sound() || file == "" || !k.serves {
		return
	}
	if err := Writable(file); err != nil {
		k.fail(at, "%s", err)
	}
}

// stateFile checks that the file is one that can be replaced as a whole, every minute.
func (k *checker) stateFile(at *value) {
	file := k.c.Scale.StateFile
	if at == nil || !at.sound() || file == "" || !k.serves {
		return
	}
	if info, err := os.Stat(file); err == nil && !info.IsDir() {
		if !info.Mode().IsRegular() {
			k.fail(at, "%s: it is no regular file", file)
		} else if own, err := os.Stat(at.src.name); err == nil && os.SameFile(info, own) {
			k.fail(at, "%s: it is the configuration itself", file)
		}
		return
	}
	k.writable(at, file)
}

// Writable says why a file of that name could not be made; nil when it can, as far as that is known without making it.
// What this user may not look at is no mistake: another one may run sluice.
func Writable(file string) error {
	folder := filepath.Dir(file)
	switch info, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrPermission):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no folder %s", file, folder)
	case errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
		return fmt.Errorf("%s: %s is no folder", file, folder)
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return fmt.Errorf("%s: it is a folder", file)
	}
	return nil
}

// list checks each element of a list of texts, and that none stands twice.
func (k *checker) list(at *value, all []string, what string, check func(string) error) {
	if at == nil {
		return
	}
	for i, s := range all {
		one := at.element(i)
		if one.bad {
			continue
		}
		if err := check(s); err != nil {
			k.fail(one, "%s", err)
		} else if slices.Contains(all[:i], s) {
			k.fail(one, "the %s %q stands twice", what, s)
		}
	}
}
