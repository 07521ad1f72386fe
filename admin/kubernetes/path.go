package kubernetes

import (
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
)

const (
	customGroup   = "custom.metrics.k8s.io"
	externalGroup = "external.metrics.k8s.io"
)

// target is what a path names, as Kubernetes reads it: that is also what rights are given to.
type target struct {
	path           string
	group, version string // "" above them
	// resource and the rest are "" for a discovery document. For custom metrics resource is the kind of object, name its
	// name and subresource the metric; for external ones resource is the metric.
	namespace, resource, name, subresource string
}

// parse reads a path; false for one that is none of this server's.
func parse(path string) (target, bool) {
	t := target{path: path}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] != "apis" {
		return t, false
	}
	for _, part := range parts {
		if part == "" {
			return t, false
		}
	}
	next := func(to *string, from int) {
		if from < len(parts) {
			*to = parts[from]
		}
	}
	next(&t.group, 1)
	next(&t.version, 2)
	rest := 3
	if len(parts) > 5 && parts[3] == "namespaces" {
		t.namespace = parts[4]
		rest = 5
	}
	next(&t.resource, rest)
	next(&t.name, rest+1)
	next(&t.subresource, rest+2)
	return t, len(parts) <= rest+3
}

// verb is what reading t is called where rights are given.
func (t target) verb() string {
	if t.resource != "" && t.name == "" {
		return "list"
	}
	return "get"
}

// review asks whether somebody may read t.
func (t target) review(who caller) authorizationv1.SubjectAccessReviewSpec {
	spec := authorizationv1.SubjectAccessReviewSpec{User: who.name, UID: who.uid, Groups: who.groups}
	if len(who.extra) > 0 {
		spec.Extra = make(map[string]authorizationv1.ExtraValue, len(who.extra))
		for key, values := range who.extra {
			spec.Extra[key] = values
		}
	}
	if t.resource == "" {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: t.path, Verb: t.verb()}
		return spec
	}
	spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
		Namespace: t.namespace, Verb: t.verb(), Group: t.group, Version: t.version,
		Resource: t.resource, Name: t.name, Subresource: t.subresource,
	}
	return spec
}
