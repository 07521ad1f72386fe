package kubernetes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestClusterAutoscaler: the cluster's own HorizontalPodAutoscaler scales a Deployment on sluice's queue, up and down
// again, by the shipped manifests and configuration. sluice itself has no right to scale here.
func TestClusterAutoscaler(t *testing.T) {
	c := newClusterWith(t, []string{"metrics-api", "metrics-api/demo"}, "metrics-api/demo/config.toml", map[string]string{
		`window = "10s"`: `window = "2s"`, `listen = ":6443"`: `listen = "` + gatewayIP + `:6443"`,
	})
	s := c.s
	// sluice runs beside the cluster: its Service gets the address that a pod of its would have.
	endpoint := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "sluice-beside", Labels: map[string]string{discoveryv1.LabelServiceName: "sluice-metrics-api"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{gatewayIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("metrics-api"), Port: new(int32(6443)), Protocol: new(corev1.ProtocolTCP)}},
	}
	must[*discoveryv1.EndpointSlice](t)(s.admin.DiscoveryV1().EndpointSlices(c.ns).Create(t.Context(), endpoint, metav1.CreateOptions{}))
	hpas := s.admin.AutoscalingV2().HorizontalPodAutoscalers(c.ns)
	patch := `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":5}}}}`
	must[*autoscalingv2.HorizontalPodAutoscaler](t)(hpas.Patch(t.Context(), "api", types.MergePatchType, []byte(patch), metav1.PatchOptions{}))
	c.wantReady(1, 60*time.Second)

	events := func() string {
		return string(s.kubectl(t, nil, "-n", c.ns, "get", "events", "--field-selector", "involvedObject.name=api,involvedObject.kind=HorizontalPodAutoscaler", "-o", `jsonpath={range .items[*]}{.reason} {.message}{"\n"}{end}`))
	}
	replicas := func() int32 {
		d, err := s.admin.AppsV1().Deployments(c.ns).Get(t.Context(), "api", metav1.GetOptions{})
		if err != nil || d.Spec.Replicas == nil {
			return -1
		}
		return *d.Spec.Replicas
	}
	value := func() string {
		out, err := (&aggregated{apiServer: s}).raw("", fmt.Sprintf("/apis/custom.metrics.k8s.io/v1beta2/namespaces/%s/services/api/ai_agent_queue_depth", c.ns))
		if err != nil {
			return err.Error()
		}
		return out
	}
	within(t, 60*time.Second, "the API server passes on to sluice", func() bool { return strings.Contains(value(), `"value":"0"`) })

	// 45 requests a second where one replica does 20: the queue grows until there are more.
	wait := c.load("--rate", "45", "--duration", "30s")
	for end := time.Now().Add(60 * time.Second); replicas() < 3; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not scaled up within a minute; the queue: %s\n%s", value(), events())
		}
	}
	t.Logf("%d replicas; the queue: %s", replicas(), value())
	wait()
	c.wantReady(1, 120*time.Second)
	within(t, 60*time.Second, "one replica is asked for again", func() bool { return replicas() == 1 })
	all := events()
	t.Log(all)
	if !strings.Contains(all, "SuccessfulRescale New size: 1;") || !strings.Contains(all, "; reason: external metric ai_agent_queue_depth") {
		t.Errorf("it was not the queue that scaled:\n%s", all)
	}
	log := string(must[[]byte](t)(os.ReadFile(filepath.Join(c.folder, "sluice.log"))))
	if strings.Contains(log, "replicas set") {
		t.Error("sluice scaled too")
	}
}
