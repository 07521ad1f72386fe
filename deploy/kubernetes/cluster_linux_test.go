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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// cluster is a control plane with its controllers, a node, and sluice with the shipped configuration in front.
type cluster struct {
	t       *testing.T
	s       *apiServer
	kubelet *kubelet
	folder  string
	config  string // the shipped one
	ns      string
	sluice  *exec.Cmd
	log     string
}

// gatewayIP is the address that sluice has as if it were a pod.
const gatewayIP = "10.123.0.250"

// newCluster is a cluster with the demo, scaled by sluice.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	return newClusterWith(t, []string{"scaling"}, "base/config.toml", nil)
}

// newClusterWith needs a network namespace in which 10.123.0.0/24 is local and the shipped ports are free:
// make e2e-kubernetes makes one. The demo has these components, and sluice that shipped configuration with these changes.
func newClusterWith(t *testing.T, components []string, config string, changes map[string]string) *cluster {
	t.Helper()
	if !slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "kubernetes") {
		t.Skip("a whole cluster is for make e2e-kubernetes")
	}
	ln, err := net.Listen("tcp", gatewayIP+":0")
	if err != nil {
		t.Fatalf("run this by make e2e-kubernetes: %v", err)
	}
	ln.Close()
	t.Setenv("CONTROLLERS", "1")
	c := &cluster{t: t, s: ownServer(t), folder: t.TempDir(), config: config}
	c.ns = c.s.namespace(t)
	t.Cleanup(func() {
		if text, err := os.ReadFile(filepath.Join(c.s.folder, "kube-controller-manager.log")); t.Failed() && err == nil {
			t.Logf("the controllers:\n%s", text[max(len(text)-10000, 0):])
		}
	})
	for name, pkg := range map[string]string{"sluice": "sluice/cmd/sluice", "bench": "sluice/bench"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(c.folder, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v: %s", pkg, err, out)
		}
	}
	c.kubelet = newKubelet(t, c.s.admin, c.ns, filepath.Join(c.folder, "sluice"))
	c.s.kubectl(t, render(t, c.ns, []string{"base", "demo"}, components), "apply", "-f", "-")
	// The gateway runs beside the cluster: the same binary, configuration and rights.
	c.s.kubectl(t, nil, "-n", c.ns, "scale", "deployment", "sluice", "--replicas=0")
	c.configure(changes)
	c.launch()
	return c
}

