package docker

import (
	"context"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
)

// Client is what discovery calls of the engine's client; *client.Client has it. All users of one
// client share one hub, so the value must be comparable.
type Client interface {
	ContainerList(ctx context.Context, options container.ListOptions) ([]container.Summary, error)
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
	NetworkList(ctx context.Context, options network.ListOptions) ([]network.Summary, error)
	Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error)
}

// NewClient returns a client of the engine behind socket: a path, an address as DOCKER_HOST has it,
// or "" for the environment's (DOCKER_HOST, else /var/run/docker.sock). The API version is
// negotiated with the first call; nothing is connected before it.
func NewClient(socket string) (*client.Client, error) {
	options := []client.Opt{client.FromEnv}
	if socket != "" {
		if strings.HasPrefix(socket, "/") {
			socket = "unix://" + socket
		}
		options = append(options, client.WithHost(socket))
	}
	return client.NewClientWithOpts(append(options, client.WithAPIVersionNegotiation())...)
}
