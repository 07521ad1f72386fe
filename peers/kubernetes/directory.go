package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// portName is the port of the Service that the gateways ask each other on, where it has several.
const portName = "peers"

// Directory is a peers.Directory: the endpoints of sluice's own Service, ready or not. A pod stays one as long as its
// object is there, so one that is terminating is asked to the end.
type Directory struct {
	api                *rest.RESTClient
	params             runtime.ParameterCodec
	namespace, service string
}

// NewDirectory is that of a Service.
func NewDirectory(cfg *rest.Config, namespace, service string) (*Directory, error) {
	api, params, err := newClient(cfg, discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Directory{api, params, namespace, service}, nil
}

// Addresses is peers.Directory's. The list is asked for without a resourceVersion, so that it holds all that was
// written before (Kubernetes API concepts, "Resource versions").
func (d *Directory) Addresses(ctx context.Context) ([]string, error) {
	list := new(discoveryv1.EndpointSliceList)
	options := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + d.service}
	err := d.api.Get().Namespace(d.namespace).Resource("endpointslices").VersionedParams(&options, d.params).Do(ctx).Into(list)
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("the service account may not list endpointslices in the namespace %s (the base of deploy/kubernetes has the Role): %w", d.namespace, err)
	case err != nil:
		return nil, fmt.Errorf("list the endpoints of the Service %s/%s: %w", d.namespace, d.service, err)
	}
	return addresses(list.Items)
}

// addresses are one for each pod: in a cluster of two families it has an endpoint in each.
func addresses(slices []discoveryv1.EndpointSlice) ([]string, error) {
	var all []string
	seen := map[types.UID]bool{}
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		of := map[types.UID]bool{}
		for _, slice := range slices {
			if slice.AddressType != family || len(slice.Endpoints) == 0 {
				continue
			}
			port, err := portOf(&slice)
			if err != nil {
				return nil, fmt.Errorf("the EndpointSlice %s: %w", slice.Name, err)
			}
			for _, e := range slice.Endpoints {
				if e.TargetRef != nil && e.TargetRef.UID != "" {
					if seen[e.TargetRef.UID] {
						continue
					}
					of[e.TargetRef.UID] = true
				}
				if len(e.Addresses) > 0 { // all are of the same pod
					all = append(all, net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)))
				}
			}
		}
		for uid := range of {
			seen[uid] = true
		}
	}
	return all, nil
}

func portOf(slice *discoveryv1.EndpointSlice) (int, error) {
	var only *int32
	for _, p := range slice.Ports {
		if p.Port == nil {
			continue
		}
		if p.Name != nil && *p.Name == portName {
			return int(*p.Port), nil
		}
		if only != nil {
			return 0, errors.New("it has several ports, and none is called " + portName)
		}
		only = p.Port
	}
	if only == nil {
		return 0, errors.New("it has no port: the Service needs one called " + portName)
	}
	return int(*only), nil
}
