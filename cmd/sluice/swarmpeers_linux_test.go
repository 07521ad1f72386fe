package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/admin"
	discoverydocker "sluice/discovery/docker"
	"sluice/peers"
	"sluice/peers/storetest"
	peersswarm "sluice/peers/swarm"
)

// serviceName is a service that has been found.
type serviceName string

func (s serviceName) Name() string { return string(s) }

// TestSwarmPeers: the record of a lease, and gateways that are the tasks of one service, on a swarm of the test's own.
func TestSwarmPeers(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	n := newSwarm(t)
	cli, err := discoverydocker.NewClient(n.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	t.Run("lease", func(t *testing.T) {
		storetest.Check(t, func() peers.Store { return peersswarm.NewStore(cli, serviceName("conformance")) })
		store := peersswarm.NewStore(cli, serviceName("conformance"))
		_, version, err := store.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n.run("config", "rm", "conformance-scaler")
		if _, err := store.Update(t.Context(), peers.Record{Holder: "x"}, version); !errors.Is(err, peers.ErrNoRecord) {
			t.Errorf("a record that was removed: %v", err)
		}
		if _, _, err := peersswarm.NewStore(cli, serviceName("")).Get(t.Context()); err == nil || errors.Is(err, peers.ErrNoRecord) {
			t.Errorf("no service yet: %v", err)
		}
	})
	t.Run("gateways", func(t *testing.T) { swarmGateways(t, n.with(t)) })
	t.Run("stack", func(t *testing.T) { swarmPeersStack(t, n.with(t)) })
}

// gatewaysOf asks every container of a service that runs; by its short ID, the start of the gateway's.
func (n *swarmNode) gatewaysOf(service string) map[string]admin.PeersStatus {
	all := map[string]admin.PeersStatus{}
	for _, id := range strings.Fields(n.run("ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service)) {
		out, err := n.try("exec", id, "/sluice", "status", "--json")
		var st admin.Status
		if err == nil && json.Unmarshal([]byte(out), &st) == nil && st.Peers != nil {
			all[id] = *st.Peers
		}
	}
	return all
}

// scaling is the container whose gateway scales; two are a failure.
func scaling(t *testing.T, all map[string]admin.PeersStatus) (id string) {
	t.Helper()
	for container, st := range all {
		if !st.Scales {
			continue
		}
		if id != "" {
			t.Fatalf("two scale: %+v", all)
		}
		id = container
	}
	return id
}

// agreed reports whether n gateways all see each other and the same scaler.
func agreed(t *testing.T, all map[string]admin.PeersStatus, n int) bool {
	t.Helper()
	scaler := scaling(t, all)
	for _, st := range all {
		if st.Gateways != n || scaler == "" || !strings.HasPrefix(st.Scaler, scaler) {
			return false
		}
	}
	return len(all) == n
}

func swarmGateways(t *testing.T, n *swarmNode) {
	n.service(t, "api")
	folder := t.TempDir()
	for name, text := range map[string]string{
		"token": "0123456789abcdef0123456789abcdef",
		"config.toml": `
listen = [":8080"]
pid = "off"
log.access = "off"
peers = { service = "gate", listen = ":9903", token = "file:/run/secrets/gate-token" }
[[route]]
upstream = "api"
[upstream.api]
service = { name = "api", port = 8000 }
max_conns = 4
health_check = { path = "/healthz", interval = "300ms" }
scale = { min = 1, max = 3, queued_per_replica = 4, cooldown_down = "2s" }
`} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.run("secret", "create", "gate-token", filepath.Join(folder, "token"))
	n.run("config", "create", "gate-config", filepath.Join(folder, "config.toml"))
	n.run("service", "create", "-d", "--no-resolve-image", "--endpoint-mode", "dnsrr", "--network", "app", "--restart-delay", "1s", "--name", "gate", "--replicas", "3",
		"--secret", "gate-token", "--config", "source=gate-config,target=/etc/sluice/config.toml",
		"--mount", "type=bind,src="+strings.TrimPrefix(n.host, "unix://")+",dst=/var/run/docker.sock", n.image, "run", "-c", "/etc/sluice/config.toml")
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := n.try("service", "logs", "gate")
			t.Logf("the gateways said:\n%s", said)
		}
		_, _ = n.try("service", "rm", "gate")
	})
	var all map[string]admin.PeersStatus
	within(t, 60*time.Second, "three gateways, one of which scales", func() bool { all = n.gatewaysOf("gate"); return agreed(t, all, 3) })
	scaler := scaling(t, all)
	other := ""
	for id := range all {
		if id != scaler {
			other = id
		}
	}
	if held := n.run("config", "inspect", "--format", `{{index .Spec.Labels "sluice.lease.holder"}}`, "gate-scaler"); held != all[scaler].Gateway {
		t.Errorf("the lease is held by %s, but %s scales", held, all[scaler].Gateway)
	}

	// The host reaches a container on the bridge of overlay networks.
	addr := n.run("network", "inspect", "docker_gwbridge", "--format", `{{range $id, $c := .Containers}}{{$id}} {{$c.IPv4Address}}{{"\n"}}{{end}}`)
	_, addr, _ = strings.Cut(addr[strings.Index(addr, other):], " ")
	addr, _, _ = strings.Cut(addr, "/")
	args := append(n.wrap(), binary(t, "bench"), "load", "--json", "--concurrency", "20", "--duration", "16s", fmt.Sprintf("http://%s:8080/", addr))
	loading := exec.Command(args[0], args[1:]...)
	var out strings.Builder
	loading.Stdout = &out
	if err := loading.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "three replicas", func() bool { return len(n.tasks("api")) == 3 })
	n.run("kill", scaler)
	killed := time.Now()
	within(t, 10*time.Second, "another scales", func() bool {
		now := scaling(t, n.gatewaysOf("gate"))
		return now != "" && now != scaler
	})
	t.Logf("another scales %s after one was killed", time.Since(killed).Round(100*time.Millisecond))
	within(t, 40*time.Second, "three gateways again", func() bool { return agreed(t, n.gatewaysOf("gate"), 3) })
	_ = loading.Wait() // its exit code says what the ledger says
	var l ledger
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	l.lostNothing(t)
	within(t, 40*time.Second, "one replica", func() bool {
		tasks := len(n.tasks("api"))
		if tasks > 3 {
			t.Fatalf("%d tasks", tasks)
		}
		return tasks == 1
	})
}

