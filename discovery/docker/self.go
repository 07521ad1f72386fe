package docker

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Labels that Compose puts on its containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
	labelOneOff  = "com.docker.compose.oneoff"
)

// OwnProject returns the Compose project of the container that this process runs in, and whether it
// runs in one of the engine's containers at all. project is "" when the container belongs to none.
func OwnProject(ctx context.Context, cli Client) (project string, inContainer bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	own, err := FindSelf(ctx, cli)
	if err != nil || own == nil {
		return "", false, err
	}
	return own.Config.Labels[labelProject], true, nil
}

// FindSelf inspects the container that this process runs in; nil when it runs in none that the
// engine knows: on the host, or in a container of another engine.
func FindSelf(ctx context.Context, cli Client) (*container.InspectResponse, error) {
	hostname, _ := os.Hostname()
	mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	for _, id := range ownIDs(string(mountinfo), string(cgroup), hostname) {
		found, err := cli.ContainerInspect(ctx, id)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("inspect the container that sluice may run in: %w", err)
		}
		if found.ContainerJSONBase == nil || found.Config == nil || found.State == nil || !found.State.Running {
			continue
		}
		if id == hostname && found.Config.Hostname != hostname {
			continue // a host that is named like a container
		}
		return &found, nil
	}
	return nil, nil
}

var (
	// The files that the engine mounts into every container lie in a directory named by its ID. Other
	// mounts do not count: on a host, those of all its containers are visible.
	mountedID = regexp.MustCompile(`/containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) `)
	cgroupID  = regexp.MustCompile(`[/-]([0-9a-f]{64})(?:\.scope)?$`)
	shortID   = regexp.MustCompile(`^[0-9a-f]{12}$`)
)

// ownIDs returns the container IDs that this process may run in, the most certain first: from
// /proc/self/mountinfo (proc(5)), /proc/self/cgroup (v1; v2 without a namespace of its own) and the
// host name, which is the short ID unless set otherwise.
func ownIDs(mountinfo, cgroup, hostname string) []string {
	var ids []string
	seen := make(map[string]bool)
	add := func(id string) {
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, m := range mountedID.FindAllStringSubmatch(mountinfo, -1) {
		add(m[1])
	}
	for line := range strings.Lines(cgroup) {
		if m := cgroupID.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			add(m[1])
		}
	}
	if shortID.MatchString(hostname) {
		add(hostname)
	}
	return ids
}
