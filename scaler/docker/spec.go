package docker

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"sluice/scaler"
)

// spec is all that the engine is told to make one replica.
type spec struct {
	name     string
	config   *container.Config
	host     *container.HostConfig
	networks []attachment // the first in create, the others before the start
}

// attachment of a container to a network.
type attachment struct {
	name     string
	settings *network.EndpointSettings
}

// firstNetwork is the one that goes with create; nil for the engine's default.
func (s *spec) firstNetwork() *network.NetworkingConfig {
	if len(s.networks) == 0 {
		return nil
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.networks[0].name: s.networks[0].settings}}
}

// maker returns the function that writes the spec of the replica of a number.
func (d *Driver) maker(ctx context.Context, o Options, now blueprint) (func(number int) *spec, error) {
	build, err := d.declared(ctx, o, now)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	with := d.startWith
	d.mu.Unlock()
	return func(number int) *spec {
		s := build(number)
		s.fit(with)
		return s
	}, nil
}

// declared is maker, of replicas as they are declared.
func (d *Driver) declared(ctx context.Context, o Options, now blueprint) (func(number int) *spec, error) {
	if o.Service != nil {
		return d.cloner(ctx, o, now)
	}
	if now.image == "" {
		id, err := d.pull.image(ctx, d.engine, o.Container.Image)
		if err != nil {
			return nil, err
		}
		now.image = id
	}
	if _, err := declare(o, now, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", scaler.ErrStart, err)
	}
	return func(ordinal int) *spec {
		s, _ := declare(o, now, ordinal) // tried above; the ordinal cannot make it fail
		return s
	}, nil
}

// declare writes a declared replica in the engine's words.
func declare(o Options, now blueprint, ordinal int) (*spec, error) {
	c := o.Container
	mounts, err := mountsOf(c.Mounts)
	if err != nil {
		return nil, err
	}
	labels := Labels(o.Owner, o.Upstream)
	labels[LabelOrdinal] = strconv.Itoa(ordinal)
	labels[LabelHash] = now.hash
	labels[LabelImage] = now.image
	grace := int(math.Ceil(c.StopGrace.Seconds()))
	s := &spec{
		name: name(o.Owner, o.Upstream, ordinal),
		config: &container.Config{
			Image:       c.Image,
			Cmd:         c.Command,
			Env:         environment(c.Env),
			Labels:      labels,
			StopTimeout: &grace,
		},
		host: &container.HostConfig{
			Mounts: mounts,
			Resources: container.Resources{
				Memory:     c.Memory,
				MemorySwap: c.Memory, // memory and swap together: no swap
				NanoCPUs:   int64(c.CPUs * 1e9),
			},
		},
	}
	if c.Port != 0 {
		s.config.ExposedPorts = nat.PortSet{nat.Port(strconv.Itoa(c.Port) + "/tcp"): {}}
	}
	if c.GPUs != 0 {
		s.host.DeviceRequests = []container.DeviceRequest{{Count: c.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	for _, n := range c.Networks {
		s.networks = append(s.networks, attachment{n, &network.EndpointSettings{}})
	}
	if len(c.Networks) > 0 {
		s.host.NetworkMode = container.NetworkMode(c.Networks[0])
	}
	return s, nil
}

// environment as the engine takes it, sorted, so that the same map makes the same container.
func environment(env map[string]string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}

// mountsOf reads "source:target[:ro]". They are mounts and not binds: a bind makes a directory of a source
// that does not exist, a mount says that it does not.
func mountsOf(list []string) ([]mount.Mount, error) {
	var mounts []mount.Mount
	for _, text := range list {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !strings.HasPrefix(parts[1], "/") || len(parts) == 3 && parts[2] != "ro" && parts[2] != "rw" {
			return nil, fmt.Errorf("mount %q is not source:target or source:target:ro", text)
		}
		m := mount.Mount{Type: mount.TypeVolume, Source: parts[0], Target: parts[1], ReadOnly: len(parts) == 3 && parts[2] == "ro"}
		if strings.Contains(m.Source, "/") {
			if m.Type = mount.TypeBind; m.Source[0] != '/' {
				return nil, fmt.Errorf("mount %q: the path on the engine's machine must be absolute", text)
			}
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// Check tells what is wrong with a declaration as far as that can be told without an engine.
func Check(c *scaler.ContainerConfig) error {
	_, err := mountsOf(c.Mounts)
	return err
}
