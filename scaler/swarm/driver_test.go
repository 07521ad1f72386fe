package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"sluice/scaler"
)

// fake is a manager without an engine.
type fake struct {
	services []swarm.Service
	tasks    []swarm.Task
	nodes    []swarm.Node
	stale    int // how many updates come too late
	err      error
	updates  []uint64 // the numbers that were written
	options  swarm.ServiceUpdateOptions
}

func (f *fake) ServiceList(context.Context, swarm.ServiceListOptions) ([]swarm.Service, error) {
	return append([]swarm.Service(nil), f.services...), f.err
}

func (f *fake) TaskList(context.Context, swarm.TaskListOptions) ([]swarm.Task, error) {
	return f.tasks, f.err
}

func (f *fake) NodeList(context.Context, swarm.NodeListOptions) ([]swarm.Node, error) {
	return f.nodes, f.err
}

func (f *fake) ServiceUpdate(_ context.Context, id string, v swarm.Version, spec swarm.ServiceSpec, o swarm.ServiceUpdateOptions) (swarm.ServiceUpdateResponse, error) {
	for i := range f.services {
		s := &f.services[i]
		if s.ID != id {
			continue
		}
		if f.stale > 0 {
			f.stale--
			s.Version.Index++
		}
		if s.Version != v {
			return swarm.ServiceUpdateResponse{}, errors.New("rpc error: code = Unknown desc = update out of sequence")
		}
		s.Version.Index++
		s.Spec, f.options = spec, o
		f.updates = append(f.updates, *spec.Mode.Replicated.Replicas)
		return swarm.ServiceUpdateResponse{}, nil
	}
	return swarm.ServiceUpdateResponse{}, errors.New("no such service")
}

// set is somebody else's `docker service scale`.
func (f *fake) set(n uint64) {
	f.services[0].Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &n}
	f.services[0].Version.Index++
}

func (f *fake) count() uint64 { return *f.services[0].Spec.Mode.Replicated.Replicas }

func replicated(name string, n uint64, change ...func(*swarm.Service)) swarm.Service {
	s := swarm.Service{ID: "id-of-" + name, Spec: swarm.ServiceSpec{
		Annotations:  swarm.Annotations{Name: name},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}},
		TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: "shop/api:1"}},
	}}
	for _, do := range change {
		do(&s)
	}
	return s
}

func driver(f *fake) *Driver {
	return New(f, Options{Upstream: "api", Service: "api", Log: slog.New(slog.DiscardHandler)})
}

func TestScaleWritesTheNumberAndNothingElse(t *testing.T) {
	f := &fake{services: []swarm.Service{replicated("api", 1, func(s *swarm.Service) { s.Spec.TaskTemplate.ForceUpdate = 7 })}}
	d := driver(f)
	for _, n := range []int{3, 3, 0} {
		if err := d.Scale(t.Context(), n, []string{"whoever"}); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(f.updates) != "[3 0]" || f.services[0].Spec.TaskTemplate.ForceUpdate != 7 || f.options != (swarm.ServiceUpdateOptions{}) {
		t.Errorf("updates %v, %+v, %+v", f.updates, f.services[0].Spec, f.options)
	}
	if notes := d.Notes(); notes != nil {
		t.Errorf("%v", notes)
	}
}

func TestStaleVersionIsReadAnew(t *testing.T) {
	f := &fake{services: []swarm.Service{replicated("api", 1)}, stale: attempts - 1}
	if err := driver(f).Scale(t.Context(), 2, nil); err != nil || f.count() != 2 {
		t.Errorf("%v, %d replicas", err, f.count())
	}
	f.stale = attempts
	if err := driver(f).Scale(t.Context(), 3, nil); err == nil || !strings.Contains(err.Error(), "out of sequence") || errors.Is(err, scaler.ErrStart) {
		t.Errorf("%v", err)
	}
}

func TestRefusedInWords(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*swarm.Service)
		want   string
	}{
		{"global", func(s *swarm.Service) { s.Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}} }, "the service api is global"},
		{"job", func(s *swarm.Service) { s.Spec.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{}} }, "is a job"},
		{"short image", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "api" }, `docker service update --image api:latest api`},
		{"long image", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "docker.io/library/api:1" }, `an update writes it as "api:1"`},
	} {
		f := &fake{services: []swarm.Service{replicated("api", 1, tt.change)}}
		err := driver(f).Scale(t.Context(), 2, nil)
		if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), tt.want) || len(f.updates) != 0 {
			t.Errorf("%s: %v, updates %v", tt.name, err, f.updates)
		}
	}
	for _, image := range []string{"api:1", "host:5000/api:1", "api:1@sha256:" + strings.Repeat("0", 64), "api@sha256:" + strings.Repeat("0", 64)} {
		if got := tagged(image); got != image {
			t.Errorf("%s is written as %s", image, got)
		}
	}
}

func TestNoSuchService(t *testing.T) {
	d := driver(&fake{services: []swarm.Service{replicated("api-v2", 1)}}) // the engine's filter takes what begins so
	if _, err := d.List(t.Context()); err == nil || !strings.Contains(err.Error(), `there is no Swarm service "api"`) {
		t.Errorf("%v", err)
	}
	if err := d.Scale(t.Context(), 1, nil); err == nil || errors.Is(err, scaler.ErrStart) {
		t.Errorf("%v", err)
	}
}

