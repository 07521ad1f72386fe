package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// node is a machine of its own, as far as the network goes, with one server on it.
type node struct {
	netns
	addr, gateway string
}

// newNode connects a node with the gateway's namespace and starts a demo backend there.
func newNode(t *testing.T, gateway netns, number int) node {
	t.Helper()
	n := node{netns: newNetns(t), addr: fmt.Sprintf("10.97.%d.2", number), gateway: fmt.Sprintf("10.97.%d.1", number)}
	link := fmt.Sprintf("node%d", number)
	ip(t, fmt.Sprintf("link add %s netns %s type veth peer name eth0 netns %s", link, gateway.name, n.name))
	gateway.ip(fmt.Sprintf("addr add %s/24 dev %s", n.gateway, link))
	gateway.ip("link set " + link + " up")
	n.ip("addr add " + n.addr + "/24 dev eth0")
	n.ip("link set eth0 up")
	args := append(n.wrap(), binary(t, "sluice"), "demo-backend", "--addr", n.addr+":8000", "--id", n.addr, "--concurrency", "0", "--service-time", "20ms")
	cmd := exec.Command(args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return n
}

// cut makes every packet of the node vanish, without a word to anybody, as a cut somewhere on the way does; heal ends it.
func (n node) cut()  { n.ip("route add blackhole " + n.gateway + "/32") }
func (n node) heal() { n.ip("route del blackhole " + n.gateway + "/32") }

// The network between sluice and one of three servers is cut: it is taken out within the time of the health checks, the
// others do not feel it, no request is lost, and it is used again when the network is back.
func TestNetworkCutToOneServer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip command")
	}
	gateway := newNetns(t)
	var servers []string
	var nodes []node
	for i := range 3 {
		nodes = append(nodes, newNode(t, gateway, i+1))
		servers = append(servers, fmt.Sprintf("%q", nodes[i].addr+":8000"))
	}
	s := prepare(t, fmt.Sprintf(`
log.access = "off"
[[route]]
upstream = "api"
[upstream.api]
servers = [%s]
health_check = { path = "/healthz" }
timeouts = { first_byte = "2s" }
`, strings.Join(servers, ", ")))
	s.wrap = gateway.wrap()
	gateway.forward(s.url)
	gateway.forward(s.admin)
	s.launch()
	s.waitReady()
	s.waitReplicas("api", 3, 20*time.Second)
	quiet := load(t, "--rate", "50", "--duration", "5s", s.url)()
	quiet.lostNothing(t)

	wait := load(t, "--rate", "50", "--duration", "20s", s.url)
	time.Sleep(2 * time.Second)
	nodes[0].cut()
	begun := time.Now()
	within(t, 6*time.Second, "the server beyond the cut is out", func() bool { return s.upstream("api").Ready == 2 })
	out := time.Since(begun)
	time.Sleep(8*time.Second - time.Since(begun))
	nodes[0].heal()
	healed := time.Now()
	within(t, 15*time.Second, "it is used again", func() bool { return s.upstream("api").Ready == 3 })
	t.Logf("out after %s, used again %s after the network was back", out.Round(10*time.Millisecond), time.Since(healed).Round(10*time.Millisecond))
	l := wait()
	// Those that were on their way to it are told why after first_byte; no other is touched.
	if l.Sent != l.OK+l.Refused || l.Failed != 0 || l.Refused != l.Reasons["first_byte_timeout"] || l.Refused > 5 {
		t.Errorf("%+v", l)
	}
	if l.P99 > 2*quiet.P99+500 {
		t.Errorf("99th percentile of the others: %.0f ms, before %.0f ms", l.P99, quiet.P99)
	}
	within(t, 10*time.Second, "it gets requests again", func() bool {
		backend, _, err := answerer(s.url, "x")
		return err == nil && backend == nodes[0].addr
	})
}
