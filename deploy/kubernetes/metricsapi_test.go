package kubernetes_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"

	"sluice/admin"
	adminkubernetes "sluice/admin/kubernetes"
	"sluice/balancer"
)

// steady is an upstream whose queue has had one length for ever.
func steady(name, service string, queued float64) adminkubernetes.Upstream {
	var mu sync.Mutex
	begun := time.Now()
	return adminkubernetes.Upstream{Name: name, Service: service, Read: func(now time.Time) (balancer.Reading, bool) {
		mu.Lock()
		defer mu.Unlock()
		return balancer.Reading{At: now, QueuedSeconds: queued * now.Sub(begun).Seconds()}, true
	}}
}

// aggregated is an API server that sluice's metrics API is a part of, by the shipped manifests.
type aggregated struct {
	*apiServer
	t      *testing.T
	ns     string
	server *adminkubernetes.Server
	cfg    adminkubernetes.Config
}

const apiServices = "v1beta2.custom.metrics.k8s.io,v1beta1.custom.metrics.k8s.io,v1beta1.external.metrics.k8s.io"

// newAggregated lets the API server call sluice on localhost, where no endpoint can be.
func newAggregated(t *testing.T, upstreams ...adminkubernetes.Upstream) *aggregated {
	t.Helper()
	s := ownServer(t) // APIServices are the cluster's
	a := &aggregated{apiServer: s, t: t, ns: s.namespace(t), server: &adminkubernetes.Server{Log: logger(t)}}
	s.kubectl(t, render(t, a.ns, []string{"base"}, []string{"metrics-api"}), "apply", "-f", "-")
	account, _ := s.asAccount(t, a.ns)
	a.cfg = adminkubernetes.Config{API: account, Namespace: a.ns, MetricsAPIConfig: admin.MetricsAPIConfig{Listen: "127.0.0.1:0", Window: 2 * time.Second}}
	a.configure(upstreams)
	t.Cleanup(func() { a.server.Close(context.Background()) })
	_, port, _ := net.SplitHostPort(a.server.Addr())
	s.kubectl(t, nil, "-n", a.ns, "patch", "service", "sluice-metrics-api", "--type=json", "-p",
		`[{"op":"replace","path":"/spec","value":{"type":"ExternalName","externalName":"localhost"}}]`)
	a.patch(`{"spec":{"service":{"port":` + port + `}}}`)
	return a
}

func (a *aggregated) configure(upstreams []adminkubernetes.Upstream) {
	a.t.Helper()
	must[*adminkubernetes.Change](a.t)(a.server.Prepare(a.cfg)).Commit(upstreams)
}

func (a *aggregated) patch(text string) {
	a.t.Helper()
	for name := range strings.SplitSeq(apiServices, ",") {
		a.kubectl(a.t, nil, "patch", "apiservice", name, "--type=merge", "-p", text)
	}
}

// available waits until the API server says so of all three APIs.
func (a *aggregated) available(want string) {
	a.t.Helper()
	for name := range strings.SplitSeq(apiServices, ",") {
		condition := ""
		for end := time.Now().Add(60 * time.Second); !strings.HasPrefix(condition, want); time.Sleep(200 * time.Millisecond) {
			condition = string(a.kubectl(a.t, nil, "get", "apiservice", name, "-o", `jsonpath={range .status.conditions[?(@.type=="Available")]}{.status} {.reason} {.message}{end}`))
			if time.Now().After(end) {
				a.t.Fatalf("the APIService %s is not %s within a minute: %s", name, want, condition)
			}
		}
	}
}

// raw is kubectl get --raw, as somebody else where as is not "".
func (a *aggregated) raw(as, path string) (string, error) {
	args := []string{"get", "--raw", path}
	if as != "" {
		args = append(args, "--as="+as)
	}
	cmd := exec.Command("kubectl", args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+a.kubeconfig())
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, &errs)
	}
	return string(out), err
}

func (a *aggregated) custom(metric string) string {
	return "/apis/custom.metrics.k8s.io/v1beta2/namespaces/" + a.ns + "/services/api/" + metric
}

func (a *aggregated) external(metric string) string {
	return "/apis/external.metrics.k8s.io/v1beta1/namespaces/" + a.ns + "/" + metric
}

