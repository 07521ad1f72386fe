package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// group is several sluice processes that work as one, and the API server that they do it through.
type group struct {
	t          *testing.T
	s          *apiServer
	ns         string
	folder, ip string
	kubeconfig string // of sluice's service account
	most       int32  // replicas that the workload was ever told to have
	above      int    // how often in a row the slots added up to more than there are
}

// hostGateway is one of them.
type hostGateway struct {
	*group
	name, url, admin, peers string
	cmd                     *exec.Cmd
}

// groupSlots is max_conns of the one server.
const groupSlots = 5

// newGroup has the Service api with one server, which sluice scales, and no gateway yet.
func newGroup(t *testing.T) *group {
	t.Helper()
	s := ownServer(t)
	g := &group{t: t, s: s, ns: s.namespace(t), folder: t.TempDir(), ip: hostAddress(t)}
	s.peersManifests(t, g.ns)
	g.account()
	for name, pkg := range map[string]string{"sluice": "sluice/cmd/sluice", "bench": "sluice/bench"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(g.folder, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v: %s", pkg, err, out)
		}
	}
	backend := g.freeAddress(g.ip)
	g.run("backend", "sluice", "demo-backend", "--addr", backend, "--concurrency", fmt.Sprint(groupSlots), "--service-time", "100ms")
	g.pod("one")
	pod := must[*corev1.Pod](t)(s.admin.CoreV1().Pods(g.ns).Get(t.Context(), "one", metav1.GetOptions{}))
	writeSlice(t, s.admin, g.ns, "api", "api-1", portNumber(t, backend), endpoint{ip: g.ip, uid: pod.UID, ready: true, serving: true})
	return g
}

// pod makes one of the workload, as its controller would.
func (g *group) pod(name string) { workloads{g.t, g.s, g.ns}.pod("ReplicaSet", "api", name, "api") }

