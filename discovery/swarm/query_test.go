package swarm

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

func TestServers(t *testing.T) {
	api := Query{Service: "api"}
	// one is a host with the service "api" and one task of it, as changed.
	one := func(change ...func(*swarm.Task)) *fake {
		f := &fake{services: []swarm.Service{service("api")}, tasks: []swarm.Task{task("t1", change...)}, nodes: []swarm.Node{node("here", swarm.NodeStateReady), node("lost", swarm.NodeStateDown)}}
		f.onBridge("t1", "172.18.0.3")
		return f
	}
	with := func(f *fake, do func(*swarm.Service)) *fake {
		do(&f.services[0])
		return f
	}
	state := func(wanted, is swarm.TaskState) func(*swarm.Task) {
		return func(t *swarm.Task) {
			t.DesiredState, t.Status.State, t.Status.Message = wanted, is, "the message"
		}
	}
	elsewhere := func(t *swarm.Task) { t.NodeID, t.Status.ContainerStatus.ContainerID = "there", "far" }
	published := func(t *swarm.Task) {
		t.Status.PortStatus.Ports = []swarm.PortConfig{{Protocol: swarm.PortConfigProtocolTCP, TargetPort: 8000, PublishedPort: 30123, PublishMode: swarm.PortConfigPublishModeHost}}
	}
	inside, apart := map[string]string{"APP": "app"}, map[string]string{"OTHER": "other"}
	for _, tt := range []struct {
		name  string
		query Query
		fake  *fake
		own   map[string]string
		want  string // "addr" or what the note says
	}{
		{"on the host, over the bridge", api, one(), nil, "172.18.0.3:8000"},
		{"in a container, over the overlay", api, one(), inside, "10.0.1.2:8000"},
		{"in a container, of another node", api, one(elsewhere), inside, "10.0.1.2:8000"},
		{"in a container, nothing shared", api, one(), apart, "no network shared with sluice (it is on app; sluice is on other)"},
		{"on the host, of another node", api, one(elsewhere), nil, "it runs on the node there, and sluice outside of a container reaches only tasks of its own node"},
		{"on the host, internal network", api, func() *fake { f := one(); f.bridge = network.Inspect{}; return f }(), nil, "it has no address on docker_gwbridge that the host reaches (it is on app)"},
		{"default bridge", api, func() *fake {
			f := one(func(t *swarm.Task) { t.NetworksAttachments = nil })
			f.bridge = network.Inspect{}
			f.local[0].NetworkSettings = &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{"bridge": {IPAddress: "172.17.0.9"}}}
			return f
		}(), nil, "172.17.0.9:8000"},
		{"host port of another node", api, one(elsewhere, published, func(t *swarm.Task) { t.NodeID = "here" }), nil, "10.99.0.2:30123"},
		{"host port from a container", api, one(published), apart, "10.99.0.2:30123"},
		{"named network", Query{Service: "api", Network: "app"}, one(), inside, "10.0.1.2:8000"},
		{"network of the stack", Query{Service: "api", Stack: "shop", Network: "app"}, one(func(t *swarm.Task) { t.NetworksAttachments[0].Network.Spec.Name = "shop_app" }), inside, "10.0.1.2:8000"},
		{"not on the network", Query{Service: "api", Network: "back"}, one(), nil, `not on the network "back"`},
		{"network by label", api, with(one(), func(s *swarm.Service) { s.Spec.Labels[labelNetwork] = "back" }), nil, `not on the network "back"`},

		{"told to stop", api, one(state(swarm.TaskStateShutdown, swarm.TaskStateRunning)), nil, "told to stop (running, wanted: shutdown)"},
		{"to be removed", api, one(state(swarm.TaskStateRemove, swarm.TaskStateRunning)), nil, "told to stop (running, wanted: remove)"},
		{"starting", api, one(state(swarm.TaskStateRunning, swarm.TaskStateStarting)), nil, "starting: the message"},
		{"its turn has not come", api, one(state(swarm.TaskStateReady, swarm.TaskStateReady)), nil, "held back by Swarm until its turn (ready)"},
		{"no node", api, one(state(swarm.TaskStateRunning, swarm.TaskStatePending)), nil, "no node has taken it: the message"},
		{"failed this moment", api, one(state(swarm.TaskStateRunning, swarm.TaskStateFailed)), nil, "failed: the message"},
		{"history", api, one(state(swarm.TaskStateShutdown, swarm.TaskStateFailed)), nil, "the service has no tasks"},
		{"node down", api, one(func(t *swarm.Task) { t.NodeID = "lost" }), nil, "its node host-lost is down"},

		{"no service", Query{Service: "web"}, one(), nil, `there is no Swarm service "web"`},
		{"port of the query", Query{Service: "api", Port: 9}, one(), nil, "172.18.0.3:9"},
		{"bad label", api, with(one(), func(s *swarm.Service) { s.Spec.Labels[labelPort] = "http" }), nil, `label sluice.port: "http" is not a port`},
		{"no port", api, with(one(), func(s *swarm.Service) { s.Spec.Labels = nil }), nil, "say which one with port"},
		{"published port", api, with(one(), func(s *swarm.Service) {
			s.Spec.Labels, s.Spec.EndpointSpec = nil, &swarm.EndpointSpec{Ports: []swarm.PortConfig{{Protocol: swarm.PortConfigProtocolTCP, TargetPort: 81, PublishedPort: 80}}}
		}), nil, "172.18.0.3:81"},
		{"exposed port", api, func() *fake {
			f := with(one(), func(s *swarm.Service) { s.Spec.Labels = nil })
			f.local[0].Ports = []container.Port{{PrivatePort: 82, Type: "tcp"}, {PrivatePort: 53, Type: "udp"}}
			return f
		}(), nil, "172.18.0.3:82"},
		{"two exposed ports", api, func() *fake {
			f := with(one(), func(s *swarm.Service) { s.Spec.Labels = nil })
			f.local[0].Ports = []container.Port{{PrivatePort: 82, Type: "tcp"}, {PrivatePort: 81, Type: "tcp"}}
			return f
		}(), nil, "it exposes several ports (81 82)"},
	} {
		specs, notes := tt.query.servers(viewOf(t, tt.fake, tt.own))
		if len(specs) == 1 && len(notes) == 0 {
			if specs[0].Addr != tt.want || specs[0].ID != "t1" {
				t.Errorf("%s: %+v, want %s", tt.name, specs[0], tt.want)
			}
			continue
		}
		if len(specs) != 0 || len(notes) != 1 || !strings.Contains(notes[0].Why, tt.want) {
			t.Errorf("%s: %+v, %+v, want %s", tt.name, specs, notes, tt.want)
		}
	}
}

