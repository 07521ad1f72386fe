package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// slice makes one of endpoints "IP[/UID][!][*]": ! is not ready, * being terminated.
func slice(family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(family, endpoints)}, AddressType: family, Ports: ports}
	for _, text := range endpoints {
		ip, uid, ofPod := strings.Cut(strings.TrimRight(text, "!*"), "/")
		e := discoveryv1.Endpoint{Addresses: []string{ip}}
		if ofPod {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: "pod-" + uid, UID: types.UID(uid)}
		}
		if strings.Contains(text, "!") {
			e.Conditions.Ready = new(false)
		}
		if strings.Contains(text, "*") {
			e.Conditions.Terminating, e.Conditions.Serving = new(true), new(true)
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func ports(numbers ...int32) (all []discoveryv1.EndpointPort) {
	for _, n := range numbers {
		all = append(all, discoveryv1.EndpointPort{Name: new(fmt.Sprint("p", n)), Port: &n})
	}
	return all
}

func TestServers(t *testing.T) {
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	type list = []*discoveryv1.EndpointSlice
	for _, one := range []struct {
		what       string
		query      Query
		slices     list
		want, note string
	}{
		{"no slice at all", Query{}, nil, "", "no such Service"},
		{"the placeholder of a Service without pods", Query{}, list{slice(v4, nil)}, "", ""},
		{"two pods", Query{}, list{slice(v4, ports(80), "10.0.0.2/b", "10.0.0.1/a")}, "a=10.0.0.1:80 b=10.0.0.2:80", ""},
		{"not ready", Query{}, list{slice(v4, ports(80), "10.0.0.1/a!", "10.0.0.2/b")}, "b=10.0.0.2:80", "pod-a its pod is not ready"},
		{"terminating, still serving", Query{}, list{slice(v4, ports(80), "10.0.0.1/a*", "10.0.0.2/b")}, "b=10.0.0.2:80", "pod-a it is being stopped"},
		{"in two slices, one of them old", Query{}, list{slice(v4, ports(80), "10.0.0.1/a"), slice(v4, ports(80), "10.0.0.1/a*")}, "", "being stopped"},
		{"an address that another pod has by now", Query{}, list{slice(v4, ports(80), "10.0.0.1/a*", "10.0.0.1/b")}, "b=10.0.0.1:80", "pod-a"},
		{"both families", Query{}, list{slice(v6, ports(80), "fd00::1/a"), slice(v4, ports(80), "10.0.0.1/a")}, "a=10.0.0.1:80", ""},
		{"both families, IPv4 without pods yet", Query{}, list{slice(v6, ports(80), "fd00::1/a"), slice(v4, nil)}, "", ""},
		{"IPv6 alone", Query{}, list{slice(v6, ports(80), "fd00::1/a")}, "a=[fd00::1]:80", ""},
		{"names are no addresses", Query{}, list{slice(discoveryv1.AddressTypeFQDN, ports(80), "a.test")}, "", ""},
		{"without a pod", Query{}, list{slice(v4, ports(80), "10.0.0.1")}, "10.0.0.1:80=10.0.0.1:80", ""},
		{"several ports", Query{}, list{slice(v4, ports(80, 90), "10.0.0.1/a")}, "", "several ports (80 p80, 90 p90)"},
		{"several ports, by number", Query{Port: 90}, list{slice(v4, ports(80, 90), "10.0.0.1/a")}, "a=10.0.0.1:90", ""},
		{"one name, other numbers", Query{PortName: "p80"}, list{slice(v4, ports(80), "10.0.0.1/a"), slice(v4, []discoveryv1.EndpointPort{{Name: new("p80"), Port: new(int32(81))}}, "10.0.0.2/b")}, "a=10.0.0.1:80 b=10.0.0.2:81", ""},
		{"the Service's number is not the pods'", Query{Port: 443}, list{slice(v4, ports(80), "10.0.0.1/a")}, "", "no port 443 in its pods, only 80 p80"},
		{"UDP is no port", Query{}, list{slice(v4, []discoveryv1.EndpointPort{{Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)}}, "10.0.0.1/a")}, "", "no TCP port"},
		{"headless without ports", Query{Port: 80}, list{slice(v4, nil, "10.0.0.1/a")}, "a=10.0.0.1:80", ""},
	} {
		one.query.Service = "api"
		specs, notes := one.query.servers(one.slices)
		var got, why []string
		for _, s := range specs {
			got = append(got, s.ID+"="+s.Addr)
		}
		for _, n := range notes {
			why = append(why, n.Name+" "+n.Why)
		}
		if strings.Join(got, " ") != one.want || !strings.Contains(strings.Join(why, "; "), one.note) || one.note == "" && len(why) > 0 {
			t.Errorf("%s: %v, notes %q; want %q, %q", one.what, got, why, one.want, one.note)
		}
	}
}

func TestServerID(t *testing.T) {
	if id := ServerID("6f8c6d6e-1a2b-4c3d-9e8f-001122334455"); id != "6f8c6d6e1a2b" {
		t.Error(id)
	}
}

// TestConnect: $KUBECONFIG says where, and the namespace it names is meant unless another is.
func TestConnect(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	if _, err := Connect(""); err != ErrNoCluster && !InCluster() {
		t.Errorf("nowhere: %v", err)
	}
	file := t.TempDir() + "/config"
	write(t, file, "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: c, user: u, namespace: team-a}}]\ncurrent-context: x\n")
	t.Setenv("KUBECONFIG", file)
	c, err := Connect("")
	if err != nil || c.Namespace != "team-a" || c.Server != "https://10.0.0.1:6443" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := Connect("team-b"); err != nil || c.Namespace != "team-b" {
		t.Errorf("%+v, %v", c, err)
	}
	write(t, file, "no: config: at all")
	if _, err := Connect(""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("an invalid file: %v", err)
	}
}
