package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	custombeta1 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	custombeta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalbeta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"

	"sluice/admin"
)

// front asks a running server as the API server does.
type front struct {
	t       *testing.T
	server  *Server
	cluster *cluster
	a       *authority
	cert    *tls.Certificate
}

// newFront starts a server for these upstreams in the namespace shop.
func newFront(t *testing.T, upstreams ...Upstream) *front {
	t.Helper()
	f := &front{t: t, server: &Server{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, a: newAuthority(t)}
	f.cluster = newCluster(f.a)
	cert := f.a.certify("front-proxy", x509.ExtKeyUsageClientAuth)
	f.cert = &cert
	f.configure(admin.MetricsAPIConfig{Listen: "127.0.0.1:0", Window: 10 * time.Second}, upstreams)
	t.Cleanup(func() { f.server.Close(context.Background()) })
	return f
}

func (f *front) configure(cfg admin.MetricsAPIConfig, upstreams []Upstream) {
	f.t.Helper()
	c, err := f.server.Prepare(Config{MetricsAPIConfig: cfg, API: &rest.Config{Host: "https://127.0.0.1:1"}, Namespace: "shop"})
	if err != nil {
		f.t.Fatal(err)
	}
	if c.view != nil {
		c.view.proxy, c.view.reviewer = &frontProxy{cli: f.cluster, log: slog.New(slog.DiscardHandler)}, &reviewer{cli: f.cluster}
	}
	c.Commit(upstreams)
}

// ask sends a GET for the user, "" for none, and returns status code, content type and body.
func (f *front) ask(user, path string, accept ...string) (int, string, []byte) {
	f.t.Helper()
	return f.do(http.MethodGet, user, path, accept...)
}

func (f *front) do(method, user, path string, accept ...string) (int, string, []byte) {
	f.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // as with insecureSkipTLSVerify
	if f.cert != nil {
		config.Certificates = []tls.Certificate{*f.cert}
	}
	cli := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	req, err := http.NewRequest(method, "https://"+f.server.Addr()+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if user != "" {
		req.Header.Set("X-Remote-User", user)
	}
	if len(accept) > 0 {
		req.Header.Set("Accept", accept[0])
	}
	resp, err := cli.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), body
}

// get decodes what a user who may read is sent.
func get[T any](f *front, path string) T {
	f.t.Helper()
	var v T
	code, kind, body := f.ask("reader", path)
	if code != http.StatusOK || kind != "application/json" {
		f.t.Fatalf("%s: %d %s %s", path, code, kind, body)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		f.t.Fatalf("%s: %v: %s", path, err, body)
	}
	return v
}

// refused wants a Status with that code and a message that holds want.
func (f *front) refused(method, user, path string, code int, reason metav1.StatusReason, want string) {
	f.t.Helper()
	got, _, body := f.do(method, user, path)
	var s metav1.Status
	if err := json.Unmarshal(body, &s); err != nil {
		f.t.Errorf("%s: %v: %s", path, err, body)
	}
	if got != code || s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" || int(s.Code) != code || s.Reason != reason || !strings.Contains(s.Message, want) {
		f.t.Errorf("%s %s as %q: %d %s, want %d %s %q", method, path, user, got, body, code, reason, want)
	}
}

const (
	beta2    = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/"
	beta1    = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/services/"
	external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/"
)

// unmeasured shows these upstreams as if the server had never read their meters, and lets nobody but the test do so.
func (f *front) unmeasured(upstreams ...Upstream) *view {
	f.server.endpoint.cancel()
	f.server.endpoint.sampling.Wait()
	v := *f.server.endpoint.view.Load()
	v.windows, v.upstreams = &windows{}, upstreams
	f.server.endpoint.view.Store(&v)
	return &v
}

// measured shows these upstreams as if the server had read their meters 5 seconds ago.
func (f *front) measured(upstreams ...Upstream) {
	v := f.unmeasured(upstreams...)
	v.windows.sample(upstreams, time.Now().Add(-5*time.Second), v.window)
}

