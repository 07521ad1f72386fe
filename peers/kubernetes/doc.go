// Package kubernetes keeps a group of gateways together with what Kubernetes has for it: a Lease says who acts, and
// the EndpointSlices of sluice's own Service say where the gateways are.
package kubernetes
