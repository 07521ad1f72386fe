package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// composeProgram is a version of Compose; the second is built by deploy/docker/compose-v2.sh.
func composeProgram(t *testing.T, version string) string {
	t.Helper()
	program := "docker-compose"
	if version == "v2" {
		cache := cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(os.Getenv("HOME"), ".cache"))
		program = cmp.Or(os.Getenv("SLUICE_COMPOSE_V2"), filepath.Join(cache, "sluice", "compose", cmp.Or(os.Getenv("COMPOSE_VERSION"), "v2.40.3"), "docker-compose"))
	}
	_, err := exec.LookPath(program)
	requireEngine(t, map[string]string{"v1": "compose", "v2": "compose-v2"}[version], err)
	return program
}

// The commands of Compose go on working while sluice scales one of its services. A number that `up` sets back is left for a
// while, and said; a service that must not be cloned is not, and that is said too.
func TestComposeBesideSluice(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			program := composeProgram(t, version)
			d, owner := docker(t)
			image, folder := d.image(owner), t.TempDir()
			service := fmt.Sprintf("image: %s\n    command: [demo-backend, --addr, \"0.0.0.0:8000\"]\n    expose: [\"8000\"]\n", image)
			file := "version: \"2.4\"\nservices:\n  api:\n    " + service + "  risky:\n    " + service + "    cap_add: [NET_ADMIN]\n"
			if err := os.WriteFile(filepath.Join(folder, "docker-compose.yml"), []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			compose := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(program, append([]string{"-p", owner}, args...)...)
				cmd.Dir = folder
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("compose %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			project := "com.docker.compose.project=" + owner
			t.Cleanup(func() {
				for _, id := range d.containers(project, "{{.ID}}") {
					_, _ = d.try("rm", "-f", id)
				}
				_, _ = d.try("network", "rm", owner+"_default")
			})
			api := func() []string {
				return d.containers(project, `{{if eq (.Label "com.docker.compose.service") "api"}}{{.ID}}{{end}}`)
			}
			compose("up", "-d")
			s := start(t, fmt.Sprintf(`
log.access = "off"
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
path = "/risky"
upstream = "risky"
[[route]]
upstream = "api"
[upstream.api]
service = { name = "api", port = 8000 }
scale = { min = 1, max = 4, queued_per_replica = 100, cooldown_down = "1s" }
[upstream.risky]
service = { name = "risky", port = 8000 }
scale = { min = 2, max = 2 }
`, owner, d.socket()))
			s.waitReplicas("api", 1, 60*time.Second)
			within(t, 30*time.Second, "the status says what is not cloned", func() bool {
				why := s.upstream("risky").Failure
				return strings.Contains(why, "is not cloned: it has added capabilities (") && strings.Contains(why, "NET_ADMIN")
			})
			s.pin("api", 3)
			s.waitReplicas("api", 3, 60*time.Second)
			before := api()
			for _, id := range before {
				if !strings.Contains(compose("ps", "-q", "api"), id[:12]) {
					t.Errorf("ps does not show %s", id)
				}
			}
			compose("logs", "api")
			compose("up", "-d", "--scale", "api=3")
			if now := api(); fmt.Sprint(now) != fmt.Sprint(before) {
				t.Errorf("up --scale api=3 made %v of %v", now, before)
			}
			wait := load(t, "--rate", "20", "--duration", "15s", s.url)
			compose("up", "-d")
			within(t, 15*time.Second, "the status says that the number was set back", s.noted("api", "somebody else set the number of replicas from 3 to 1"))
			for begun := time.Now(); time.Since(begun) < 8*time.Second; time.Sleep(200 * time.Millisecond) {
				if n := len(api()); n != 1 {
					t.Fatalf("%d containers, %s after up had set the number back to 1", n, time.Since(begun))
				}
			}
			wait().lostNothing(t)
			s.pin("api", 2)
			s.waitReplicas("api", 2, 60*time.Second)
			if n := len(d.containers(project, "{{.ID}}")); n != 3 {
				t.Errorf("%d containers, want two of api and one of risky", n)
			}
			s.signal(syscall.SIGTERM)
			s.exitCode(15 * time.Second)
			compose("down", "-t", "2")
			if left := d.containers(project, "{{.ID}}"); len(left) > 0 {
				t.Errorf("down left %v", left)
			}
		})
	}
}