func TestServiceOfTheOwnStackGoesFirst(t *testing.T) {
	stack := func(s *swarm.Service) { s.Spec.Labels = map[string]string{labelStack: "shop"} }
	plain, own, forged := service("api"), service("shop_api", stack), service("shop_api")
	for _, tt := range []struct {
		name     string
		query    Query
		services []swarm.Service
		want     string
	}{
		{"in full", Query{Service: "api"}, []swarm.Service{plain, own}, "api"},
		{"of the stack", Query{Service: "api", Stack: "shop"}, []swarm.Service{plain, own}, "shop_api"},
		{"of the stack, in full", Query{Service: "shop_api", Stack: "shop"}, []swarm.Service{plain, own}, "shop_api"},
		{"of no stack", Query{Service: "api", Stack: "shop"}, []swarm.Service{plain}, "api"},
		{"of another stack", Query{Service: "api", Stack: "blog"}, []swarm.Service{own}, ""},
		{"only called so", Query{Service: "api", Stack: "shop"}, []swarm.Service{forged}, ""},
		{"no stack is no name", Query{Service: "api"}, []swarm.Service{service("_api")}, ""},
	} {
		name := ""
		if s := tt.query.find(tt.services); s != nil {
			name = s.Spec.Name
		}
		if name != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, name, tt.want)
		}
	}
}

func TestMarksEnd(t *testing.T) {
	begun := time.Now()
	v := &view{listed: begun, picture: picture{tasks: []swarm.Task{
		task("runs"), task("told", func(t *swarm.Task) { t.DesiredState = swarm.TaskStateShutdown }), task("died"),
	}}}
	ago := func(d time.Duration, asked bool) mark { return mark{why: "x", asked: asked, at: begun.Add(-d)} }
	for _, tt := range []struct {
		name string
		id   string
		mark mark
		kept bool
	}{
		{"survived a signal", "runs", ago(3*time.Minute, true), false},
		{"may yet heed it", "runs", ago(time.Minute, true), true},
		{"signal of Swarm", "told", ago(time.Hour, true), true},
		{"ended for good", "died", ago(time.Hour, false), true},
		{"no longer listed", "gone", ago(time.Second, false), false},
		{"newer than the listing", "gone", ago(-time.Second, false), true},
	} {
		marks := map[string]mark{tt.id: tt.mark}
		if kept := settle(marks, v); (len(kept) == 1) != tt.kept {
			t.Errorf("%s: %v", tt.name, kept)
		} else if !maps.Equal(marks, map[string]mark{tt.id: tt.mark}) {
			t.Errorf("%s: the old marks were changed", tt.name)
		}
	}
}