func TestValues(t *testing.T) {
	f := newFront(t)
	a, b := &meter{queued: 12, inFlight: 4, rate: 2}, &meter{queued: 30, inFlight: 1}
	f.measured(a.upstream("api", "api"), b.upstream("batch", "api"), (&meter{queued: 99}).upstream("elsewhere", ""))

	list := get[custombeta2.MetricValueList](f, beta2+"api/ai_agent_queue_depth")
	if list.Kind != "MetricValueList" || list.APIVersion != "custom.metrics.k8s.io/v1beta2" || len(list.Items) != 1 {
		t.Fatalf("%+v", list)
	}
	item := list.Items[0]
	if o := item.DescribedObject; o.Kind != "Service" || o.APIVersion != "v1" || o.Namespace != "shop" || o.Name != "api" {
		t.Errorf("object %+v", o)
	}
	if got := item.Value.AsApproximateFloat64(); got < 41.9 || got > 42.1 || item.Metric.Name != "ai_agent_queue_depth" || *item.WindowSeconds != 10 || time.Since(item.Timestamp.Time) > time.Minute {
		t.Errorf("the sum of two upstreams of one Service: %+v", item)
	}
	for name, want := range map[string]float64{"sluice_upstream_queue_depth": 12, "sluice_upstream_in_flight": 4, "sluice_upstream_concurrency": 16, "sluice_upstream_arrival_rate": 2} {
		one := get[custombeta2.MetricValueList](f, beta2+"api/"+name+"?metricLabelSelector="+url.QueryEscape("upstream=api")).Items[0]
		if got := one.Value.AsApproximateFloat64(); got < want-.3 || got > want+.3 || one.Metric.Selector.MatchLabels["upstream"] != "api" {
			t.Errorf("%s: %+v, want %v", name, one, want)
		}
	}
	old := get[custombeta1.MetricValueList](f, beta1+"api/sluice_upstream_queue_depth")
	if len(old.Items) != 1 || old.APIVersion != "custom.metrics.k8s.io/v1beta1" || old.Items[0].MetricName != "sluice_upstream_queue_depth" || old.Items[0].Value.AsApproximateFloat64() < 41.9 {
		t.Errorf("%+v", old)
	}
	all := get[externalbeta1.ExternalMetricValueList](f, external+"ai_agent_queue_depth")
	if len(all.Items) != 3 || all.Kind != "ExternalMetricValueList" {
		t.Errorf("%+v", all)
	}
	one := get[externalbeta1.ExternalMetricValueList](f, external+"ai_agent_queue_depth?labelSelector="+url.QueryEscape("upstream in (elsewhere)"))
	if len(one.Items) != 1 || one.Items[0].MetricLabels["upstream"] != "elsewhere" || one.Items[0].MetricName != "ai_agent_queue_depth" || one.Items[0].Value.AsApproximateFloat64() < 98 {
		t.Errorf("%+v", one)
	}

	for path, want := range map[string]string{
		beta2 + "none/ai_agent_queue_depth": "no upstream has the Service none",
		beta2 + "api/queue":                 `no metric "queue"`,
		beta2 + "api/ai_agent_queue_depth?metricLabelSelector=upstream%3Dno":       "with upstream=no",
		strings.Replace(beta2, "services", "pods", 1) + "api/ai_agent_queue_depth": "no metric",
		strings.Replace(beta2, "shop", "else", 1) + "api/ai_agent_queue_depth":     `in the namespace "else"`,
		strings.Replace(external, "shop", "else", 1) + "ai_agent_queue_depth":      `in the namespace "else"`,
		external + "queue": `no metric "queue"`,
		external + "ai_agent_queue_depth?labelSelector=upstream%3Dno": "no upstream with upstream=no",
		strings.Replace(beta2, "v1beta2", "v1", 1) + "api/x":          "could not find",
		"/openapi/v2": "could not find",
		"/apis/apps":  "could not find",
	} {
		f.refused(http.MethodGet, "reader", path, http.StatusNotFound, metav1.StatusReasonNotFound, want)
	}
	f.refused(http.MethodGet, "reader", beta2+"*/ai_agent_queue_depth", http.StatusBadRequest, metav1.StatusReasonBadRequest, "by its name")
	f.refused(http.MethodGet, "reader", beta2+"api/ai_agent_queue_depth?metricLabelSelector=%3D%3D", http.StatusBadRequest, metav1.StatusReasonBadRequest, "metricLabelSelector")
	f.refused(http.MethodGet, "reader", external+"ai_agent_queue_depth?watch=true", http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "watch")
	f.refused(http.MethodDelete, "reader", beta2+"api/ai_agent_queue_depth", http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, "delete")
}

