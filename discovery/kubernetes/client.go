package kubernetes

import (
	"context"
	"fmt"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// Client makes discovery's calls of an API server. It knows the one kind of object it reads: client-go's own set of
// clients knows all, which costs every sluice 13 MB of program and 10 MB of memory. Safe for concurrent use.
type Client struct {
	api    *rest.RESTClient
	params runtime.ParameterCodec
}

// NewClient returns a client; nothing is connected before its first call.
func NewClient(cfg *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := discoveryv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath, cfg.GroupVersion = "/apis", &discoveryv1.SchemeGroupVersion
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	api, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("a client for %s: %w", cfg.Host, err)
	}
	return &Client{api, runtime.NewParameterCodec(scheme)}, nil
}

func (c *Client) list(ctx context.Context, namespace string, options metav1.ListOptions) (*discoveryv1.EndpointSliceList, error) {
	list := new(discoveryv1.EndpointSliceList)
	err := c.api.Get().Namespace(namespace).Resource("endpointslices").VersionedParams(&options, c.params).Do(ctx).Into(list)
	return list, err
}

func (c *Client) watch(ctx context.Context, namespace string, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	return c.api.Get().Namespace(namespace).Resource("endpointslices").VersionedParams(&options, c.params).Watch(ctx)
}
