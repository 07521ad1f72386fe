package swarm

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"

	"sluice/balancer"
)

// latest keeps the last set that a source sent.
type latest struct {
	mu   sync.Mutex
	sets int
	last []balancer.ServerSpec
}

func (l *latest) get() (string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for _, s := range l.last {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " "), l.sets
}

// follow runs a source of the service api until the test ends.
func follow(t *testing.T, f *fake) (*Source, *latest) { return followService(t, f, "api") }

func followService(t *testing.T, f *fake, name string) (*Source, *latest) {
	t.Helper()
	src, got := NewSource(f, Query{Service: name}, slog.New(slog.DiscardHandler)), &latest{}
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan []balancer.ServerSpec), make(chan struct{})
	go func() {
		defer close(done)
		src.Run(ctx, out)
	}()
	go func() {
		for {
			select {
			case specs := <-out:
				got.mu.Lock()
				got.sets, got.last = got.sets+1, specs
				got.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return src, got
}

func twoTasks() *fake {
	f := &fake{services: []swarm.Service{service("api")}, tasks: []swarm.Task{task("t1"), task("t2")}, nodes: []swarm.Node{node("here", swarm.NodeStateReady)}}
	f.onBridge("t1", "172.18.0.3")
	f.onBridge("t2", "172.18.0.4")
	return f
}

func TestTaskIsOutAtTheSignalOfItsContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := twoTasks()
		src, got := follow(t, f)
		time.Sleep(time.Second)
		if ids, _ := got.get(); ids != "t1 t2" {
			t.Fatal(ids)
		}
		f.send(events.ContainerEventType, events.ActionKill, map[string]string{labelTaskID: "t1", "signal": "1"})
		synctest.Wait()
		if ids, _ := got.get(); ids != "t1 t2" {
			t.Errorf("after SIGHUP: %s", ids)
		}
		f.change(func() { f.hung = true }) // no listing tells
		f.send(events.ContainerEventType, events.ActionKill, map[string]string{labelTaskID: "t1", "signal": "15"})
		synctest.Wait()
		if ids, _ := got.get(); ids != "t2" {
			t.Errorf("after SIGTERM: %s", ids)
		}
		if notes := src.Notes(); len(notes) != 1 || notes[0].Why != "being stopped (signal 15)" || notes[0].Name != "api.1" {
			t.Errorf("%+v", notes)
		}
	})
}

func TestTaskToldToStopIsOutWithTheEventOfItsService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := twoTasks()
		_, got := follow(t, f)
		time.Sleep(10 * time.Second)
		f.send(events.ServiceEventType, events.ActionUpdate, nil)
		time.Sleep(100 * time.Millisecond) // the manager is slower than its event
		f.change(func() { f.tasks[1].DesiredState = swarm.TaskStateRemove })
		time.Sleep(2 * listBusy)
		if ids, _ := got.get(); ids != "t1" {
			t.Errorf("%s", ids)
		}
	})
}

func TestListingFindsWhatNoEventTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := twoTasks()
		_, got := follow(t, f)
		time.Sleep(time.Minute)
		before := f.listed()
		time.Sleep(time.Minute)
		if n := f.listed() - before; n < 20 || n > 60 {
			t.Errorf("%d listings in a quiet minute", n)
		}
		f.change(func() { f.nodes[0].Status.State = swarm.NodeStateDown })
		time.Sleep(4 * time.Second)
		if ids, _ := got.get(); ids != "" {
			t.Errorf("with their node down: %s", ids)
		}
		f.change(func() { f.nodes[0].Status.State = swarm.NodeStateReady })
		time.Sleep(4 * time.Second)
		if ids, _ := got.get(); ids != "t1 t2" {
			t.Errorf("with their node back: %s", ids)
		}
	})
}

func TestManagerThatFailsLeavesTheSet(t *testing.T) {
	for _, tt := range []struct {
		name, words string
		fail        func(*fake)
	}{
		{"error", "no leader", func(f *fake) { f.err = errors.New("the swarm has no leader") }},
		{"hang", "no answer within 5s; the tasks as of", func(f *fake) { f.hung = true }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := twoTasks()
				src, got := follow(t, f)
				time.Sleep(time.Second)
				f.change(func() { tt.fail(f); f.tasks = nil })
				time.Sleep(time.Minute)
				if ids, sets := got.get(); ids != "t1 t2" || sets != 1 {
					t.Errorf("%s after %d sets", ids, sets)
				}
				if notes := src.Notes(); len(notes) != 1 || !strings.Contains(notes[0].Why, tt.words) {
					t.Errorf("%+v", notes)
				}
				f.change(func() { f.err, f.hung = nil, false })
				time.Sleep(10 * time.Second)
				if ids, _ := got.get(); ids != "" {
					t.Errorf("when it answers again: %s", ids)
				}
			})
		})
	}
}

func TestServiceThatIsGoneHasNoServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := twoTasks()
		src, got := follow(t, f)
		time.Sleep(time.Second)
		f.change(func() { f.services = nil })
		f.send(events.ServiceEventType, events.ActionRemove, nil)
		time.Sleep(time.Second)
		if ids, sets := got.get(); ids != "" || sets != 2 {
			t.Errorf("%s after %d sets", ids, sets)
		}
		if notes := src.Notes(); len(notes) != 1 || notes[0].Why != `there is no Swarm service "api"` {
			t.Errorf("%+v", notes)
		}
	})
}

// Sources share a hub, which lists the tasks of followed services only: a new one waits for its own.
func TestSourceThatJoinsWaitsForItsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := twoTasks()
		f.services = append(f.services, service("web"), service("api-v2"))
		f.tasks = append(f.tasks, task("w1", func(t *swarm.Task) { t.ServiceID = "id-of-web" }))
		f.onBridge("w1", "172.18.0.5")
		_, api := follow(t, f)
		time.Sleep(time.Second)
		_, web := followService(t, f, "web")
		time.Sleep(time.Second)
		if ids, sets := web.get(); ids != "w1" || sets != 1 {
			t.Errorf("web: %s after %d sets", ids, sets)
		}
		if ids, sets := api.get(); ids != "t1 t2" || sets != 1 {
			t.Errorf("api: %s after %d sets", ids, sets)
		}
		if n := len(hubs); n != 1 || f.open() != 1 {
			t.Errorf("%d hubs, %d event streams", n, f.open())
		}
	})
}
