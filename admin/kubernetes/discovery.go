package kubernetes

import (
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custombeta1 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	custombeta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalbeta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
)

// versions are what this server serves, the preferred one of a group first.
var versions = []schema.GroupVersion{custombeta2.SchemeGroupVersion, custombeta1.SchemeGroupVersion, externalbeta1.SchemeGroupVersion}

// services is the kind of object that metrics are of.
const services = "services"

// document is the discovery document that t names, as an object to be sent; nil for one that there is none of.
func document(t target) any {
	switch {
	case t.group == "":
		list := &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, name := range []string{customGroup, externalGroup} {
			list.Groups = append(list.Groups, *group(name))
		}
		return list
	case t.version == "":
		if g := group(t.group); len(g.Versions) > 0 {
			return g
		}
		return nil
	}
	gv := schema.GroupVersion{Group: t.group, Version: t.version}
	if !served(gv) {
		return nil
	}
	list := &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv.String()}
	for _, m := range metrics {
		r := metav1.APIResource{Name: m.name, Namespaced: true, Kind: kindOf(gv), Verbs: metav1.Verbs{"get"}}
		if gv.Group == customGroup {
			r.Name = services + "/" + m.name
		}
		list.APIResources = append(list.APIResources, r)
	}
	return list
}

func served(gv schema.GroupVersion) bool {
	for _, v := range versions {
		if v == gv {
			return true
		}
	}
	return false
}

func kindOf(gv schema.GroupVersion) string {
	if gv.Group == externalGroup {
		return "ExternalMetricValueList"
	}
	return "MetricValueList"
}

func group(name string) *metav1.APIGroup {
	g := &metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: name}
	for _, v := range versions {
		if v.Group == name {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: v.String(), Version: v.Version})
		}
	}
	if len(g.Versions) > 0 {
		g.PreferredVersion = g.Versions[0]
	}
	return g
}

// aggregatedType is the content type of all documents in one. The API server asks for it to make the discovery document
// of the whole cluster, and as a user without any right if it has to ask for the single ones.
const aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// wantsAggregated reads the field Accept.
func wantsAggregated(accept string) bool {
	for kind := range strings.SplitSeq(accept, ",") {
		if strings.ReplaceAll(kind, " ", "") == aggregatedType {
			return true
		}
	}
	return false
}

func aggregated() *discoveryv2.APIGroupDiscoveryList {
	list := &discoveryv2.APIGroupDiscoveryList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: discoveryv2.SchemeGroupVersion.String()}}
	for _, name := range []string{customGroup, externalGroup} {
		g := discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, gv := range versions {
			if gv.Group == name {
				g.Versions = append(g.Versions, discoveryv2.APIVersionDiscovery{Version: gv.Version, Freshness: discoveryv2.DiscoveryFreshnessCurrent, Resources: resources(gv)})
			}
		}
		list.Items = append(list.Items, g)
	}
	return list
}

func resources(gv schema.GroupVersion) (all []discoveryv2.APIResourceDiscovery) {
	kind := &metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: kindOf(gv)}
	if gv.Group == externalGroup {
		for _, m := range metrics {
			all = append(all, discoveryv2.APIResourceDiscovery{Resource: m.name, ResponseKind: kind, Scope: discoveryv2.ScopeNamespace, Verbs: []string{"get"}})
		}
		return all
	}
	of := discoveryv2.APIResourceDiscovery{Resource: services, ResponseKind: &metav1.GroupVersionKind{}, Scope: discoveryv2.ScopeNamespace, Verbs: []string{}}
	for _, m := range metrics {
		of.Subresources = append(of.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: m.name, ResponseKind: kind, Verbs: []string{"get"}})
	}
	return append(all, of)
}