// configure writes the shipped configuration, with what differs outside a pod and the changes of the test.
func (c *cluster) configure(changes map[string]string) {
	c.t.Helper()
	text := string(must[[]byte](c.t)(os.ReadFile(c.config)))
	all := map[string]string{
		`kind = "auto"`:         fmt.Sprintf("kind = \"kubernetes\"\nnamespace = %q", c.ns),
		`shutdown_delay = "5s"`: `shutdown_delay = "0s"`, `listen         = [":8080"]`: "listen = [\":8080\"]\nlog.access = \"off\"",
	}
	if strings.Contains(text, "cooldown_down") {
		all[`cooldown_down      = "30s"`] = `cooldown_down = "3s"`
	}
	for old, now := range changes {
		all[old] = now
	}
	for old, now := range all {
		if !strings.Contains(text, old) {
			c.t.Fatalf("%q is not in the shipped configuration", old)
		}
		text = strings.ReplaceAll(text, old, now)
	}
	if err := os.WriteFile(filepath.Join(c.folder, "config.toml"), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// launch starts sluice as its service account.
func (c *cluster) launch() {
	c.t.Helper()
	token := must[*authenticationv1.TokenRequest](c.t)(c.s.admin.CoreV1().ServiceAccounts(c.ns).CreateToken(c.t.Context(), "sluice", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: c.s.config.Host, CertificateAuthority: c.s.config.CAFile}
	cfg.AuthInfos["a"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	cfg.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "a", Namespace: c.ns}
	cfg.CurrentContext = "x"
	kubeconfig := filepath.Join(c.folder, "account")
	if err := clientcmd.WriteToFile(*cfg, kubeconfig); err != nil {
		c.t.Fatal(err)
	}
	log := must[*os.File](c.t)(os.OpenFile(filepath.Join(c.folder, "sluice.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600))
	c.log = log.Name()
	c.sluice = exec.Command(filepath.Join(c.folder, "sluice"), "run", "-c", filepath.Join(c.folder, "config.toml"))
	c.sluice.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	c.sluice.Stdout, c.sluice.Stderr = log, log
	c.sluice.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.sluice.Start(); err != nil {
		c.t.Fatal(err)
	}
	log.Close()
	cmd := c.sluice
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if c.t.Failed() {
			text, _ := os.ReadFile(c.log)
			c.t.Logf("sluice:\n%s", text)
		}
	})
}

// upstream is the status of api.
type upstreamStatus struct {
	Wanted, Ready, Starting, Draining int
	Failure                           string
	Notes                             []struct{ Name, Why string }
}

func (c *cluster) upstream() (u upstreamStatus) {
	resp, err := http.Get("http://127.0.0.1:9901/api/v1/status")
	if err != nil {
		return u
	}
	defer resp.Body.Close()
	var status struct{ Upstreams []upstreamStatus }
	if err := json.NewDecoder(resp.Body).Decode(&status); err == nil && len(status.Upstreams) == 1 {
		u = status.Upstreams[0]
	}
	return u
}

func (c *cluster) wantReady(n int, limit time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(limit); c.upstream().Ready != n; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("not %d ready within %s: %+v", n, limit, c.upstream())
		}
	}
}

// load sends requests until they are over; the function it returns waits for that and fails the test when any was lost.
func (c *cluster) load(args ...string) (wait func()) {
	c.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(c.folder, "bench"), append(append([]string{"load", "--json"}, args...), "http://127.0.0.1:8080/")...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		c.t.Helper()
		_ = cmd.Wait()
		var l struct{ Sent, OK, Refused, Failed int }
		if err := json.Unmarshal(out.Bytes(), &l); err != nil {
			c.t.Fatalf("bench load: %v\n%s%s", err, &out, &errs)
		}
		c.t.Logf("%+v", l)
		if l.Failed != 0 || l.OK == 0 || l.Sent != l.OK+l.Refused {
			c.t.Errorf("requests were lost: %s", &out)
		}
	}
}

// TestClusterScales: the real controllers make and remove the pods, and those that sluice drained are the ones that go.
func TestClusterScales(t *testing.T) {
	c := newCluster(t)
	c.wantReady(1, 60*time.Second)
	wait := c.load("--rate", "60", "--duration", "25s")
	c.wantReady(5, 60*time.Second)
	wait()
	c.wantReady(1, 90*time.Second)
	within(t, 30*time.Second, "all told to end are gone", func() bool { return c.upstream().Draining == 0 })
	if all, marked := c.kubelet.toldToEnd(); all == 0 || all != marked {
		t.Errorf("%d pods were told to end, %d of them were marked", all, marked)
	}
}

// TestClusterRollout: a new revision under load loses nothing, though the controllers alone choose what goes.
func TestClusterRollout(t *testing.T) {
	c := newCluster(t)
	c.wantReady(1, 60*time.Second)
	c.configure(map[string]string{"min                = 1": "min = 3"})
	c.signal(syscall.SIGHUP)
	c.wantReady(3, 60*time.Second)
	wait := c.load("--rate", "30", "--duration", "20s")
	time.Sleep(2 * time.Second)
	patch := `{"spec":{"template":{"metadata":{"annotations":{"revision":"2"}}}}}`
	if _, err := c.s.admin.AppsV1().Deployments(c.ns).Patch(t.Context(), "api", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.s.kubectl(t, nil, "-n", c.ns, "rollout", "status", "deployment/api", "--timeout=60s")
	wait()
	c.wantReady(3, 30*time.Second)
	c.s.kubectl(t, nil, "-n", c.ns, "rollout", "status", "deployment/api", "--timeout=10s")
}

// TestClusterToZero and back by a request, which waits.
func TestClusterToZero(t *testing.T) {
	c := newCluster(t)
	c.wantReady(1, 60*time.Second)
	c.configure(map[string]string{"min                = 1         # 0": "min = 0\nto_zero_after = \"2s\" # 0"})
	c.signal(syscall.SIGHUP)
	c.wantReady(0, 60*time.Second)
	within(t, 30*time.Second, "no pod is left", func() bool {
		pods, err := c.s.admin.CoreV1().Pods(c.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=api"})
		return err == nil && len(pods.Items) == 0
	})
	begun := time.Now()
	resp, err := http.Get("http://127.0.0.1:8080/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Logf("%s after %s", resp.Status, time.Since(begun).Round(time.Millisecond))
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a request at zero: %s", resp.Status)
	}
}

// TestClusterFaults: the API server hangs under load, sluice is killed while it scales, an image cannot be pulled.
func TestClusterFaults(t *testing.T) {
	c := newCluster(t)
	c.wantReady(1, 60*time.Second)
	wait := c.load("--rate", "15", "--duration", "15s")
	time.Sleep(time.Second)
	c.s.signal(t, syscall.SIGSTOP)
	time.Sleep(12 * time.Second)
	c.s.signal(t, syscall.SIGCONT)
	wait()
	c.wantReady(1, 60*time.Second)

	c.configure(map[string]string{"min                = 1": "min = 4"})
	c.signal(syscall.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	_ = c.sluice.Process.Kill()
	_ = c.sluice.Wait()
	c.launch()
	c.wantReady(4, 60*time.Second)
	if d, err := c.s.admin.AppsV1().Deployments(c.ns).Get(t.Context(), "api", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 4 {
		t.Errorf("replicas %v, %v", d.Spec.Replicas, err)
	}

	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"api","image":"missing:1"}]}}}}`
	if _, err := c.s.admin.AppsV1().Deployments(c.ns).Patch(t.Context(), "api", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	within(t, 60*time.Second, "the status says that the image cannot be pulled", func() bool { return strings.Contains(c.upstream().Failure, "ImagePullBackOff") })
	time.Sleep(10 * time.Second)
	if u := c.upstream(); u.Ready < 3 {
		t.Errorf("healthy pods were given up for one that cannot start: %+v", u)
	}
}

func (c *cluster) signal(sig syscall.Signal) {
	c.t.Helper()
	if err := c.sluice.Process.Signal(sig); err != nil {
		c.t.Fatal(err)
	}
}
