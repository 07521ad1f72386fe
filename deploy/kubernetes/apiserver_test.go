// Package kubernetes_test holds the tests against a real API server: what discovery and the scaler do with it, and
// that the manifests of this folder are what it accepts. The controllers' part is written by the tests themselves.
package kubernetes_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	discoverykubernetes "sluice/discovery/kubernetes"
	scalerkubernetes "sluice/scaler/kubernetes"
)

// apiServer is one that the tests started.
type apiServer struct {
	folder string
	config *rest.Config // of an administrator
	admin  kubernetes.Interface
}

// shared is the API server of all tests that do it no harm; it ends with the last of them.
var shared struct {
	sync.Mutex
	server *apiServer
	err    error
	tried  bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.stop()
	}
	os.Exit(code)
}

// server is the shared API server. The test is skipped where its programs were not built, and fails there where
// SLUICE_TEST_REQUIRE names kubernetes-api.
func server(t *testing.T) *apiServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.tried {
		shared.tried = true
		shared.server, shared.err = startAPIServer()
	}
	return available(t, shared.server, shared.err)
}

// ownServer is an API server that the test may stop.
func ownServer(t *testing.T) *apiServer {
	t.Helper()
	s, err := startAPIServer()
	s = available(t, s, err)
	t.Cleanup(s.stop)
	return s
}

var errNotBuilt = errors.New("etcd and kube-apiserver are not built: deploy/kubernetes/testenv/build.sh")

func available(t *testing.T, s *apiServer, err error) *apiServer {
	t.Helper()
	if err == nil {
		return s
	}
	for required := range strings.FieldsSeq(os.Getenv("SLUICE_TEST_REQUIRE")) {
		if required == "kubernetes-api" {
			t.Fatalf("kubernetes-api is required: %v", err)
		}
	}
	if !errors.Is(err, errNotBuilt) {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

// programs is the folder that testenv/build.sh writes to.
func programs() string {
	if bin := os.Getenv("SLUICE_KUBERNETES_BIN"); bin != "" {
		return bin
	}
	cache := cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(os.Getenv("HOME"), ".cache"))
	return filepath.Join(cache, "sluice", "kubernetes", cmp.Or(os.Getenv("KUBERNETES_VERSION"), "v1.37.2"))
}

func startAPIServer() (*apiServer, error) {
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(programs(), name)); err != nil {
			return nil, fmt.Errorf("%w (%w)", errNotBuilt, err)
		}
	}
	folder, err := os.MkdirTemp("", "sluice-kubernetes-")
	if err != nil {
		return nil, err
	}
	s := &apiServer{folder: folder}
	if err := s.start(); err != nil {
		s.stop()
		return nil, err
	}
	s.config, err = clientcmd.BuildConfigFromFlags("", s.kubeconfig())
	if err == nil {
		s.config.QPS, s.config.Burst = 1000, 1000
		s.config.DisableCompression = true // client-go shares connections among clients that are configured alike
		s.admin, err = kubernetes.NewForConfig(s.config)
	}
	return s, err
}

func (s *apiServer) kubeconfig() string { return filepath.Join(s.folder, "kubeconfig") }

// start starts what does not run, and returns when the API server is ready.
func (s *apiServer) start() error {
	cmd := exec.Command("testenv/start.sh", s.folder)
	cmd.Env = append(os.Environ(), fmt.Sprintf("OWNER_PID=%d", os.Getpid()), "SLUICE_KUBERNETES_BIN="+programs())
	for _, name := range []string{"PORT", "ETCD_PORT", "ETCD_PEER_PORT"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close() // all are taken at once, so that they differ
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		cmd.Env = append(cmd.Env, name+"="+port)
		ln.Close()
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("testenv/start.sh: %w: %s", err, out)
	}
	return nil
}

func (s *apiServer) stop() {
	if out, err := exec.Command("testenv/stop.sh", s.folder).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "testenv/stop.sh: %v: %s\n", err, out)
	}
}

// signal sends a signal to the API server's process, not to etcd.
func (s *apiServer) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder, "kube-apiserver.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// namespace makes one for the test.
func (s *apiServer) namespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("test-%08x", rand.Uint32())
	if _, err := s.admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.admin.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	})
	return name
}

// rooms are the clients of the two rooms, made of one configuration.
type rooms struct {
	endpoints *discoverykubernetes.Client
	scaling   scalerkubernetes.Client
}

func newRooms(t *testing.T, cfg *rest.Config) rooms {
	t.Helper()
	return rooms{must[*discoverykubernetes.Client](t)(discoverykubernetes.NewClient(cfg)), must[scalerkubernetes.Client](t)(scalerkubernetes.NewClient(cfg))}
}

// cluster connects to the API server as sluice does.
func (s *apiServer) cluster(t *testing.T, namespace string) rooms {
	t.Helper()
	t.Setenv("KUBECONFIG", s.kubeconfig())
	c, err := discoverykubernetes.Connect(namespace)
	if err != nil {
		t.Fatal(err)
	}
	return newRooms(t, c.Config)
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// within waits until ok, at most limit.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
