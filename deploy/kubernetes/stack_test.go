package kubernetes_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice/config"
)

// monitorKind is as much of the Prometheus operator as an API server needs to take a ServiceMonitor.
const monitorKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {kind: ServiceMonitor, plural: servicemonitors, singular: servicemonitor}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// TestStackManifests applies the stack of deploy/stack, as a change would be applied again, and compares what is then
// there with the one configuration that all platforms share.
func TestStackManifests(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	ctx := t.Context()
	manifests := render(t, ns, []string{"../stack"}, nil)
	s.kubectl(t, manifests, "apply", "--server-side", "--dry-run=server", "-f", "-")
	for range 2 {
		s.kubectl(t, manifests, "apply", "-f", "-")
	}
	cfg := must[*config.Config](t)(config.Load("../stack/config.toml"))

	// Every upstream is a Deployment behind a Service on its port, found ready as sluice finds it, closed to others.
	for name, u := range cfg.Upstreams {
		d, err := s.admin.AppsV1().Deployments(ns).Get(ctx, u.Discovery.Service.Name, metav1.GetOptions{})
		if err != nil {
			t.Error(err)
			continue
		}
		template := d.Spec.Template
		container := template.Spec.Containers[0]
		if port := int(container.Ports[0].ContainerPort); port != u.Discovery.Service.Port {
			t.Errorf("%s: the pods have port %d, the configuration %d", name, port, u.Discovery.Service.Port)
		}
		if probe := container.ReadinessProbe.HTTPGet.Path; probe != u.Discovery.HealthCheck.Path {
			t.Errorf("%s: the pods are ready by %s, the configuration's health check is %s", name, probe, u.Discovery.HealthCheck.Path)
		}
		if template.Labels["sluice/backend"] != "true" || *container.SecurityContext.AllowPrivilegeEscalation || *template.Spec.AutomountServiceAccountToken {
			t.Errorf("%s: %+v", name, template)
		}
		service, err := s.admin.CoreV1().Services(ns).Get(ctx, u.Discovery.Service.Name, metav1.GetOptions{})
		if err != nil || int(service.Spec.Ports[0].Port) != u.Discovery.Service.Port || service.Spec.Selector["app"] != d.Spec.Selector.MatchLabels["app"] {
			t.Errorf("%s: %+v, %v", name, service, err)
		}
	}

	// Every name that callers inside say is a Service before sluice, and the policy lets them in.
	inside := must[*networkingv1.NetworkPolicy](t)(s.admin.NetworkingV1().NetworkPolicies(ns).Get(ctx, "sluice-inside", metav1.GetOptions{})).Spec.Ingress[0]
	aliases := 0
	for _, r := range cfg.Routes {
		if r.Listen == "" {
			continue
		}
		aliases++
		_, text, _ := net.SplitHostPort(r.Listen)
		port := must[int](t)(strconv.Atoi(text))
		service, err := s.admin.CoreV1().Services(ns).Get(ctx, r.Host[0], metav1.GetOptions{})
		if err != nil || int(service.Spec.Ports[0].Port) != port || service.Spec.Ports[0].TargetPort.IntValue() != port || service.Spec.Selector["app.kubernetes.io/name"] != "sluice" {
			t.Errorf("%s: %+v, %v", r.Host, service, err)
		}
		if !slices.ContainsFunc(inside.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntValue() == port }) {
			t.Errorf("the policy does not let callers to port %d", port)
		}
	}
	if aliases != len(cfg.Upstreams) || len(inside.From) != 1 || inside.From[0].PodSelector == nil {
		t.Errorf("%d names for %d upstreams; %+v", aliases, len(cfg.Upstreams), inside)
	}
	sluice := must[*corev1.Service](t)(s.admin.CoreV1().Services(ns).Get(ctx, "sluice", metav1.GetOptions{}))
	gateway := s.kubectl(t, nil, "-n", ns, "get", "deployment", "sluice", "-o", `jsonpath={.spec.template.spec.containers[0].ports[?(@.name=="http")].containerPort}`)
	if sluice.Spec.Ports[0].TargetPort.String() != "http" || ":"+string(gateway) != cfg.Listen[0] {
		t.Errorf("the front is %s, sluice listens on %v", gateway, cfg.Listen)
	}
	text := s.kubectl(t, nil, "-n", ns, "get", "configmaps", "-o", `jsonpath={.items[*].data.config\.toml}`)
	if !strings.Contains(string(text), "[upstream.sutazai-ollama]") || strings.Contains(string(text), "[upstream.api]") {
		t.Errorf("the configuration is not the stack's:\n%s", text)
	}

	// The ServiceMonitor is apart: its kind is there only now.
	s.kubectl(t, []byte(monitorKind), "apply", "-f", "-")
	monitored := render(t, ns, []string{"../stack"}, []string{"../stack/kubernetes/monitoring"})
	within(t, 30*time.Second, "the kind is served", func() bool {
		_, err := s.admin.Discovery().ServerResourcesForGroupVersion("monitoring.coreos.com/v1")
		return err == nil
	})
	s.kubectl(t, monitored, "apply", "-f", "-")
	if got := string(s.kubectl(t, nil, "-n", ns, "get", "servicemonitors", "-o", "jsonpath={.items[*].spec.endpoints[*].port}")); got != sluice.Spec.Ports[1].Name {
		t.Errorf("the ServiceMonitor reads %q", got)
	}
}

// TestStackRoles: sluice's account can set every number that the configuration has it set, and no other thing.
func TestStackRoles(t *testing.T) {
	s := server(t)
	ns, elsewhere := s.namespace(t), s.namespace(t)
	manifests := render(t, ns, []string{"../stack"}, nil)
	s.kubectl(t, manifests, "apply", "-f", "-")
	restConfig, as := s.asAccount(t, ns)
	w, account := workloads{t, s, ns}, newRooms(t, restConfig)
	cfg := must[*config.Config](t)(config.Load("../stack/config.toml"))
	scaled := 0
	for name, u := range cfg.Upstreams {
		if u.Scale == nil {
			continue
		}
		scaled++
		w.pod("ReplicaSet", u.Discovery.Service.Name, name+"-one", u.Discovery.Service.Name)
		d := w.driver(account.scaling, u.Discovery.Service.Name)
		within(t, 10*time.Second, "the Role counts", func() bool { _, err := d.List(t.Context()); return err == nil })
		if err := d.Scale(t.Context(), u.Scale.Max, nil); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		w.wantReplicas("deployment", u.Discovery.Service.Name, int32(u.Scale.Max)) //nolint:gosec // a small number
	}
	if scaled != 5 {
		t.Errorf("%d upstreams are scaled", scaled)
	}
	s.forbidden(t, as, ns, elsewhere, "the stack", map[string]bool{"list pods": true})

	// Applied again the numbers stay; those of the vector stores are one.
	s.kubectl(t, manifests, "apply", "-f", "-")
	got := strings.Fields(string(s.kubectl(t, nil, "-n", ns, "get", "deployments", "-o", `jsonpath={range .items[*]}{.metadata.name}={.spec.replicas} {end}`)))
	for name, u := range cfg.Upstreams {
		n := 1
		if u.Scale != nil {
			n = u.Scale.Max
		}
		if want := fmt.Sprintf("%s=%d", name, n); !slices.Contains(got, want) {
			t.Errorf("after applying again: %v, want %s", got, want)
		}
	}
}
