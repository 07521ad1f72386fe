package docker

import (
	"path"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// unfit says, in words, why a container may not be multiplied: a clone would be a further key to the
// machine. Requests for GPUs are no reason. cgroup is the engine's version of them, daemon the URL of its
// socket.
func unfit(c *container.InspectResponse, cgroup, daemon string) []string {
	var why []string
	add := func(reason string) { why = append(why, reason) }
	h := c.HostConfig
	if h.Privileged {
		add("it is privileged")
	}
	if h.NetworkMode.IsHost() {
		add("it shares the network of the host")
	}
	if h.NetworkMode.IsContainer() {
		add("it shares the network of another container")
	}
	if h.NetworkMode.IsNone() {
		add("it has no network")
	}
	if h.PidMode.IsHost() || h.PidMode.IsContainer() {
		add("it shares the processes of the host or of another container")
	}
	if h.IpcMode.IsHost() || h.IpcMode.IsContainer() {
		add("it shares the IPC namespace of the host or of another container")
	}
	if h.UTSMode.IsHost() {
		add("it shares the host name of the host")
	}
	if h.UsernsMode.IsHost() {
		add("it shares the users of the host")
	}
	if h.CgroupnsMode.IsHost() && cgroup != "1" { // there it is the default
		add("it shares the cgroup namespace of the host")
	}
	if len(h.CapAdd) > 0 {
		add("it has added capabilities (" + strings.Join(h.CapAdd, ", ") + ")")
	}
	if len(h.Devices) > 0 || len(h.DeviceCgroupRules) > 0 {
		add("it has devices of the host")
	}
	for _, m := range c.Mounts {
		if reachesSocket(m.Source, daemon) {
			add("it mounts the engine's socket (" + m.Source + ")")
		}
	}
	return why
}

// reachesSocket tells whether a path of the host is an engine's socket or holds one. The gateway may see the
// socket under another path than the host does, so the usual paths count too.
func reachesSocket(source, daemon string) bool {
	source = path.Clean(source)
	switch path.Base(source) {
	case "docker.sock", "podman.sock", "containerd.sock":
		return true
	}
	sockets := []string{"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"}
	if p, ok := strings.CutPrefix(daemon, "unix://"); ok {
		sockets = append(sockets, path.Clean(p))
	}
	for _, s := range sockets {
		if s == source || source == "/" || strings.HasPrefix(s, source+"/") {
			return true
		}
	}
	return false
}