// TestMetricsAPI asks for values through a real API server, as kubectl and as the controller of HorizontalPodAutoscalers do.
func TestMetricsAPI(t *testing.T) {
	a := newAggregated(t, steady("api", "api", 42.5), steady("elsewhere", "", 7))
	a.available("True")
	within(t, 10*time.Second, "a value is measured", func() bool { _, err := a.raw("", a.custom("ai_agent_queue_depth")); return err == nil })
	for path, want := range map[string]string{
		a.custom("ai_agent_queue_depth"): `"value":"42500m"`,
		strings.Replace(a.custom("sluice_upstream_queue_depth"), "v1beta2", "v1beta1", 1): `"metricName":"sluice_upstream_queue_depth"`,
		a.external("ai_agent_queue_depth") + "?labelSelector=upstream%3Delsewhere":        `"value":"7"`,
		"/apis/custom.metrics.k8s.io/v1beta2":                                             `"name":"services/ai_agent_queue_depth"`,
	} {
		if got, err := a.raw("", path); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v %s, want %s", path, err, got, want)
		}
	}

	// The clients that the controller has.
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "Service"}, meta.RESTScopeNamespace)
	custom := custom_metrics.NewForConfig(a.config, mapper, custom_metrics.NewAvailableAPIsGetter(discovery.NewDiscoveryClientForConfigOrDie(a.config)))
	value, err := custom.NamespacedMetrics(a.ns).GetForObject(schema.GroupKind{Kind: "Service"}, "api", "ai_agent_queue_depth", labels.Everything())
	if err != nil || value.Value.MilliValue() != 42500 || value.DescribedObject.Name != "api" {
		t.Errorf("custom_metrics: %+v, %v", value, err)
	}
	list, err := must[external_metrics.ExternalMetricsClient](t)(external_metrics.NewForConfig(a.config)).NamespacedMetrics(a.ns).List("ai_agent_queue_depth", labels.SelectorFromSet(labels.Set{"upstream": "elsewhere"}))
	if err != nil || len(list.Items) != 1 || list.Items[0].Value.Value() != 7 {
		t.Errorf("external_metrics: %+v, %v", list, err)
	}
	// The discovery of the whole cluster holds the metrics.
	within(t, 60*time.Second, "discovery holds the metrics", func() bool {
		_, all, err := discovery.NewDiscoveryClientForConfigOrDie(a.config).ServerGroupsAndResources()
		var found []string
		for _, group := range all {
			for _, r := range group.APIResources {
				if strings.Contains(r.Name, "ai_agent_queue_depth") {
					found = append(found, group.GroupVersion)
				}
			}
		}
		return err == nil && len(found) == 3
	})
}