func TestWhoMayAsk(t *testing.T) {
	f := newFront(t)
	f.unmeasured((&meter{queued: 1}).upstream("api", "api"))
	path := beta2 + "api/ai_agent_queue_depth"
	f.refused(http.MethodGet, "ann", path, http.StatusForbidden, metav1.StatusReasonForbidden, `User "ann" cannot get resource "services/ai_agent_queue_depth" in API group "custom.metrics.k8s.io" in the namespace "shop": the test says so`)
	f.refused(http.MethodGet, "ann", "/apis/custom.metrics.k8s.io", http.StatusForbidden, metav1.StatusReasonForbidden, `cannot get path`)
	f.refused(http.MethodGet, "ann", "/openapi/v2", http.StatusNotFound, metav1.StatusReasonNotFound, "could not find")
	f.refused(http.MethodGet, "ann", beta2+"none/x", http.StatusForbidden, metav1.StatusReasonForbidden, "cannot get") // what is not there is no secret to be found out
	f.refused(http.MethodGet, "reader", path, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "not measured yet")
	f.cluster.set(func() { f.cluster.err = errors.New("away") })
	f.refused(http.MethodGet, "bob", path, http.StatusInternalServerError, metav1.StatusReasonInternalError, "away")
	f.cluster.set(func() { f.cluster.err = nil })

	f.cert = nil
	f.refused(http.MethodGet, "reader", path, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "only the API server's front proxy")
	f.refused(http.MethodGet, "", "/apis", http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "only the API server's front proxy")
	strangers := newAuthority(t).certify("front-proxy", x509.ExtKeyUsageClientAuth)
	f.cert = &strangers
	f.refused(http.MethodGet, "reader", path, http.StatusUnauthorized, metav1.StatusReasonUnauthorized, "only the API server's front proxy")
}

func TestDocuments(t *testing.T) {
	f := newFront(t)
	if list := get[metav1.APIGroupList](f, "/apis"); list.Kind != "APIGroupList" || len(list.Groups) != 2 || list.Groups[0].PreferredVersion.Version != "v1beta2" || len(list.Groups[0].Versions) != 2 || list.Groups[1].PreferredVersion.GroupVersion != "external.metrics.k8s.io/v1beta1" {
		t.Errorf("%+v", list)
	}
	if g := get[metav1.APIGroup](f, "/apis/external.metrics.k8s.io"); g.Kind != "APIGroup" || g.Name != externalGroup {
		t.Errorf("%+v", g)
	}
	list := get[metav1.APIResourceList](f, "/apis/custom.metrics.k8s.io/v1beta1")
	if list.Kind != "APIResourceList" || list.GroupVersion != "custom.metrics.k8s.io/v1beta1" || len(list.APIResources) != len(metrics) ||
		!reflect.DeepEqual(list.APIResources[0], metav1.APIResource{Name: "services/ai_agent_queue_depth", Namespaced: true, Kind: "MetricValueList", Verbs: metav1.Verbs{"get"}}) {
		t.Errorf("%+v", list)
	}
	if r := get[metav1.APIResourceList](f, "/apis/external.metrics.k8s.io/v1beta1").APIResources[0]; r.Name != "ai_agent_queue_depth" || r.Kind != "ExternalMetricValueList" {
		t.Errorf("%+v", r)
	}
	code, kind, body := f.ask("reader", "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, application/json")
	var all discoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(body, &all); err != nil || code != http.StatusOK || kind != aggregatedType {
		t.Fatalf("%d %s %v: %s", code, kind, err, body)
	}
	if len(all.Items) != 2 || len(all.Items[0].Versions) != 2 || len(all.Items[0].Versions[0].Resources[0].Subresources) != len(metrics) || len(all.Items[1].Versions[0].Resources) != len(metrics) {
		t.Errorf("%s", body)
	}
}