// swarmPeersStack brings the shipped variant up, as a user would: on a swarm of one manager it has one gateway.
func swarmPeersStack(t *testing.T, n *swarmNode) {
	dockerfile, err := os.ReadFile("../../deploy/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	image := n.image + "-several"
	n.build(image, string(dockerfile))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.run("secret", "create", "sluice-peers-token", token)
	info, err := os.Stat(strings.TrimPrefix(n.host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	deploy := exec.Command("docker", "-H", n.host, "stack", "deploy", "--resolve-image", "never", "-c", "../../deploy/swarm/stack.yml", "-c", "../../deploy/swarm/peers.yml", "several")
	deploy.Env = append(os.Environ(), "SLUICE_IMAGE="+image, "DOCKER_SOCKET="+strings.TrimPrefix(n.host, "unix://"), "SLUICE_CONFIG_NAME=several-config",
		fmt.Sprintf("DOCKER_GID=%d", info.Sys().(*syscall.Stat_t).Gid))
	if out, err := deploy.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := n.try("service", "logs", "several_sluice")
			t.Logf("the gateway said:\n%s", said)
		}
		_, _ = n.try("stack", "rm", "several")
	})
	within(t, 40*time.Second, "it scales", func() bool { return agreed(t, n.gatewaysOf("several_sluice"), 1) })
	if held := n.run("config", "inspect", "--format", `{{index .Spec.Labels "sluice.lease.holder"}}`, "several_sluice-scaler"); held == "" {
		t.Error("nobody holds the lease")
	}
}