func TestServiceOfTheOwnStack(t *testing.T) {
	f := &fake{services: []swarm.Service{replicated("api", 1), replicated("shop_api", 1, func(s *swarm.Service) {
		s.Spec.Labels = map[string]string{"com.docker.stack.namespace": "shop"}
	})}}
	d := New(f, Options{Upstream: "api", Service: "api", Stack: "shop", Log: slog.New(slog.DiscardHandler)})
	if err := d.Scale(t.Context(), 2, nil); err != nil || f.count() != 1 {
		t.Errorf("%v, the other one has %d replicas", err, f.count())
	}
}

// A number that somebody else set is left alone for a while, or until sluice's decision changes.
func TestSomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{services: []swarm.Service{replicated("api", 2)}}
		d := driver(f)
		scale := func(n int, want uint64) {
			t.Helper()
			if err := d.Scale(t.Context(), n, nil); err != nil || f.count() != want {
				t.Errorf("%v, %d replicas, want %d", err, f.count(), want)
			}
		}
		scale(3, 3) // what was there before us is nobody's wish
		f.set(5)
		if _, err := d.List(t.Context()); err != nil {
			t.Fatal(err)
		}
		scale(3, 5)
		if notes := d.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "from 3 to 5 replicas") {
			t.Errorf("%v", notes)
		}
		time.Sleep(respect - time.Second)
		scale(3, 5)
		time.Sleep(time.Second)
		scale(3, 3)
		if notes := d.Notes(); notes != nil {
			t.Errorf("%v", notes)
		}
		f.set(1)
		scale(3, 1)
		scale(4, 4)
	})
}

// The roll-back of an update must go back to what was before the update.
func TestUpdateUnderWay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		state  swarm.UpdateState
		action string
		held   bool
	}{
		{"rolled back if it fails", swarm.UpdateStateUpdating, swarm.UpdateFailureActionRollback, true},
		{"paused if it fails", swarm.UpdateStateUpdating, swarm.UpdateFailureActionPause, false},
		{"rolling back", swarm.UpdateStateRollbackStarted, swarm.UpdateFailureActionPause, true},
		{"over", swarm.UpdateStateCompleted, swarm.UpdateFailureActionRollback, false},
	} {
		f := &fake{services: []swarm.Service{replicated("api", 1, func(s *swarm.Service) {
			s.UpdateStatus, s.Spec.UpdateConfig = &swarm.UpdateStatus{State: tt.state}, &swarm.UpdateConfig{FailureAction: tt.action}
		})}}
		d := driver(f)
		if err := d.Scale(t.Context(), 2, nil); err != nil || (f.count() == 1) != tt.held || (len(d.Notes()) == 1) != tt.held {
			t.Errorf("%s: %v, %d replicas, notes %v", tt.name, err, f.count(), d.Notes())
		}
	}
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{services: []swarm.Service{replicated("api", 1)}, nodes: []swarm.Node{{ID: "lost", Status: swarm.NodeStatus{State: swarm.NodeStateDown}}}}
		d := driver(f)
		add := func(id, node string, wanted, is swarm.TaskState, code int, why string) {
			f.tasks = append(f.tasks, swarm.Task{
				ID: id, NodeID: node, Slot: 3, DesiredState: wanted, Meta: swarm.Meta{CreatedAt: time.Now()},
				Status: swarm.TaskStatus{State: is, Err: why, ContainerStatus: &swarm.ContainerStatus{ExitCode: code}},
			})
		}
		list := func() string {
			t.Helper()
			replicas, err := d.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, r := range replicas {
				fmt.Fprintf(&b, "%s %s %s\n", r.ID, r.State, r.Reason)
			}
			return b.String()
		}
		add("long-since-failed", "n", swarm.TaskStateShutdown, swarm.TaskStateFailed, 1, "")
		if got := list(); got != "" {
			t.Errorf("failed before us: %s", got)
		}
		add("one", "n", swarm.TaskStateRunning, swarm.TaskStateRunning, 0, "")
		add("two", "n", swarm.TaskStateRunning, swarm.TaskStatePending, 0, "no suitable node")
		add("three", "n", swarm.TaskStateReady, swarm.TaskStateReady, 0, "")
		add("four", "n", swarm.TaskStateRemove, swarm.TaskStateRunning, 0, "")
		add("five", "n", swarm.TaskStateShutdown, swarm.TaskStateShutdown, 0, "")
		add("six", "n", swarm.TaskStateShutdown, swarm.TaskStateFailed, 137, "task: non-zero exit (137)")
		add("seven", "n", swarm.TaskStateShutdown, swarm.TaskStateRejected, 0, "No such image: x")
		add("eight", "n", swarm.TaskStateShutdown, swarm.TaskStateComplete, 0, "")
		add("nine", "lost", swarm.TaskStateShutdown, swarm.TaskStateRunning, 0, "")
		add("a-very-long-identifier", "n", swarm.TaskStateRunning, swarm.TaskStateStarting, 0, "")
		live := "one running \ntwo starting \nthree starting \nfour stopping \n"
		failed := "six failed exit code 137: task: non-zero exit (137)\nseven failed rejected by its node: No such image: x\neight failed ended without being told to (exit code 0)\n"
		if got := list(); got != live+failed+"a-very-long- starting \n" {
			t.Errorf("%s", got)
		}
		time.Sleep(failureShown + time.Second)
		if got := list(); got != live+"a-very-long- starting \n" {
			t.Errorf("later: %s", got)
		}
	})
}