// TestMetricsAPIRights: rights count in the API server and once more in sluice, and nobody else is answered.
func TestMetricsAPIRights(t *testing.T) {
	a := newAggregated(t, steady("api", "api", 1))
	a.available("True")
	const controller = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
	within(t, 10*time.Second, "the controller may, without a role of sluice's", func() bool {
		_, custom := a.raw(controller, a.custom("ai_agent_queue_depth"))
		_, external := a.raw(controller, a.external("ai_agent_queue_depth"))
		return custom == nil && external == nil
	})
	for _, path := range []string{a.custom("ai_agent_queue_depth"), a.external("ai_agent_queue_depth")} {
		if got, err := a.raw("ann", path); err == nil || !strings.Contains(err.Error(), "Forbidden") {
			t.Errorf("somebody without rights: %s %v", got, err)
		}
	}
	a.kubectl(t, nil, "-n", a.ns, "create", "rolebinding", "ann", "--clusterrole=sluice-metrics-reader", "--user=ann")
	for _, metric := range []string{"ai_agent_queue_depth", "sluice_upstream_queue_depth", "sluice_upstream_in_flight", "sluice_upstream_concurrency", "sluice_upstream_arrival_rate"} {
		within(t, 20*time.Second, "a reader may read "+metric, func() bool {
			_, custom := a.raw("ann", a.custom(metric))
			_, external := a.raw("ann", a.external(metric))
			return custom == nil && external == nil
		})
	}

	front := must[tls.Certificate](t)(tls.LoadX509KeyPair(filepath.Join(a.folder, "front.crt"), filepath.Join(a.folder, "front.key")))
	stranger := must[tls.Certificate](t)(tls.LoadX509KeyPair(filepath.Join(a.folder, "api.crt"), filepath.Join(a.folder, "api.key")))
	for _, c := range []struct {
		what string
		cert *tls.Certificate
		user string
		code int
	}{
		{"no certificate", nil, "ann", http.StatusUnauthorized},
		{"a certificate of the cluster's that is not the front proxy's", &stranger, "ann", http.StatusUnauthorized},
		{"the front proxy for nobody", &front, "", http.StatusUnauthorized},
		{"the front proxy for somebody without rights", &front, "bob", http.StatusForbidden},
		{"the front proxy for a reader", &front, "ann", http.StatusOK},
	} {
		if got, body := a.direct(c.cert, c.user, a.custom("ai_agent_queue_depth")); got != c.code || !strings.Contains(body, `"apiVersion"`) {
			t.Errorf("%s: %d %s, want %d", c.what, got, body, c.code)
		}
	}

	// Without its role sluice answers nobody, and says why.
	a.kubectl(t, nil, "delete", "clusterrolebinding", "sluice-metrics-api")
	within(t, 30*time.Second, "without a role nobody is answered", func() bool {
		code, body := a.direct(&front, "carl", a.custom("ai_agent_queue_depth"))
		return code == http.StatusInternalServerError && strings.Contains(body, "may not create subjectaccessreviews")
	})
	fresh := &adminkubernetes.Server{Log: logger(t)}
	must[*adminkubernetes.Change](t)(fresh.Prepare(a.cfg)).Commit(nil)
	defer fresh.Close(context.Background())
	a.server.Close(context.Background())
	a.server = fresh
	if code, _ := a.direct(&front, "ann", a.custom("ai_agent_queue_depth")); code != http.StatusUnauthorized || !strings.Contains(fresh.Trouble(), "may not read the configmap kube-system/extension-apiserver-authentication") {
		t.Errorf("without a role: %d, %q", code, fresh.Trouble())
	}
}

// direct asks sluice itself, past the API server.
func (a *aggregated) direct(cert *tls.Certificate, user, path string) (int, string) {
	a.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // as the shipped APIService
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	req := must[*http.Request](a.t)(http.NewRequest(http.MethodGet, "https://"+a.server.Addr()+path, nil))
	if user != "" {
		req.Header.Set("X-Remote-User", user)
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, string(must[[]byte](a.t)(io.ReadAll(resp.Body)))
}

// TestMetricsAPICertificate: an APIService with a caBundle takes a certificate that it can verify and no other.
func TestMetricsAPICertificate(t *testing.T) {
	a := newAggregated(t, steady("api", "api", 1))
	a.available("True")
	dir := t.TempDir()
	bundle := writeCertificate(t, dir, "sluice-metrics-api."+a.ns+".svc")
	a.patch(`{"spec":{"insecureSkipTLSVerify":null,"caBundle":"` + base64.StdEncoding.EncodeToString(bundle) + `"}}`)
	a.available("False") // sluice still shows one of its own making
	a.cfg.Cert, a.cfg.Key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	a.configure([]adminkubernetes.Upstream{steady("api", "api", 1)})
	a.available("True")
	within(t, 10*time.Second, "a value comes", func() bool { _, err := a.raw("", a.custom("ai_agent_queue_depth")); return err == nil })
}

// writeCertificate writes tls.crt and tls.key for a name and returns what verifies it.
func writeCertificate(t *testing.T, dir, name string) []byte {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))})
	der := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	for file, text := range map[string][]byte{"tls.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

// TestMetricsAPIManifests applies the demo with its autoscaler, twice.
func TestMetricsAPIManifests(t *testing.T) {
	s := ownServer(t)
	ns := s.namespace(t)
	manifests := render(t, ns, []string{"base", "demo"}, []string{"metrics-api", "metrics-api/demo"})
	for range 2 {
		s.kubectl(t, manifests, "apply", "-f", "-")
	}
	got := string(s.kubectl(t, nil, "-n", ns, "get", "hpa,service,configmap", "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.data.config\\.toml}{end}"))
	for _, want := range []string{"HorizontalPodAutoscaler/api", "Service/sluice-metrics-api", "[metrics_api]"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not there: %s", want, got)
		}
	}
	if service := string(s.kubectl(t, nil, "get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", "jsonpath={.spec.service.namespace}/{.spec.service.name}")); service != ns+"/sluice-metrics-api" {
		t.Errorf("the APIService is for %s", service)
	}
}
