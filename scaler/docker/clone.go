package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"sluice/scaler"
)

// cloner inspects the exemplar and returns the function that writes its clone of a number.
func (d *Driver) cloner(ctx context.Context, o Options, now blueprint) (func(number int) *spec, error) {
	if now.exemplar == nil {
		return nil, fmt.Errorf("%w: no container of service %s runs in the Compose project %s, so there is nothing to clone", scaler.ErrStart, o.Service.Name, o.Service.Project)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ex, err := d.engine.ContainerInspect(call, now.exemplar.id)
	if err != nil {
		return nil, fmt.Errorf("inspecting %s, which is to be cloned: %w", now.exemplar.name, err)
	}
	info, err := d.engine.Info(call)
	if err != nil {
		return nil, fmt.Errorf("asking the engine about itself: %w", err)
	}
	if why := unfit(&ex, info.CgroupVersion, d.engine.DaemonHost()); len(why) > 0 {
		return nil, fmt.Errorf("%w: %s is not cloned: %s", scaler.ErrStart, now.exemplar.name, strings.Join(why, "; "))
	}
	// The tag may have moved on since the exemplar was made; a clone is of what runs.
	ref := ex.Config.Image
	if im, err := d.engine.ImageInspect(call, ref); err != nil || im.ID != ex.Image {
		ref = ex.Image
	}
	return func(number int) *spec { return clone(&ex, o, now, ref, number) }, nil
}

// clone writes the container that Compose itself would have made as the next of the service: everything of
// the exemplar except what can only be once (host ports, addresses, host name, names in the network), all its
// labels verbatim except the number, and our own labels beside them.
func clone(ex *container.InspectResponse, o Options, now blueprint, image string, number int) *spec {
	names := composeNames(o.Service.Project, o.Service.Name, number)
	exName := strings.TrimPrefix(ex.Name, "/")
	s := &spec{name: names[1]}
	if strings.HasPrefix(exName, o.Service.Project+"_") || strings.HasPrefix(ex.Config.Labels["com.docker.compose.version"], "1.") {
		s.name = names[0]
	}

	config, host := *ex.Config, deepCopy(ex.HostConfig)
	config.Image = image
	if config.Hostname == short(ex.ID) {
		config.Hostname = ""
	}
	//lint:ignore SA1019 engines before API 1.44 keep it here
	config.MacAddress = ""
	config.Labels = maps.Clone(ex.Config.Labels)
	maps.DeleteFunc(config.Labels, func(key, _ string) bool { return Reserved(key) })
	maps.Copy(config.Labels, Labels(o.Owner, o.Upstream))
	config.Labels[LabelOrdinal] = strconv.Itoa(number)
	config.Labels[LabelHash] = now.hash
	config.Labels[LabelImage] = now.image
	config.Labels[composeNumber] = strconv.Itoa(number)

	host.ContainerIDFile = ""
	for port, bindings := range host.PortBindings {
		host.PortBindings[port] = slices.DeleteFunc(bindings, func(b nat.PortBinding) bool { return b.HostPort != "" && b.HostPort != "0" })
		if len(host.PortBindings[port]) == 0 {
			delete(host.PortBindings, port)
		}
	}
	// A volume without a name of its own belongs to one container: the clone gets one too, not the same.
	config.Volumes = maps.Clone(ex.Config.Volumes)
	anonymous := func(source, target string) bool {
		if !isAnonymous(source) {
			return false
		}
		if config.Volumes == nil {
			config.Volumes = make(map[string]struct{})
		}
		config.Volumes[target] = struct{}{}
		return true
	}
	host.Binds = slices.DeleteFunc(host.Binds, func(b string) bool {
		parts := strings.SplitN(b, ":", 3)
		return len(parts) > 1 && anonymous(parts[0], parts[1])
	})
	host.Mounts = slices.DeleteFunc(host.Mounts, func(m mount.Mount) bool {
		return m.Type == mount.TypeVolume && anonymous(m.Source, m.Target)
	})
	s.config, s.host = &config, host

	own := []string{short(ex.ID), exName}
	for _, n := range slices.Sorted(maps.Keys(ex.NetworkSettings.Networks)) {
		s.networks = append(s.networks, attachment{n, endpointLike(ex.NetworkSettings.Networks[n], own, s.name)})
	}
	first := slices.IndexFunc(s.networks, func(a attachment) bool { return a.name == string(host.NetworkMode) })
	if first > 0 {
		a := s.networks[first]
		s.networks = slices.Insert(slices.Delete(s.networks, first, first+1), 0, a)
	}
	if host.NetworkMode.IsDefault() || host.NetworkMode.IsBridge() {
		s.networks = nil // the engine's own network knows no aliases; it is attached by default
	}
	return s
}

// endpointLike copies what was asked of an endpoint, not what came of it: no addresses, and among the
// aliases none that names the one container (own); its name becomes the clone's.
func endpointLike(ex *network.EndpointSettings, own []string, cloneName string) *network.EndpointSettings {
	if ex == nil {
		return &network.EndpointSettings{}
	}
	e := &network.EndpointSettings{Links: slices.Clone(ex.Links), DriverOpts: maps.Clone(ex.DriverOpts), GwPriority: ex.GwPriority}
	for _, alias := range ex.Aliases {
		if alias == own[1] {
			alias = cloneName
		}
		if alias != own[0] && !slices.Contains(e.Aliases, alias) {
			e.Aliases = append(e.Aliases, alias)
		}
	}
	return e
}

// isAnonymous tells the names that the engine gives volumes from those that people give them.
func isAnonymous(volume string) bool {
	return len(volume) == 64 && strings.Trim(volume, "0123456789abcdef") == ""
}

func deepCopy(h *container.HostConfig) *container.HostConfig {
	var c container.HostConfig
	b, err := json.Marshal(h)
	if err = errors.Join(err, json.Unmarshal(b, &c)); err != nil {
		panic(err) // it came from JSON
	}
	return &c
}
