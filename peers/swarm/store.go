package swarm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"sluice/peers"
)

// Configs is what the store calls of the engine's client; *client.Client has it.
type Configs interface {
	ConfigInspectWithRaw(ctx context.Context, name string) (swarm.Config, []byte, error)
	ConfigCreate(ctx context.Context, config swarm.ConfigSpec) (swarm.ConfigCreateResponse, error)
	ConfigUpdate(ctx context.Context, id string, version swarm.Version, config swarm.ConfigSpec) error
}

// Labels of the config object.
const (
	labelHolder  = "sluice.lease.holder"
	labelTerm    = "sluice.lease.term"
	labelBeat    = "sluice.lease.beat"
	labelRenewed = "sluice.lease.renewed"
)

// Store is a peers.Store in the labels of a config object that no task uses: no service changes with it. A
// version is the object's ID and index, as another object of the same name counts from anew.
type Store struct {
	engine    Configs
	directory Named

	mu   sync.Mutex // guards both below
	last swarm.Config
	seen string // its version
}

// Named tells what the service of the gateways is called in full; "" while that is not known. A Directory does. All
// gateways of one service so have one object, whatever each knows of its stack.
type Named interface{ Name() string }

// NewStore is the store in the config object SERVICE-scaler.
func NewStore(engine Configs, service Named) *Store {
	return &Store{engine: engine, directory: service}
}

func (s *Store) name() (string, error) {
	service := s.directory.Name()
	if service == "" {
		return "", errors.New("the service of the gateways has not been found")
	}
	return service + "-scaler", nil
}

// Get is peers.Store's.
func (s *Store) Get(ctx context.Context) (peers.Record, string, error) {
	name, err := s.name()
	if err != nil {
		return peers.Record{}, "", err
	}
	config, _, err := s.engine.ConfigInspectWithRaw(ctx, name)
	if err != nil {
		return peers.Record{}, "", words("read", name, err)
	}
	if config.Spec.Name != name { // what begins like an ID is taken for one
		return peers.Record{}, "", fmt.Errorf("the engine has %s for the config %s", config.Spec.Name, name)
	}
	r, err := recordOf(config.Spec.Labels)
	if err != nil {
		return peers.Record{}, "", fmt.Errorf("the config %s: %w", name, err)
	}
	return r, s.keep(config), nil
}

// Create is peers.Store's.
func (s *Store) Create(ctx context.Context, r peers.Record) (string, error) {
	name, err := s.name()
	if err != nil {
		return "", err
	}
	spec := swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: name, Labels: labels(nil, r)},
		Data:        []byte("The lease of sluice's gateways is in the labels.\n"), // it may not be empty
	}
	made, err := s.engine.ConfigCreate(ctx, spec)
	if err != nil {
		return "", words("create", name, err)
	}
	config, _, err := s.engine.ConfigInspectWithRaw(ctx, made.ID) // the answer has no version
	if err != nil {
		return "", fmt.Errorf("the config %s was created, and then: %w", name, err)
	}
	if now, err := recordOf(config.Spec.Labels); err != nil || now.Holder != r.Holder || now.Term != r.Term || now.Beat != r.Beat {
		return "", peers.ErrConflict // somebody was quicker
	}
	return s.keep(config), nil
}

// Update is peers.Store's. The engine tells no new version: it is read, and is ours as long as the record is.
func (s *Store) Update(ctx context.Context, r peers.Record, version string) (string, error) {
	s.mu.Lock()
	last, seen := s.last, s.seen
	s.mu.Unlock()
	if seen == "" || seen != version { // another version has been seen since
		return "", peers.ErrConflict
	}
	spec := last.Spec
	spec.Labels = labels(spec.Labels, r)
	if err := s.engine.ConfigUpdate(ctx, last.ID, last.Version, spec); err != nil {
		return "", words("update", spec.Name, err)
	}
	config, _, err := s.engine.ConfigInspectWithRaw(ctx, last.ID)
	if err != nil {
		return "", fmt.Errorf("the config %s was updated, and then: %w", spec.Name, err)
	}
	if now, err := recordOf(config.Spec.Labels); err != nil || now.Holder != r.Holder || now.Term != r.Term || now.Beat != r.Beat {
		return "", peers.ErrConflict
	}
	return s.keep(config), nil
}

func (s *Store) keep(config swarm.Config) (version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.seen = config, config.ID+"."+strconv.FormatUint(config.Version.Index, 10)
	return s.seen
}

// labels are those that were there, with r.
func labels(before map[string]string, r peers.Record) map[string]string {
	all := maps.Clone(before)
	if all == nil {
		all = map[string]string{}
	}
	all[labelHolder] = r.Holder
	all[labelTerm] = strconv.FormatUint(r.Term, 10)
	all[labelBeat] = strconv.FormatUint(r.Beat, 10)
	all[labelRenewed] = r.Renewed.UTC().Format(time.RFC3339Nano)
	return all
}

func recordOf(labels map[string]string) (r peers.Record, err error) {
	r.Holder = labels[labelHolder]
	for name, into := range map[string]*uint64{labelTerm: &r.Term, labelBeat: &r.Beat} {
		if *into, err = strconv.ParseUint(labels[name], 10, 64); err != nil {
			return r, fmt.Errorf("the label %s: %w", name, err)
		}
	}
	r.Renewed, _ = time.Parse(time.RFC3339Nano, labels[labelRenewed]) // for people only
	return r, nil
}

// words maps what the manager says. It has no code of its own for a stale version.
func words(what, name string, err error) error {
	switch {
	case strings.Contains(err.Error(), "update out of sequence"), what == "create" && errdefs.IsConflict(err):
		return peers.ErrConflict
	case what != "create" && errdefs.IsNotFound(err) && strings.Contains(err.Error(), "config"):
		return peers.ErrNoRecord
	}
	return fmt.Errorf("%s the config %s: %w", what, name, err)
}
