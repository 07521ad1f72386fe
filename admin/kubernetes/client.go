package kubernetes

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Client is all that this server asks of the API server, and what its roles have to allow.
type Client interface {
	// GetConfigMap is asked for kube-system/extension-apiserver-authentication.
	GetConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	// Review says whether somebody may do something.
	Review(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error)
}

type client struct{ core, authorization *rest.RESTClient }

// NewClient returns a client, safe for concurrent use; nothing is connected before its first call.
func NewClient(cfg *rest.Config) (Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, authorizationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c := &client{}
	for _, group := range []struct {
		api  **rest.RESTClient
		path string
		gv   schema.GroupVersion
	}{{&c.core, "/api", corev1.SchemeGroupVersion}, {&c.authorization, "/apis", authorizationv1.SchemeGroupVersion}} {
		cfg := rest.CopyConfig(cfg)
		cfg.APIPath, cfg.GroupVersion = group.path, &group.gv
		cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		api, err := rest.RESTClientFor(cfg)
		if err != nil {
			return nil, fmt.Errorf("a client for %s: %w", cfg.Host, err)
		}
		*group.api = api
	}
	return c, nil
}

// GetConfigMap is Client's.
func (c *client) GetConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	m := new(corev1.ConfigMap)
	err := c.core.Get().Namespace(namespace).Resource("configmaps").Name(name).Do(ctx).Into(m)
	return m, err
}

// Review is Client's.
func (c *client) Review(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	answer := new(authorizationv1.SubjectAccessReview)
	err := c.authorization.Post().Resource("subjectaccessreviews").Body(&authorizationv1.SubjectAccessReview{Spec: spec}).Do(ctx).Into(answer)
	return answer.Status, err
}
