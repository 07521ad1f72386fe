// Package kubernetes shows the load of the upstreams to Kubernetes as metrics that a HorizontalPodAutoscaler scales on:
// it is an aggregated API server for custom.metrics.k8s.io (v1beta2 and v1beta1) and external.metrics.k8s.io (v1beta1),
// as the objects APIService of deploy/kubernetes/metrics-api announce it to the cluster.
//
// Only the cluster's own API server is answered. It passes on what its users ask and says with a client certificate
// that it is the one who passes it on, and in header fields who asks; whether they may is asked of it in return, by a
// SubjectAccessReview (https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/). So the API is
// called for two things: GET of the configmap kube-system/extension-apiserver-authentication, and CREATE of
// subjectaccessreviews.
//
// Values are means over the last seconds and not samples, so that it does not matter when they are asked for.
package kubernetes