// hostAddress is one of this machine's: the API server takes no loopback address for an endpoint.
func hostAddress(t *testing.T) string {
	t.Helper()
	for _, a := range must[[]net.Addr](t)(net.InterfaceAddrs()) {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no IPv4 address but loopback, and an endpoint may not have that")
	return ""
}

func (g *group) freeAddress(ip string) string {
	g.t.Helper()
	ln := must[net.Listener](g.t)(net.Listen("tcp", net.JoinHostPort(ip, "0")))
	defer ln.Close()
	return ln.Addr().String()
}

func portNumber(t *testing.T, address string) int32 {
	t.Helper()
	a := must[*net.TCPAddr](t)(net.ResolveTCPAddr("tcp", address))
	return int32(a.Port) //nolint:gosec // a port
}

// account writes a kubeconfig of the service account.
func (g *group) account() {
	g.t.Helper()
	token := must[*authenticationv1.TokenRequest](g.t)(g.s.admin.CoreV1().ServiceAccounts(g.ns).CreateToken(g.t.Context(), "sluice", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: g.s.config.Host, CertificateAuthority: g.s.config.CAFile}
	cfg.AuthInfos["a"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	cfg.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "a", Namespace: g.ns}
	cfg.CurrentContext = "x"
	g.kubeconfig = filepath.Join(g.folder, "account")
	if err := clientcmd.WriteToFile(*cfg, g.kubeconfig); err != nil {
		g.t.Fatal(err)
	}
}

// run starts a program, which ends with the test.
func (g *group) run(name, program string, args ...string) *exec.Cmd {
	g.t.Helper()
	log := must[*os.File](g.t)(os.OpenFile(filepath.Join(g.folder, name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))
	defer log.Close()
	cmd := exec.Command(filepath.Join(g.folder, program), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+g.kubeconfig, "SLUICE_PEERS_TOKEN=0123456789abcdef0123456789abcdef")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// gateway configures one, which is listed as its pod would be, and starts it.
func (g *group) gateway(name string) *hostGateway {
	g.t.Helper()
	h := &hostGateway{group: g, name: name, url: "http://" + g.freeAddress("127.0.0.1"), admin: "http://" + g.freeAddress("127.0.0.1"), peers: g.freeAddress(g.ip)}
	text := fmt.Sprintf(`
listen = [%q]
admin.listen = %q
pid = "off"
log.access = "off"
engine = { kind = "kubernetes", namespace = %q }
peers = { service = %q, listen = %q, token = "env:SLUICE_PEERS_TOKEN" }
[[route]]
upstream = "api"
[[route]]
path = "/fixed"
upstream = "fixed"
[upstream.fixed]
servers = [%q]
[upstream.api]
service = "api"
max_conns = %d
queue = { size = 1000, timeout = "60s" }
health_check = { path = "/healthz", interval = "300ms" }
scale = { min = 1, max = 3, queued_per_replica = 2, cooldown_down = "2s" }
`, strings.TrimPrefix(h.url, "http://"), strings.TrimPrefix(h.admin, "http://"), g.ns, peersService, h.peers, g.backend(), groupSlots)
	if err := os.WriteFile(filepath.Join(g.folder, name+".toml"), []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	writeSlice(g.t, g.s.admin, g.ns, peersService, name, portNumber(g.t, h.peers), newEndpoint(g.ip))
	h.launch()
	g.t.Cleanup(func() {
		if g.t.Failed() {
			said, _ := os.ReadFile(filepath.Join(g.folder, name+".log"))
			g.t.Logf("%s said:\n%s", name, said)
		}
	})
	return h
}

// backend is the address of the one server of api.
func (g *group) backend() string {
	g.t.Helper()
	slice := must[*discoveryv1.EndpointSlice](g.t)(g.s.admin.DiscoveryV1().EndpointSlices(g.ns).Get(g.t.Context(), "api-1", metav1.GetOptions{}))
	return net.JoinHostPort(g.ip, fmt.Sprint(*slice.Ports[0].Port))
}

func (h *hostGateway) launch() {
	h.t.Helper()
	h.cmd = h.run(h.name, "sluice", "run", "-c", filepath.Join(h.folder, h.name+".toml"))
}

// groupStatus is what one gateway says.
type groupStatus struct {
	Ready bool
	Peers struct {
		Gateway, Scaler, Trouble string
		Gateways                 int
		Scales                   bool
	}
	Upstreams []struct {
		Name    string
		Ready   int
		Servers []struct{ Slots int }
	}
}

// status is empty for a gateway that does not answer.
func (h *hostGateway) status() (st groupStatus) {
	resp, err := http.Get(h.admin + "/api/v1/status")
	if err != nil {
		return st
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&st)
	return st
}

// slots are the gateway's on the server of api; -1 is none.
func (st groupStatus) slots() int {
	for _, u := range st.Upstreams {
		if u.Name == "api" && len(u.Servers) == 1 {
			return u.Servers[0].Slots
		}
	}
	return -1
}

// look asks all, and fails the test when two scale, or have more slots than there are.
func (g *group) look(all ...*hostGateway) (states []groupStatus, scaler *hostGateway, slots int) {
	g.t.Helper()
	for _, h := range all {
		st := h.status()
		states = append(states, st)
		slots += max(st.slots(), 0)
		if st.Peers.Scales {
			if scaler != nil {
				g.t.Fatalf("%s and %s scale at once", scaler.name, h.name)
			}
			scaler = h
		}
	}
	if g.above++; slots <= groupSlots {
		g.above = 0
	}
	if g.above > 1 { // once they may have changed while we asked
		g.t.Fatalf("%d slots of %d: %+v", slots, groupSlots, states)
	}
	return states, scaler, slots
}

// replicas is what the workload is told to have.
func (g *group) replicas() int32 {
	g.t.Helper()
	scale := must[*autoscalingv1.Scale](g.t)(g.s.admin.AppsV1().Deployments(g.ns).GetScale(g.t.Context(), "api", metav1.GetOptions{}))
	g.most = max(g.most, scale.Spec.Replicas)
	return scale.Spec.Replicas
}

// load sends requests to h; the function it returns waits for their end and fails the test when any was lost.
func (h *hostGateway) load(path string, args ...string) (wait func()) {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(h.folder, "bench"), append(append([]string{"load", "--json"}, args...), h.url+path)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() {
		h.t.Helper()
		_ = cmd.Wait()
		var l struct{ Sent, OK, Refused, Failed int }
		if err := json.Unmarshal(out.Bytes(), &l); err != nil {
			h.t.Fatalf("bench load: %v\n%s%s", err, &out, &errs)
		}
		h.t.Logf("%s: %+v", h.name, l)
		if l.Failed != 0 || l.OK == 0 || l.Sent != l.OK+l.Refused {
			h.t.Errorf("%s: requests were lost: %s", h.name, &out)
		}
	}
}

// TestPeersOnSeveralHosts: three gateways are one. The one that scales is killed and another takes over; the API server
// hangs and nobody scales, but all serve, one that starts meanwhile too; and all goes on when it is back.
func TestPeersOnSeveralHosts(t *testing.T) {
	away := 30 * time.Second
	if testing.Short() {
		away = 6 * time.Second
	}
	g := newGroup(t)
	all := []*hostGateway{g.gateway("a"), g.gateway("b"), g.gateway("c")}
	var scaler *hostGateway
	together := func() bool {
		states, now, slots := g.look(all...)
		scaler = now
		for _, st := range states {
			if st.Peers.Gateways != len(all) || now == nil || st.Peers.Scaler != states[0].Peers.Scaler || st.slots() < 1 {
				return false
			}
		}
		return slots == groupSlots
	}
	within(t, 40*time.Second, "three gateways, one scales, every slot is used", together)

	// The load goes through those that live on; it is more than one replica's.
	first := scaler
	var others []*hostGateway
	for _, h := range all {
		if h != first {
			others = append(others, h)
		}
	}
	var waits []func()
	for _, h := range others {
		waits = append(waits, h.load("/", "--concurrency", "12", "--duration", (away+25*time.Second).String()))
	}
	within(t, 20*time.Second, "scaled up to the maximum", func() bool { g.look(all...); return g.replicas() == 3 })
	g.pod("two")
	g.pod("three")
	killed := time.Now()
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "another scales", func() bool { _, scaler, _ = g.look(others...); return scaler != nil })
	t.Logf("%s scales %s after %s was killed", scaler.name, time.Since(killed).Round(100*time.Millisecond), first.name)
	if st := scaler.status(); st.Peers.Gateways != 3 {
		t.Errorf("a gateway whose endpoint is still there may be alive: %+v", st.Peers)
	}

	// Nobody can renew the lease, nor list the gateways.
	begun := time.Now()
	g.s.signal(t, syscall.SIGSTOP)
	cont := func() { g.s.signal(t, syscall.SIGCONT) }
	t.Cleanup(cont) // else nothing ends
	within(t, 10*time.Second, "nobody scales", func() bool { _, scaler, _ = g.look(others...); return scaler == nil })
	t.Logf("nobody scales %s after the API server stopped", time.Since(begun).Round(100*time.Millisecond))
	first.launch()
	within(t, 20*time.Second, "one that starts now is ready", func() bool { return first.status().Ready })
	first.load("/fixed", "--concurrency", "2", "--duration", "1s")()
	out, err := exec.Command(filepath.Join(g.folder, "sluice"), "status", "--admin", strings.TrimPrefix(first.admin, "http://")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "gateways not known yet") || !strings.Contains(string(out), "! the gateways: list the endpoints of the Service ") {
		t.Errorf("status: %v\n%s", err, out)
	}
	for time.Since(begun) < away {
		states, now, _ := g.look(all...)
		if now != nil || states[slices.Index(all, first)].slots() > 0 {
			t.Fatalf("without an API server: %+v", states)
		}
		time.Sleep(100 * time.Millisecond)
	}
	cont()
	back := time.Now()
	within(t, 40*time.Second, "three gateways again", together)
	t.Logf("all as before %s after the API server was back", time.Since(back).Round(100*time.Millisecond))
	for _, wait := range waits {
		wait()
	}
	within(t, 30*time.Second, "scaled down", func() bool { g.look(all...); return g.replicas() == 1 })
	if g.most > 3 {
		t.Errorf("%d replicas", g.most)
	}

	// An address has one gateway: no successor beside it.
	if err := others[0].cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the upgrade is refused", func() bool {
		said, _ := os.ReadFile(filepath.Join(g.folder, others[0].name+".log"))
		return strings.Contains(string(said), "upgrade refused, this process goes on")
	})

	// One whose endpoint has gone is none, and the others have its slots.
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.s.admin.DiscoveryV1().EndpointSlices(g.ns).Delete(t.Context(), first.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	all = others
	within(t, 30*time.Second, "two gateways have all slots", together)
}
