package kubernetes

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
)

func TestParse(t *testing.T) {
	const custom, external = "/apis/custom.metrics.k8s.io", "/apis/external.metrics.k8s.io"
	for path, want := range map[string]target{
		"/apis":             {},
		"/apis/":            {},
		custom:              {group: customGroup},
		custom + "/v1beta2": {group: customGroup, version: "v1beta2"},
		custom + "/v1beta2/namespaces/shop/services/api/ai_agent_queue_depth": {group: customGroup, version: "v1beta2", namespace: "shop", resource: "services", name: "api", subresource: "ai_agent_queue_depth"},
		custom + "/v1beta2/namespaces/shop/services/*/x":                      {group: customGroup, version: "v1beta2", namespace: "shop", resource: "services", name: "*", subresource: "x"},
		custom + "/v1beta2/namespaces/shop/metrics/x":                         {group: customGroup, version: "v1beta2", namespace: "shop", resource: "metrics", name: "x"},
		custom + "/v1beta2/namespaces/shop":                                   {group: customGroup, version: "v1beta2", resource: "namespaces", name: "shop"},
		custom + "/v1beta2/nodes/a/x":                                         {group: customGroup, version: "v1beta2", resource: "nodes", name: "a", subresource: "x"},
		external + "/v1beta1/namespaces/shop/ai_agent_queue_depth":            {group: externalGroup, version: "v1beta1", namespace: "shop", resource: "ai_agent_queue_depth"},
	} {
		want.path = path
		if got, ok := parse(path); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", path, got, ok, want)
		}
	}
	for _, path := range []string{"/", "", "/api", "/healthz", "/apis//v1", custom + "/v1beta2//services", custom + "/v1/namespaces/shop/services/api/x/y"} {
		if got, ok := parse(path); ok {
			t.Errorf("%q is taken for %+v", path, got)
		}
	}
}

// TestReview: rights are asked for as the API server itself understands the same path.
func TestReview(t *testing.T) {
	who := caller{name: "ann", uid: "7", groups: []string{"dev"}, extra: map[string][]string{"scopes": {"a", "b"}}}
	value, _ := parse("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/services/api/x")
	spec := value.review(who)
	if got, want := *spec.ResourceAttributes, (authorizationv1.ResourceAttributes{Namespace: "shop", Verb: "get", Group: customGroup, Version: "v1beta2", Resource: "services", Name: "api", Subresource: "x"}); got != want {
		t.Errorf("custom: %+v", got)
	}
	if spec.User != "ann" || spec.UID != "7" || len(spec.Groups) != 1 || len(spec.Extra["scopes"]) != 2 || spec.NonResourceAttributes != nil {
		t.Errorf("who: %+v", spec)
	}
	external, _ := parse("/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/x")
	if got := external.review(who).ResourceAttributes; got.Verb != "list" || got.Resource != "x" || got.Namespace != "shop" {
		t.Errorf("external: %+v", got)
	}
	document, _ := parse("/apis/external.metrics.k8s.io")
	if got := document.review(who); got.ResourceAttributes != nil || *got.NonResourceAttributes != (authorizationv1.NonResourceAttributes{Path: "/apis/external.metrics.k8s.io", Verb: "get"}) {
		t.Errorf("document: %+v", got)
	}
}
