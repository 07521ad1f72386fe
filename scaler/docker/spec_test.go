package docker

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"sluice/scaler"
)

func TestDeclare(t *testing.T) {
	o := Options{Owner: "me", Upstream: "llm", Container: &scaler.ContainerConfig{
		Image: "ollama", Command: []string{"serve"}, Env: map[string]string{"B": "2", "A": "1"}, Networks: []string{"front", "back"},
		Mounts: []string{"models:/models:ro", "/srv/data:/data"}, Memory: 8 << 30, CPUs: 1.5, GPUs: -1, Port: 11434, StopGrace: 2500 * time.Millisecond,
	}}
	s, err := declare(o, blueprint{hash: "h", image: "sha256:1"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if s.name != "sluice-me-llm-2" || s.config.Image != "ollama" || !slices.Equal(s.config.Cmd, []string{"serve"}) || !slices.Equal(s.config.Env, []string{"A=1", "B=2"}) || *s.config.StopTimeout != 3 {
		t.Errorf("%s: %+v, stop timeout %d", s.name, s.config, *s.config.StopTimeout)
	}
	if _, ok := s.config.ExposedPorts["11434/tcp"]; !ok {
		t.Errorf("ports %v", s.config.ExposedPorts)
	}
	want := map[string]string{"sluice.owner": "me", "sluice.replica.upstream": "llm", "sluice.replica.ordinal": "2", "sluice.replica.hash": "h", "sluice.replica.image": "sha256:1"}
	if !reflect.DeepEqual(s.config.Labels, want) {
		t.Errorf("labels %v", s.config.Labels)
	}
	gpus := []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	if h := s.host; h.Memory != 8<<30 || h.MemorySwap != 8<<30 || h.NanoCPUs != 15e8 || !reflect.DeepEqual(h.DeviceRequests, gpus) || h.NetworkMode != "front" {
		t.Errorf("host %+v", h)
	}
	mounts := []mount.Mount{{Type: mount.TypeVolume, Source: "models", Target: "/models", ReadOnly: true}, {Type: mount.TypeBind, Source: "/srv/data", Target: "/data"}}
	if !reflect.DeepEqual(s.host.Mounts, mounts) {
		t.Errorf("mounts %+v", s.host.Mounts)
	}
	if first := s.firstNetwork().EndpointsConfig; len(s.networks) != 2 || len(first) != 1 || first["front"] == nil {
		t.Errorf("networks %+v, in create %v", s.networks, first)
	}

	o.Container = &scaler.ContainerConfig{Image: "x"}
	if s, err = declare(o, blueprint{}, 0); err != nil || s.firstNetwork() != nil || s.host.DeviceRequests != nil || s.host.Memory != 0 || s.config.ExposedPorts != nil {
		t.Errorf("of the bare minimum: %+v, %v", s, err)
	}
}

func TestCheckMounts(t *testing.T) {
	for _, bad := range []string{"", "x", ":/x", "a:b", "a:/b:wo", "./here:/there", "a:/b:ro:z"} {
		if Check(&scaler.ContainerConfig{Mounts: []string{bad}}) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"one\n":             "one",
		"one\r\ntwo\n\n":    "one | two",
		"\x1b[31mred\x00\n": "[31mred",
	} {
		if got := oneLine(in, 80); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := oneLine("0123456789012345678901z", 8); got != "…5678901z" {
		t.Errorf("cut to %q", got)
	}
	if got := oneLine("ääää", 3); got != "…ä" {
		t.Errorf("cut inside a letter: %q", got)
	}
}
