package kubernetes_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"sluice/config"
	"sluice/peers"
	peerskubernetes "sluice/peers/kubernetes"
	"sluice/peers/storetest"
)

const peersService = "sluice-peers"

// peersManifests applies what a user of several gateways applies, twice, with the secret that is the user's to make.
func (s *apiServer) peersManifests(t *testing.T, ns string) {
	t.Helper()
	s.kubectl(t, nil, "-n", ns, "create", "secret", "generic", peersService, "--from-literal=token=0123456789abcdef0123456789abcdef")
	manifests := render(t, ns, []string{"base", "demo"}, []string{"scaling", "peers"})
	for range 2 {
		s.kubectl(t, manifests, "apply", "-f", "-")
	}
}

func newStore(t *testing.T, cfg *rest.Config, ns, name string) *peerskubernetes.Store {
	t.Helper()
	return must[*peerskubernetes.Store](t)(peerskubernetes.NewStore(cfg, ns, name))
}

// TestPeersLease keeps the record of a lease with the rights of the shipped Role, and no other.
func TestPeersLease(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	s.peersManifests(t, ns)
	cfg, as := s.asAccount(t, ns)
	within(t, 10*time.Second, "the Role counts", func() bool {
		_, err := as.CoordinationV1().Leases(ns).Get(t.Context(), peersService, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	storetest.Check(t, func() peers.Store { return newStore(t, cfg, ns, peersService) })

	// What others have put into the object stays, and people read it as any Lease.
	s.kubectl(t, nil, "-n", ns, "annotate", "lease", peersService, "note=mine")
	store := newStore(t, cfg, ns, peersService)
	was := must[*coordinationv1.Lease](t)(s.admin.CoordinationV1().Leases(ns).Get(t.Context(), peersService, metav1.GetOptions{}))
	_, version, err := store.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	renewed := time.Now().Add(-time.Minute)
	for beat := range uint64(2) {
		if version, err = store.Update(t.Context(), peers.Record{Holder: "gateway", Term: 99, Beat: beat, Renewed: renewed}, version); err != nil {
			t.Fatal(err)
		}
	}
	now := must[*coordinationv1.Lease](t)(s.admin.CoordinationV1().Leases(ns).Get(t.Context(), peersService, metav1.GetOptions{}))
	if *now.Spec.LeaseTransitions != *was.Spec.LeaseTransitions+1 || now.Annotations["note"] != "mine" || !now.Spec.RenewTime.Equal(&metav1.MicroTime{Time: renewed.Truncate(time.Microsecond)}) {
		t.Errorf("before %+v, after %+v %v", was.Spec, now.Spec, now.Annotations)
	}
	if got := string(s.kubectl(t, nil, "-n", ns, "get", "lease", peersService)); !strings.Contains(got, " gateway ") {
		t.Errorf("kubectl get lease:\n%s", got)
	}

	// No other Lease, and no more than that of this one.
	must[*coordinationv1.Lease](t)(s.admin.CoordinationV1().Leases(ns).Create(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{}))
	if _, _, err := newStore(t, cfg, ns, "other").Get(t.Context()); err == nil || !strings.Contains(err.Error(), "may not read the Lease "+ns+"/other") {
		t.Errorf("another Lease: %v", err)
	}
	if err := as.CoordinationV1().Leases(ns).Delete(t.Context(), peersService, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deleted: %v", err)
	}
	if _, err := as.CoordinationV1().Leases(ns).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listed: %v", err)
	}
	if _, err := as.CoreV1().Secrets(ns).Get(t.Context(), peersService, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("the secret was read: %v", err)
	}

	// A namespace that is not there says nothing of a record.
	if _, err := newStore(t, s.config, "nowhere", peersService).Create(t.Context(), peers.Record{Holder: "x", Term: 1}); err == nil || errors.Is(err, peers.ErrNoRecord) || errors.Is(err, peers.ErrConflict) {
		t.Errorf("in no namespace: %v", err)
	}
	// An empty Lease, made by whoever does not let sluice create one.
	s.kubectl(t, []byte("apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: empty}\n"), "-n", ns, "apply", "-f", "-")
	empty := newStore(t, s.config, ns, "empty")
	r, version, err := empty.Get(t.Context())
	if err != nil || r != (peers.Record{}) {
		t.Errorf("an empty Lease: %+v, %v", r, err)
	}
	if _, err := empty.Update(t.Context(), peers.Record{Holder: "x", Term: 1, Renewed: renewed}, version); err != nil {
		t.Error(err)
	}
}

// TestPeersDirectory: every pod of the Service once, also while it is not ready or terminates.
func TestPeersDirectory(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	s.peersManifests(t, ns)
	cfg, _ := s.asAccount(t, ns)
	d := must[*peerskubernetes.Directory](t)(peerskubernetes.NewDirectory(cfg, ns, peersService))
	within(t, 10*time.Second, "the Role counts", func() bool { _, err := d.Addresses(t.Context()); return err == nil })
	want := func(want ...string) {
		t.Helper()
		got, err := d.Addresses(t.Context())
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	}
	want()
	a, b, c := newEndpoint("10.1.0.1"), newEndpoint("10.1.0.2"), newEndpoint("10.1.0.3")
	b.ready, b.serving = false, false
	c.terminating = true
	writeSlice(t, s.admin, ns, peersService, "v4-1", 9903, a, b)
	writeSlice(t, s.admin, ns, peersService, "v4-2", 9904, c)
	writeSlice(t, s.admin, ns, "sluice", "front", 8080, newEndpoint("10.1.0.9"))
	writeSlice(t, s.admin, ns, peersService, "none", 9903)
	want("10.1.0.1:9903", "10.1.0.2:9903", "10.1.0.3:9904")

	six := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "v6", Labels: map[string]string{discoveryv1.LabelServiceName: peersService}},
		AddressType: discoveryv1.AddressTypeIPv6,
		Ports: []discoveryv1.EndpointPort{
			{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}, {Name: new("peers"), Port: new(int32(9903)), Protocol: new(corev1.ProtocolTCP)},
		},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: a.uid}}, {Addresses: []string{"fd00::4"}}},
	}
	six = must[*discoveryv1.EndpointSlice](t)(s.admin.DiscoveryV1().EndpointSlices(ns).Create(t.Context(), six, metav1.CreateOptions{}))
	want("10.1.0.1:9903", "10.1.0.2:9903", "10.1.0.3:9904", "[fd00::4]:9903")
	six.Ports[1].Name = new("other")
	must[*discoveryv1.EndpointSlice](t)(s.admin.DiscoveryV1().EndpointSlices(ns).Update(t.Context(), six, metav1.UpdateOptions{}))
	if got, err := d.Addresses(t.Context()); err == nil || !strings.Contains(err.Error(), "none is called peers") {
		t.Errorf("which port? %v, %v", got, err)
	}
}

