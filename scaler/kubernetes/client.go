package kubernetes

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Client is all that the driver asks of an API server, and what its Role has to allow.
type Client interface {
	// GetScale and UpdateScale use the subresource scale of a workload, whose resource is deployments or statefulsets.
	GetScale(ctx context.Context, namespace, resource, name string) (*autoscalingv1.Scale, error)
	UpdateScale(ctx context.Context, namespace, resource string, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error)
	ListAutoscalers(ctx context.Context, namespace string) (*autoscalingv2.HorizontalPodAutoscalerList, error)
	GetService(ctx context.Context, namespace, name string) (*corev1.Service, error)
	ListPods(ctx context.Context, namespace, selector string) (*corev1.PodList, error)
	// ListPodMetrics asks the metrics API, which not every cluster has; its right is a Role of its own.
	ListPodMetrics(ctx context.Context, namespace, selector string) (*metricsv1beta1.PodMetricsList, error)
	// PatchPod applies a JSON merge patch (RFC 7386).
	PatchPod(ctx context.Context, namespace, name string, patch []byte) error
	// ResizePod applies a strategic merge patch to the subresource resize of a pod; its right is a Role of its own.
	ResizePod(ctx context.Context, namespace, name string, patch []byte) error
}

// client has one connection's worth of clients, of the kinds of objects that are used and no others.
type client struct {
	apps, autoscaling, core, metrics *rest.RESTClient
	params                           runtime.ParameterCodec
}

// NewClient returns a client, safe for concurrent use; nothing is connected before its first call.
func NewClient(cfg *rest.Config) (Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	apps := schema.GroupVersion{Group: "apps", Version: "v1"}
	metav1.AddToGroupVersion(scheme, apps)
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, metricsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	c := &client{params: runtime.NewParameterCodec(scheme)}
	for _, group := range []struct {
		api  **rest.RESTClient
		path string
		gv   schema.GroupVersion
	}{
		{&c.apps, "/apis", apps}, {&c.autoscaling, "/apis", autoscalingv2.SchemeGroupVersion}, {&c.core, "/api", corev1.SchemeGroupVersion},
		{&c.metrics, "/apis", metricsv1beta1.SchemeGroupVersion},
	} {
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

// GetScale is Client's.
func (c *client) GetScale(ctx context.Context, namespace, resource, name string) (*autoscalingv1.Scale, error) {
	scale := new(autoscalingv1.Scale)
	err := c.apps.Get().Namespace(namespace).Resource(resource).Name(name).SubResource("scale").Do(ctx).Into(scale)
	return scale, err
}

// UpdateScale is Client's.
func (c *client) UpdateScale(ctx context.Context, namespace, resource string, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	written := new(autoscalingv1.Scale)
	err := c.apps.Put().Namespace(namespace).Resource(resource).Name(scale.Name).SubResource("scale").
		VersionedParams(&metav1.UpdateOptions{FieldManager: "sluice"}, c.params).Body(scale).Do(ctx).Into(written)
	return written, err
}

// ListAutoscalers is Client's.
func (c *client) ListAutoscalers(ctx context.Context, namespace string) (*autoscalingv2.HorizontalPodAutoscalerList, error) {
	list := new(autoscalingv2.HorizontalPodAutoscalerList)
	err := c.autoscaling.Get().Namespace(namespace).Resource("horizontalpodautoscalers").Do(ctx).Into(list)
	return list, err
}

// GetService is Client's.
func (c *client) GetService(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	service := new(corev1.Service)
	err := c.core.Get().Namespace(namespace).Resource("services").Name(name).Do(ctx).Into(service)
	return service, err
}

// ListPods is Client's.
func (c *client) ListPods(ctx context.Context, namespace, selector string) (*corev1.PodList, error) {
	list := new(corev1.PodList)
	err := c.core.Get().Namespace(namespace).Resource("pods").VersionedParams(&metav1.ListOptions{LabelSelector: selector}, c.params).Do(ctx).Into(list)
	return list, err
}

// ListPodMetrics is Client's.
func (c *client) ListPodMetrics(ctx context.Context, namespace, selector string) (*metricsv1beta1.PodMetricsList, error) {
	list := new(metricsv1beta1.PodMetricsList)
	err := c.metrics.Get().Namespace(namespace).Resource("pods").VersionedParams(&metav1.ListOptions{LabelSelector: selector}, c.params).Do(ctx).Into(list)
	return list, err
}

// PatchPod is Client's.
func (c *client) PatchPod(ctx context.Context, namespace, name string, patch []byte) error {
	return c.core.Patch(types.MergePatchType).Namespace(namespace).Resource("pods").Name(name).
		VersionedParams(&metav1.PatchOptions{FieldManager: "sluice"}, c.params).Body(patch).Do(ctx).Error()
}

// ResizePod is Client's.
func (c *client) ResizePod(ctx context.Context, namespace, name string, patch []byte) error {
	return c.core.Patch(types.StrategicMergePatchType).Namespace(namespace).Resource("pods").Name(name).SubResource("resize").
		VersionedParams(&metav1.PatchOptions{FieldManager: "sluice"}, c.params).Body(patch).Do(ctx).Error()
}
