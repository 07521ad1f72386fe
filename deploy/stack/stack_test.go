// Package stack_test holds together what the files of the stack say of the same things.
package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"sluice/config"
)

// file is as much of a Compose file as of a stack's: both say it alike.
type file struct {
	Services map[string]struct {
		Image    string
		Networks any
		Deploy   struct{ Replicas int }
	}
}

// TestFilesAgree: each upstream of the one configuration is a service of each platform under its own name, callers
// inside find sluice under every name that a route is for, and what stands in for an image answers where that does.
func TestFilesAgree(t *testing.T) {
	cfg, err := config.Load("config.toml")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range cfg.Routes {
		if r.Listen != "" {
			names = append(names, r.Host...)
		}
	}
	slices.Sort(names)
	want := append(slices.Collect(maps.Keys(cfg.Upstreams)), "sluice")
	slices.Sort(want)
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for name, u := range cfg.Upstreams {
		service := u.Discovery.Service
		if service == nil || service.Name != name {
			t.Fatalf("upstream %s has the service %+v", name, service)
		}
		if u.Balancer.MaxConns == 0 || u.Balancer.Breaker == nil {
			t.Errorf("%s: max_conns %d, breaker %v", name, u.Balancer.MaxConns, u.Balancer.Breaker)
		}
		_, stage, _ := strings.Cut(string(dockerfile), " AS "+name+"\n")
		stage, _, _ = strings.Cut(stage, "\nFROM ")
		for _, words := range []string{fmt.Sprintf("\nEXPOSE %d\n", service.Port), fmt.Sprintf("%q", fmt.Sprintf("0.0.0.0:%d", service.Port)), fmt.Sprintf(`"--health-path", %q`, u.Discovery.HealthCheck.Path)} {
			if !strings.Contains(stage, words) {
				t.Errorf("Dockerfile, %s: no %s", name, strings.TrimSpace(words))
			}
		}
	}
	for _, path := range []string{"compose.yaml", "swarm.yml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var f file
		if err := yaml.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(f.Services)); !slices.Equal(got, want) {
			t.Errorf("%s: services %v, want %v", path, got, want)
		}
		networks, _ := json.Marshal(f.Services["sluice"].Networks)
		var network struct{ App struct{ Aliases []string } }
		if err := json.Unmarshal(networks, &network); err != nil {
			t.Fatal(err)
		}
		aliases := slices.Sorted(slices.Values(network.App.Aliases))
		if !slices.Equal(aliases, names) {
			t.Errorf("%s: sluice is %v inside, the routes are for %v", path, aliases, names)
		}
		for name, u := range cfg.Upstreams {
			s := f.Services[name]
			if s.Image != name+":${DEMO_TAG:-demo}" {
				t.Errorf("%s: %s has the image %s", path, name, s.Image)
			}
			least := 1
			if u.Scale != nil {
				least = u.Scale.Min
			}
			if path == "swarm.yml" && s.Deploy.Replicas != least {
				t.Errorf("%s: %s begins with %d replicas, min is %d", path, name, s.Deploy.Replicas, least)
			}
		}
	}
}

// Compose takes a container for gone that somebody else is removing, and the engine refuses to remove it twice: down waits
// for it.
func TestDownWaitsForAnotherRemoval(t *testing.T) {
	dir := t.TempDir()
	// One container, which the first removal finds being removed, and which is gone then.
	docker := `#!/bin/sh
case "$1" in
ps) [ -e "$STATE/asked" ] || echo replica ;;
rm) touch "$STATE/asked"; echo "Error response from daemon: removal of container replica is already in progress" >&2; exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(docker), 0o755); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	cmd := exec.Command("../deploy.sh", "down")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "STATE="+dir, "PLATFORM=compose", "COMPOSE=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "asked")); err != nil {
		t.Errorf("the container is left as it was: %v\n%s", err, out)
	}
}