// TestPeersManifests: two gateways, whose configuration is the base's with [peers].
func TestPeersManifests(t *testing.T) {
	base, several := string(must[[]byte](t)(os.ReadFile("base/config.toml"))), string(must[[]byte](t)(os.ReadFile("peers/config.toml")))
	before, rest, _ := strings.Cut(several, "[peers]\n")
	_, after, _ := strings.Cut(rest, "\n\n")
	if before+after != base {
		t.Error("peers/config.toml is not base/config.toml with a table [peers]")
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("config.toml", []byte(strings.ReplaceAll(several, "file:/etc/sluice-peers/token", "file:"+token))); err != nil {
		t.Error(err)
	}
	s := server(t)
	ns := s.namespace(t)
	s.peersManifests(t, ns)
	const what = "{.spec.replicas} {.spec.template.spec.volumes[*].name} {.spec.template.spec.containers[0].ports[*].name} {.spec.template.spec.containers[0].volumeMounts[*].name}"
	got, want := strings.Fields(string(s.kubectl(t, nil, "-n", ns, "get", "deployment", "sluice", "-o", "jsonpath="+what))), []string{"2", "config", "config", "http", "metrics", "peers", "peers", "peers"}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := string(s.kubectl(t, nil, "-n", ns, "get", "service", peersService, "-o", "jsonpath={.spec.clusterIP} {.spec.publishNotReadyAddresses}")); got != "None true" {
		t.Error(got)
	}
	if got := string(s.kubectl(t, nil, "-n", ns, "get", "configmap", "-o", "jsonpath={.items[*].data.config\\.toml}")); strings.Count(got, "[peers]") != 1 || !strings.Contains(got, fmt.Sprintf("service = %q", peersService)) {
		t.Errorf("configuration:\n%s", got)
	}
}