// TestReconfigure: the address stays while all else changes, and another one is opened before the old one closes.
func TestReconfigure(t *testing.T) {
	f := newFront(t)
	first := f.server.endpoint
	f.configure(admin.MetricsAPIConfig{Listen: "127.0.0.1:0", Window: 20 * time.Second}, nil)
	if f.server.endpoint != first || first.view.Load().window != 20*time.Second {
		t.Error("the listener was opened anew")
	}
	get[metav1.APIGroupList](f, "/apis")
	if _, err := f.server.Prepare(Config{MetricsAPIConfig: admin.MetricsAPIConfig{Listen: first.l.Addr().String(), Window: time.Second}, API: &rest.Config{}, Namespace: "shop"}); err == nil {
		t.Error("an address that is taken is opened")
	}
	if _, err := f.server.Prepare(Config{MetricsAPIConfig: admin.MetricsAPIConfig{Listen: ":0", Cert: "/none", Key: "/none"}, API: &rest.Config{}}); err == nil || !strings.Contains(err.Error(), "metrics_api.cert") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	get[metav1.APIGroupList](f, "/apis")
	f.configure(admin.MetricsAPIConfig{Listen: "localhost:0", Window: time.Second}, nil)
	if f.server.endpoint == first {
		t.Error("the address did not change")
	}
	get[metav1.APIGroupList](f, "/apis")
	files, err := f.server.Files()
	if err != nil || files["localhost:0"] == nil {
		t.Errorf("files for a successor: %v %v", files, err)
	}
	for _, file := range files {
		file.Close()
	}
	f.configure(admin.MetricsAPIConfig{Listen: "off", Window: time.Second}, nil)
	if f.server.endpoint != nil {
		t.Error("it is on")
	}
}

// TestCertificateIsReplaced while the server runs, as a Secret in a volume is.
func TestCertificateIsReplaced(t *testing.T) {
	f := newFront(t)
	dir := t.TempDir()
	cfg := admin.MetricsAPIConfig{Listen: "127.0.0.1:0", Window: time.Second, Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	write := func(a *authority, at time.Time) {
		pair := a.certify("sluice", x509.ExtKeyUsageServerAuth)
		der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{cfg.Cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, cfg.Key: {Type: "PRIVATE KEY", Bytes: der}} {
			if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	trusts := func(a *authority) error {
		pool := x509.NewCertPool()
		pool.AddCert(a.cert)
		c, err := tls.Dial("tcp", f.server.Addr(), &tls.Config{RootCAs: pool, ServerName: "sluice.shop.svc"})
		if err == nil {
			c.Close()
		}
		return err
	}
	one, two := newAuthority(t), newAuthority(t)
	write(one, time.Unix(1, 0))
	f.configure(cfg, nil)
	if err := trusts(one); err != nil {
		t.Error(err)
	}
	write(two, time.Unix(2, 0))
	if err := trusts(two); err != nil {
		t.Errorf("after it was replaced: %v", err)
	}
	if err := os.WriteFile(cfg.Key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trusts(two); err != nil {
		t.Errorf("while it is broken: %v", err)
	}
	write(one, time.Unix(3, 0))
	if err := trusts(one); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}
