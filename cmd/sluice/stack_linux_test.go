package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stack is the example of deploy/stack, brought up and driven by its own scripts on an engine.
type stack struct {
	t       *testing.T
	d       dockerEngine
	project string
	env     []string
	wrap    []string // what makes a command run where the engine's ports are
}

// newStack has images of its own on d, which go with it.
func newStack(t *testing.T, d dockerEngine, project, platform string, env ...string) *stack {
	t.Helper()
	image := project + "-sluice"
	folder := t.TempDir()
	program := must(t, func() ([]byte, error) { return os.ReadFile(binary(t, "sluice")) })
	dockerfile := must(t, func() ([]byte, error) { return os.ReadFile("../../deploy/docker/Dockerfile") })
	for file, content := range map[string][]byte{"sluice": program, "Dockerfile": dockerfile} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o755); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	s := &stack{t: t, d: d, project: project, env: append([]string{"PLATFORM=" + platform, "PROJECT=" + project, "SLUICE_IMAGE=" + image, "DEMO_TAG=" + project}, env...)}
	if d.host != "" {
		s.env = append(s.env, "DOCKER_HOST="+d.host)
	}
	t.Cleanup(func() {
		if out, err := s.try("deploy.sh", "down"); err != nil {
			t.Log(err, out)
		}
		for _, name := range strings.Fields(d.run("images", "--format", "{{.Repository}}:{{.Tag}}")) {
			if strings.HasSuffix(name, ":"+project) || strings.HasPrefix(name, image+":") {
				_, _ = d.try("rmi", "-f", name)
			}
		}
	})
	// Without a label of its own the stack of another test, built at the same time, would have the same layers under other
	// ids, the next build would take those, and Compose would find the images changed.
	d.run("build", "-q", "--label", "sluice.test="+project, "-t", image, folder)
	return s
}

// try runs one of the scripts as a user does.
func (s *stack) try(script string, args ...string) (string, error) {
	all := append(append(append([]string{}, s.wrap...), "../../deploy/"+script), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	s.t.Logf("%s %v: %s", script, args, time.Since(begun).Round(time.Second))
	return string(out), err
}

func (s *stack) run(script string, args ...string) string {
	s.t.Helper()
	out, err := s.try(script, args...)
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", script, args, err, out)
	}
	return out
}

// left is what the engine still has of the stack.
func (s *stack) left(label string) (left []string) {
	kinds := [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}, {"volume", "ls", "-q"}}
	if strings.Contains(label, "stack") {
		kinds = append(kinds, []string{"service", "ls", "-q"}, []string{"config", "ls", "-q"})
	}
	for _, kind := range kinds {
		for _, id := range strings.Fields(s.d.run(append(kind, "--filter", "label="+label+"="+s.project)...)) {
			left = append(left, fmt.Sprintf("%s %s", kind[0], id))
		}
	}
	if all := s.d.run("ps", "-aq", "--filter", "name="+s.project); all != "" {
		left = append(left, "containers "+all)
	}
	return left
}

// scales brings it up, drives load through it and takes it down.
func (s *stack) scales(label string) {
	s.t.Helper()
	if out := s.run("deploy.sh", "autoscale"); !strings.Contains(out, "front     http://127.0.0.1:") {
		s.t.Errorf("no URL:\n%s", out)
	}
	out := s.run("test-autoscaler.sh")
	s.t.Log("\n" + out)
	if !strings.HasSuffix(out, "PASS\n") {
		s.t.Error("it does not say PASS")
	}
	if out := s.run("deploy.sh", "status"); !strings.Contains(out, "sutazai-qdrant") || !strings.Contains(out, "UPSTREAM") {
		s.t.Errorf("status:\n%s", out)
	}
	s.run("deploy.sh", "down")
	if left := s.left(label); len(left) > 0 {
		s.t.Errorf("down left behind %v", left)
	}
}

func TestStackOnCompose(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	program := composeProgram(t, "v1")
	d, owner := docker(t)
	newStack(t, d, owner, "compose", "COMPOSE="+program, "SLUICE_PORT=0").scales("com.docker.compose.project")
}

// Version 2 brings the same file up, again beside what sluice has added, and takes it down.
func TestStackOnComposeV2(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	program := composeProgram(t, "v2")
	d, owner := docker(t)
	s := newStack(t, d, owner, "compose", "COMPOSE="+program, "SLUICE_PORT=0")
	running := func(service string) int {
		return len(strings.Fields(d.run("ps", "-q", "--filter", "label=com.docker.compose.project="+owner, "--filter", "label=com.docker.compose.service="+service)))
	}
	s.run("deploy.sh", "autoscale")
	within(t, 60*time.Second, "the least of every service: two of the backend and of ollama", func() bool {
		return running("sutazai-backend") == 2 && running("sutazai-ollama") == 2
	})
	before := d.run("ps", "-q", "--filter", "label=com.docker.compose.project="+owner)
	s.run("deploy.sh", "autoscale")
	if after := d.run("ps", "-q", "--filter", "label=com.docker.compose.project="+owner); after != before {
		t.Errorf("up again changed the containers from\n%s\nto\n%s", before, after)
	}
	s.run("deploy.sh", "down")
	if left := s.left("com.docker.compose.project"); len(left) > 0 {
		t.Errorf("down left behind %v", left)
	}
}

func TestStackOnSwarm(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	n := newSwarm(t)
	_, port, _ := net.SplitHostPort(freeAddrs(t, 1)[0])
	s := newStack(t, n.dockerEngine, "stack", "swarm", "SLUICE_PORT="+port)
	s.wrap = n.wrap()
	s.scales("com.docker.stack.namespace")
}
