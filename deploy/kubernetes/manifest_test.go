package kubernetes_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sluice/config"
	discoverykubernetes "sluice/discovery/kubernetes"
	"sluice/scaler"
)

// kubectl runs it against the API server.
func (s *apiServer) kubectl(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig())
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, &errs)
	}
	return out.Bytes()
}

// render gives the manifests of folders of this one, put into a namespace as a user's own kustomization does.
func render(t *testing.T, namespace string, resources, components []string) []byte {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		available(t, nil, fmt.Errorf("%w: %w", errNotBuilt, err))
	}
	// Resolved, because kustomize does, and refuses a base that lies in what it does not take for its own tree.
	folder := must[string](t)(filepath.EvalSymlinks(t.TempDir()))
	here := must[string](t)(filepath.EvalSymlinks(must[string](t)(os.Getwd())))
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: " + namespace + "\n"
	for list, names := range map[string][]string{"resources": resources, "components": components} {
		for i, name := range names {
			if i == 0 {
				text += list + ":\n"
			}
			text += "  - " + must[string](t)(filepath.Rel(folder, filepath.Join(here, name))) + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("kubectl", "kustomize", folder).Output()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v: %s", err, err.(*exec.ExitError).Stderr)
	}
	return out
}

// asAccount is a client with the rights of sluice's service account.
func (s *apiServer) asAccount(t *testing.T, namespace string) (*rest.Config, kubernetes.Interface) {
	t.Helper()
	token := must[*authenticationv1.TokenRequest](t)(s.admin.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "sluice", &authenticationv1.TokenRequest{}, metav1.CreateOptions{}))
	cfg := rest.AnonymousClientConfig(s.config)
	cfg.BearerToken = token.Status.Token
	return cfg, must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(cfg))
}

// TestManifests applies what a user applies, as a change would be applied again.
func TestManifests(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	manifests := render(t, ns, []string{"."}, nil)
	s.kubectl(t, manifests, "apply", "--server-side", "--dry-run=server", "-f", "-")
	for range 2 {
		s.kubectl(t, manifests, "apply", "-f", "-")
	}
	got := string(s.kubectl(t, nil, "-n", ns, "get", "-o", "name", "--selector", "app.kubernetes.io/name=sluice", "deployments,services,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"))
	for _, want := range []string{"deployment.apps/sluice", "service/sluice", "serviceaccount/sluice", "role.rbac.authorization.k8s.io/sluice-scaling", "rolebinding.rbac.authorization.k8s.io/sluice-scaling",
		"networkpolicy.networking.k8s.io/sluice-backends", "poddisruptionbudget.policy/sluice"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%s is not there:\n%s", want, got)
		}
	}
	// Applied again it leaves the number that sluice set.
	w := workloads{t, s, ns}
	w.pod("ReplicaSet", "api", "one", "api")
	cfg, _ := s.asAccount(t, ns)
	d := w.driver(newRooms(t, cfg).scaling, "api")
	if err := d.Scale(t.Context(), 4, nil); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, manifests, "apply", "-f", "-")
	w.wantReplicas("deployment", "api", 4)
}

func TestShippedConfigIsValid(t *testing.T) {
	for _, file := range []string{"base/config.toml", "metrics-api/demo/config.toml", "../stack/config.toml"} {
		if _, err := config.Load(file); err != nil {
			t.Error(err)
		}
	}
}

