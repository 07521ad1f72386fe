package docker

import (
	"regexp"
	"testing"
	"time"

	"sluice/scaler"
)

func TestNames(t *testing.T) {
	if got := name("sluice", "api", 3); got != "sluice-sluice-api-3" {
		t.Error(got)
	}
	allowed := regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`) // the engine's own rule
	seen := make(map[string]string)
	for _, s := range []string{"a-b", "a/b", "a b", "", "ü", "a.b", "A_b"} {
		n := name("x", s, 0)
		if !allowed.MatchString(n) {
			t.Errorf("%q gives %q, which the engine refuses", s, n)
		}
		if other, ok := seen[n]; ok {
			t.Errorf("%q and %q are both %q", s, other, n)
		}
		seen[n] = s
	}
}

func TestHashOf(t *testing.T) {
	base := func() scaler.ContainerConfig {
		return scaler.ContainerConfig{Image: "a", Command: []string{"x"}, Env: map[string]string{"A": "1", "B": "2"}, StopGrace: time.Second}
	}
	want := hashOf(base())
	for range 20 { // maps have no order
		if got := hashOf(base()); got != want {
			t.Errorf("the same declaration: %s and %s", got, want)
		}
	}
	for what, change := range map[string]func(*scaler.ContainerConfig){
		"image":   func(c *scaler.ContainerConfig) { c.Image = "b" },
		"command": func(c *scaler.ContainerConfig) { c.Command = []string{"x", "y"} },
		"env":     func(c *scaler.ContainerConfig) { c.Env["B"] = "3" },
		"memory":  func(c *scaler.ContainerConfig) { c.Memory = 1 },
		"mounts":  func(c *scaler.ContainerConfig) { c.Mounts = []string{"v:/v"} },
	} {
		c := base()
		if change(&c); hashOf(c) == want {
			t.Errorf("another %s, the same hash", what)
		}
	}
}

func TestReserved(t *testing.T) {
	for key, want := range map[string]bool{
		LabelOwner: true, LabelUpstream: true, LabelHash: true,
		"sluice.upstream": false, "sluice.host": false, "sluice.scale.max": false, "sluice.route.owner.host": false, "sluice.ownership": false,
	} {
		if Reserved(key) != want {
			t.Errorf("%s: %v", key, !want)
		}
	}
}
