package docker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memoryEngine is an engine without containers: what it is asked for it only notes. For what a real one does only by
// chance, or only after minutes. Of its calls those that are not here are not to be made.
type memoryEngine struct {
	Engine

	mu     sync.Mutex // guards all below
	all    []*container.Summary
	events []events.Message

	created func() error // called when a container is made, before the driver is told; its error is told instead
	stopped func()       // called when one has ended, before the driver is told
}

func (e *memoryEngine) find(id string) *container.Summary {
	for _, c := range e.all {
		if c.ID == id || nameOf(c.Names) == id {
			return c
		}
	}
	return nil
}

// add is a container that runs, by whomever it was made.
func (e *memoryEngine) add(name string, labels map[string]string) (id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id = fmt.Sprintf("%064d", len(e.events)+len(e.all)+1)
	e.all = append(e.all, &container.Summary{ID: id, Names: []string{"/" + name}, Labels: labels, State: "running", ImageID: "image", Created: time.Now().Unix()})
	e.events = append(e.events, events.Message{Action: events.ActionCreate, Actor: events.Actor{ID: id}, TimeNano: time.Now().UnixNano()})
	return id
}

// signal is what `docker kill -s` notes; the container lives on until it is gone.
func (e *memoryEngine) signal(id, signal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, events.Message{Action: events.ActionKill, Actor: events.Actor{ID: id, Attributes: map[string]string{"signal": signal}}, TimeNano: time.Now().UnixNano()})
}

func (e *memoryEngine) gone(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = slices.DeleteFunc(e.all, func(c *container.Summary) bool { return c.ID == id })
}

func (e *memoryEngine) ContainerList(_ context.Context, o container.ListOptions) (list []container.Summary, _ error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.all {
		if o.Filters.MatchKVList("label", c.Labels) {
			list = append(list, *c)
		}
	}
	return list, nil
}

func (e *memoryEngine) ContainerInspect(_ context.Context, id string) (container.InspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.find(id)
	if c == nil {
		return container.InspectResponse{}, cerrdefs.ErrNotFound
	}
	return container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{ID: c.ID, Name: c.Names[0], State: &container.State{Status: c.State}},
		Config:            &container.Config{Labels: c.Labels},
	}, nil
}

func (e *memoryEngine) Events(_ context.Context, o events.ListOptions) (<-chan events.Message, <-chan error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	messages, errs := make(chan events.Message), make(chan error)
	since, until := nanoseconds(o.Since), nanoseconds(o.Until)
	var told []events.Message
	for _, m := range e.events {
		if o.Filters.ExactMatch("event", string(m.Action)) && o.Filters.ExactMatch("container", m.Actor.ID) && m.TimeNano >= since && m.TimeNano <= until {
			told = append(told, m)
		}
	}
	go func() {
		for _, m := range told {
			messages <- m
		}
		errs <- io.EOF
	}()
	return messages, errs
}

// nanoseconds reads a time as the engine's queries take it.
func nanoseconds(stamp string) int64 {
	n, err := strconv.ParseInt(strings.Replace(stamp, ".", "", 1), 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (e *memoryEngine) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	return image.InspectResponse{ID: "image"}, nil
}

func (e *memoryEngine) ContainerCreate(_ context.Context, c *container.Config, _ *container.HostConfig, _ *network.NetworkingConfig, _ *ocispec.Platform, name string) (container.CreateResponse, error) {
	id := e.add(name, c.Labels)
	e.mu.Lock()
	e.find(id).State = "created"
	e.mu.Unlock()
	if e.created != nil {
		if err := e.created(); err != nil {
			return container.CreateResponse{}, err
		}
	}
	return container.CreateResponse{ID: id}, nil
}

func (e *memoryEngine) ContainerStart(_ context.Context, id string, _ container.StartOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.find(id).State = "running"
	return nil
}

func (e *memoryEngine) ContainerStop(_ context.Context, id string, _ container.StopOptions) error {
	e.signal(id, "15")
	e.mu.Lock()
	e.find(id).State = "exited"
	e.mu.Unlock()
	if e.stopped != nil {
		e.stopped()
	}
	return nil
}

func (e *memoryEngine) ContainerRemove(_ context.Context, id string, _ container.RemoveOptions) error {
	e.gone(id)
	return nil
}

// clones adds a Compose service "p"/"api" of one container and n clones of it.
func (e *memoryEngine) clones(n int) (o Options, ids []string) {
	o = Options{Owner: "o", Upstream: "api", Max: 9, Service: &Service{Project: "p", Name: "api"}, Log: slog.New(slog.DiscardHandler)}
	compose := func(number int) map[string]string {
		return map[string]string{composeProject: "p", composeService: "api", composeNumber: strconv.Itoa(number), composeHash: "hash"}
	}
	e.add(composeNames("p", "api", 1)[1], compose(1))
	for number := 2; number < 2+n; number++ {
		labels := compose(number)
		labels[LabelOwner], labels[LabelUpstream], labels[LabelOrdinal] = o.Owner, o.Upstream, strconv.Itoa(number)
		labels[LabelHash], labels[LabelImage] = "hash", "image"
		ids = append(ids, e.add(composeNames("p", "api", number)[1], labels))
	}
	return o, ids
}