// TestRoles uses the rights that each option gives, and tries what none gives.
func TestRoles(t *testing.T) {
	s := server(t)
	ns, elsewhere := s.namespace(t), s.namespace(t)
	s.kubectl(t, render(t, ns, []string{"base", "demo"}, nil), "apply", "-f", "-")
	cfg, as := s.asAccount(t, ns)
	account := newRooms(t, cfg)
	w := workloads{t, s, ns}
	a := newEndpoint("10.1.0.1")
	writeSlice(t, s.admin, ns, "api", "api-1", 8000, a)
	pod := w.pod("ReplicaSet", "api", "one", "api")

	// Without the option: endpoints and nothing else.
	if _, err := (&discoverykubernetes.Cluster{Config: cfg}).Version(t.Context()); err != nil {
		t.Errorf("version: %v", err)
	}
	found := watch(t, account.endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	found.want(t, 10*time.Second, 8000, a)
	if _, err := w.driver(account.scaling, "api").List(t.Context()); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "the account may not read the Service api") {
		t.Errorf("scaling without its Role: %v", err)
	}
	other := watch(t, account.endpoints, discoverykubernetes.Query{Namespace: elsewhere, Service: "api"})
	within(t, 10*time.Second, "another namespace's endpoints are refused: "+other.notes(), func() bool { return strings.Contains(other.notes(), "may not list and watch endpointslices") })
	if other.last() != "none yet" {
		t.Errorf("another namespace: %s", other.last())
	}
	s.forbidden(t, as, ns, elsewhere, "without scaling", map[string]bool{})

	// With it.
	s.kubectl(t, render(t, ns, []string{"base", "demo"}, []string{"scaling"}), "apply", "-f", "-")
	d := w.driver(account.scaling, "api")
	within(t, 10*time.Second, "the Role counts", func() bool { _, err := d.List(t.Context()); return err == nil })
	for _, step := range []struct {
		n       int
		victims []string
	}{{3, nil}, {0, []string{pod}}} {
		if err := d.Scale(t.Context(), step.n, step.victims); err != nil {
			t.Error(err)
		}
		w.wantReplicas("deployment", "api", int32(step.n))
	}
	if w.cost("one") == "" {
		t.Error("the pod was not marked")
	}
	w.statefulSet("db", "db", 1)
	if err := w.driver(account.scaling, "db").Scale(t.Context(), 2, nil); err != nil {
		t.Error(err)
	}
	s.forbidden(t, as, ns, elsewhere, "with scaling", map[string]bool{"list pods": true})

	// Usage is an option of its own. This API server has no metrics, and says so only to those who may ask.
	if _, err := account.scaling.ListPodMetrics(t.Context(), ns, "app=api"); !apierrors.IsForbidden(err) {
		t.Errorf("usage without its Role: %v", err)
	}
	s.kubectl(t, render(t, ns, []string{"base", "demo"}, []string{"scaling", "usage"}), "apply", "-f", "-")
	within(t, 10*time.Second, "the Role counts", func() bool {
		_, err := account.scaling.ListPodMetrics(t.Context(), ns, "app=api")
		return apierrors.IsNotFound(err)
	})
	if _, err := account.scaling.ListPodMetrics(t.Context(), elsewhere, ""); !apierrors.IsForbidden(err) {
		t.Errorf("usage in another namespace: %v", err)
	}
	s.forbidden(t, as, ns, elsewhere, "with usage", map[string]bool{"list pods": true})
}

// forbidden tries what no Role of sluice allows, besides what allowed names.
func (s *apiServer) forbidden(t *testing.T, as kubernetes.Interface, ns, elsewhere, option string, allowed map[string]bool) {
	t.Helper()
	ctx := t.Context()
	for what, try := range map[string]func() error{
		"read secrets":    func() error { _, err := as.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{}); return err },
		"read configmaps": func() error { _, err := as.CoreV1().ConfigMaps(ns).List(ctx, metav1.ListOptions{}); return err },
		"list pods":       func() error { _, err := as.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{}); return err },
		"delete pods":     func() error { return as.CoreV1().Pods(ns).Delete(ctx, "one", metav1.DeleteOptions{}) },
		"run in pods": func() error {
			return as.CoreV1().RESTClient().Post().Namespace(ns).Resource("pods").Name("one").SubResource("exec").Do(ctx).Error()
		},
		"make pods": func() error {
			_, err := as.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: template("x").Spec}, metav1.CreateOptions{})
			return err
		},
		"read deployments":   func() error { _, err := as.AppsV1().Deployments(ns).Get(ctx, "api", metav1.GetOptions{}); return err },
		"delete deployments": func() error { return as.AppsV1().Deployments(ns).Delete(ctx, "api", metav1.DeleteOptions{}) },
		"write endpoints":    func() error { return as.DiscoveryV1().EndpointSlices(ns).Delete(ctx, "api-1", metav1.DeleteOptions{}) },
		"delete HPAs": func() error {
			return as.AutoscalingV2().HorizontalPodAutoscalers(ns).Delete(ctx, "x", metav1.DeleteOptions{})
		},
		"scale elsewhere": func() error {
			_, err := as.AppsV1().Deployments(elsewhere).GetScale(ctx, "api", metav1.GetOptions{})
			return err
		},
		"list pods elsewhere": func() error { _, err := as.CoreV1().Pods(elsewhere).List(ctx, metav1.ListOptions{}); return err },
		"list nodes":          func() error { _, err := as.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); return err },
	} {
		if err := try(); allowed[what] != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
			t.Errorf("%s: %s: %v", option, what, err)
		}
	}
}
