// Package kubernetes finds servers among the endpoints of a Kubernetes Service.
//
// A Source watches the EndpointSlices of one Service (client-go's reflector: list once, then every change as it
// happens) and derives its set from all of them anew whenever one changed. What the API server last said counts for
// as long as it says nothing else: while it cannot be reached the last set stays, and Notes says so.
//
// The API is only read: GET, LIST and WATCH of discovery.k8s.io/v1 endpointslices in one namespace, and /version.
package kubernetes
