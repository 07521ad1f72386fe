package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// stackNamespace is what deploy/stack/kustomization.yaml says.
const stackNamespace = "sutazai"

// TestClusterStack: the stack by the scripts that a user runs, up, under load and down, with the real controllers. Its
// pods, sluice's among them, are processes; only kubectl's way into pods is not there, so the script is told where
// sluice is.
func TestClusterStack(t *testing.T) {
	if !slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "kubernetes") {
		t.Skip("a whole cluster is for make e2e-kubernetes")
	}
	ln, err := net.Listen("tcp", gatewayIP+":0")
	if err != nil {
		t.Fatalf("run this by make e2e-kubernetes: %v", err)
	}
	ln.Close()
	t.Setenv("CONTROLLERS", "1")
	s, folder := ownServer(t), t.TempDir()
	binary := filepath.Join(folder, "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	k := &kubelet{t: t, cli: s.admin, ns: stackNamespace, binary: binary}
	k.command = func(pod *corev1.Pod, ip string) (*exec.Cmd, string) {
		name := pod.Spec.Containers[0].Name
		if name == "sluice" {
			return sluicePod(t, s, pod, folder, binary), gatewayIP
		}
		return exec.Command(binary, entrypoint(t, name, ip)...), ""
	}
	k.run()
	script := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command("../"+name, args...)
		gateway := "http://" + gatewayIP
		cmd.Env = append(os.Environ(), "PLATFORM=kubernetes", "KUBECONFIG="+s.kubeconfig(), "FRONT_URL="+gateway+":8888", "INSIDE_URL="+gateway+":11434", "METRICS_URL="+gateway+":9902")
		begun := time.Now()
		out, err := cmd.CombinedOutput()
		t.Logf("%s %v, %s:\n%s", name, args, time.Since(begun).Round(time.Second), out)
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(folder, "sluice.log"))
			t.Fatalf("%s %v: %v\nsluice:\n%s", name, args, err, log[max(len(log)-4000, 0):])
		}
		return string(out)
	}
	if out := script("deploy.sh", "autoscale"); !strings.Contains(out, "kubectl -n sutazai port-forward service/sluice 8080:80") {
		t.Error("it does not say how sluice is reached")
	}
	if out := script("test-autoscaler.sh"); !strings.HasSuffix(out, "PASS\n") {
		t.Error("it does not say PASS")
	}
	t.Setenv("KEEP_DATA", "yes")
	script("deploy.sh", "down")
	if got := string(s.kubectl(t, nil, "-n", stackNamespace, "get", "-o", "name", "pvc,deployments,services,roles,configmaps")); strings.Count(got, "\n") != 2 || strings.Count(got, "persistentvolumeclaim/") != 2 {
		t.Errorf("with KEEP_DATA down left %s", got)
	}
	t.Setenv("KEEP_DATA", "no")
	script("deploy.sh", "down")
	if _, err := s.admin.CoreV1().Namespaces().Get(t.Context(), stackNamespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("down left the namespace: %v", err)
	}
}

// entrypoint are the arguments of what stands in for a service, as the image's file says, on an address.
func entrypoint(t *testing.T, service, ip string) []string {
	text := must[[]byte](t)(os.ReadFile("../stack/Dockerfile"))
	_, stage, _ := strings.Cut(string(text), " AS "+service+"\n")
	_, line, _ := strings.Cut(stage, "\nENTRYPOINT ")
	line, _, _ = strings.Cut(line, "\n")
	var args []string
	if err := json.Unmarshal([]byte(line), &args); err != nil || len(args) < 2 {
		t.Errorf("%s: %q: %v", service, line, err)
		return nil
	}
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "0.0.0.0", ip)
	}
	return args[1:]
}

// sluicePod runs sluice as its pod would: with the ConfigMap that the pod mounts and the rights of its account, on an
// address of its own among those of all the others. It is nil while they cannot be had.
func sluicePod(t *testing.T, s *apiServer, pod *corev1.Pod, folder, binary string) *exec.Cmd {
	ctx := t.Context()
	mounted, err := s.admin.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, pod.Spec.Volumes[0].ConfigMap.Name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	token, err := s.admin.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil
	}
	text := strings.ReplaceAll(mounted.Data["config.toml"], `":`, `"`+gatewayIP+`:`)
	text = strings.ReplaceAll(text, `kind = "auto"`, fmt.Sprintf("kind = \"kubernetes\"\nnamespace = %q", pod.Namespace))
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["c"] = &clientcmdapi.Cluster{Server: s.config.Host, CertificateAuthority: s.config.CAFile}
	cfg.AuthInfos["a"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	cfg.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "a", Namespace: pod.Namespace}
	cfg.CurrentContext = "x"
	kubeconfig, file := filepath.Join(folder, "account"), filepath.Join(folder, "config.toml")
	if err := clientcmd.WriteToFile(*cfg, kubeconfig); err != nil {
		t.Error(err)
		return nil
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Error(err)
		return nil
	}
	log, err := os.OpenFile(filepath.Join(folder, "sluice.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { log.Close() })
	cmd := exec.Command(binary, "run", "-c", file)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd
}
