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
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownAddress is an address of this machine that is not a loopback one, which no EndpointSlice may hold; nothing sent to
// it leaves the machine.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback ones")
	return ""
}

// freePort of that address.
func freePort(t *testing.T, host string) int {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// run starts a program and ends it with the test.
func run(t *testing.T, env []string, args ...string) (log *bytes.Buffer) {
	t.Helper()
	log = &bytes.Buffer{} // read when it has ended
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), log)
		}
	})
	return log
}

// TestGatewayWithoutAPIServer: a running sluice loses its API server for half a minute. Traffic goes on as before and no
// server is dropped; what is decided meanwhile is done when the API server is back.
func TestGatewayWithoutAPIServer(t *testing.T) {
	away := 30 * time.Second
	if testing.Short() {
		away = 12 * time.Second
	}
	s := ownServer(t)
	ns := s.namespace(t)
	folder := t.TempDir()
	for name, pkg := range map[string]string{"sluice": "sluice/cmd/sluice", "bench": "sluice/bench"} {
		if out, err := exec.Command("go", "build", "-o", filepath.Join(folder, name), pkg).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v: %s", pkg, err, out)
		}
	}
	// The pods: two processes, on one address with a port each, so each has a slice of its own.
	host := ownAddress(t)
	labels := map[string]string{"app": "api"}
	one := int32(2)
	must[*appsv1.Deployment](t)(s.admin.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "api"},
		Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "api", Image: "api"}}},
		}},
	}, metav1.CreateOptions{}))
	must[*corev1.Service](t)(s.admin.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "api"},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{}))
	for i := range 2 {
		port := freePort(t, host)
		run(t, nil, filepath.Join(folder, "sluice"), "demo-backend", "--addr", fmt.Sprintf("%s:%d", host, port), "--concurrency", "0", "--service-time", "20ms")
		writeSlice(t, s.admin, ns, "api", fmt.Sprintf("api-%d", i), int32(port), newEndpoint(host)) //nolint:gosec // it is a port
	}
	listen, admin := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1")), fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	config := filepath.Join(folder, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
listen = [%q]
pid = "off"
admin.listen = %q
log.access = "off"
engine = { kind = "kubernetes", namespace = %q }
[[route]]
upstream = "api"
[upstream.api]
service = "api"
health_check = { path = "/healthz", interval = "500ms" }
scale = { min = 2, max = 4, queued_per_replica = 100 }
`, listen, admin, ns), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, []string{"KUBECONFIG=" + s.kubeconfig()}, filepath.Join(folder, "sluice"), "run", "-c", config)
	status := func() (u upstreamStatus) {
		resp, err := http.Get("http://" + admin + "/api/v1/status")
		if err != nil {
			return u
		}
		defer resp.Body.Close()
		var all struct{ Upstreams []upstreamStatus }
		if err := json.NewDecoder(resp.Body).Decode(&all); err == nil && len(all.Upstreams) == 1 {
			u = all.Upstreams[0]
		}
		return u
	}
	within(t, 30*time.Second, "two servers", func() bool { return status().Ready == 2 })

	var out, errs bytes.Buffer
	load := exec.Command(filepath.Join(folder, "bench"), "load", "--json", "--rate", "40", "--duration", (away + 10*time.Second).String(), "http://"+listen+"/")
	load.Stdout, load.Stderr = &out, &errs
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s.signal(t, syscall.SIGKILL)
	resp, err := http.Post("http://"+admin+"/api/v1/upstreams/api/scale", "application/json", strings.NewReader(`{"replicas": 3}`))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scale: %v, %v", resp, err)
	}
	resp.Body.Close()
	within(t, 25*time.Second, "the status says that the API server does not answer", func() bool { return status().Failure != "" })
	for time.Since(begun) < away {
		if u := status(); u.Ready != 2 {
			t.Fatalf("%s without an API server: %+v", time.Since(begun).Round(time.Second), u)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	within(t, 40*time.Second, "what was decided meanwhile is done", func() bool {
		d, err := s.admin.AppsV1().Deployments(ns).Get(t.Context(), "api", metav1.GetOptions{})
		return err == nil && *d.Spec.Replicas == 3
	})
	t.Logf("scaled %s after the API server was back", time.Since(back).Round(100*time.Millisecond))
	_ = load.Wait() // its exit code says what the ledger says
	var l struct{ Sent, OK, Refused, Failed int }
	if err := json.Unmarshal(out.Bytes(), &l); err != nil {
		t.Fatalf("bench load: %v\n%s%s", err, &out, &errs)
	}
	if l.Sent == 0 || l.OK != l.Sent {
		t.Errorf("%+v", l)
	}
}
