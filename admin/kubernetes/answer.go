package kubernetes

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custombeta1 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta1"
	custombeta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	externalbeta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
)

// labelUpstream is the label that tells the loads of several upstreams apart.
const labelUpstream = "upstream"

// value is the load that a target names, as a list to be sent. An error is an apierrors.APIStatus.
func (v *view) value(t target, query url.Values, now time.Time) (any, error) {
	gv := schema.GroupVersion{Group: t.group, Version: t.version}
	if !served(gv) {
		return nil, errNoPath
	}
	if query.Has("watch") && query.Get("watch") != "false" {
		return nil, apierrors.NewMethodNotSupported(t.groupResource(), "watch")
	}
	if gv.Group == externalGroup {
		return v.external(t, query, now)
	}
	return v.custom(gv, t, query, now)
}

// custom is the metric of one Service: the sum over the upstreams whose servers are its endpoints.
func (v *view) custom(gv schema.GroupVersion, t target, query url.Values, now time.Time) (any, error) {
	m, ok := metricOf(t.subresource)
	if t.resource != services || !ok || t.namespace != v.namespace {
		return nil, notFound(t, "there is no metric %q of %s in the namespace %q", t.subresource, t.resource, t.namespace)
	}
	if t.name == custombeta2.AllObjects {
		return nil, apierrors.NewBadRequest("ask for one Service by its name: the labels of Services are not known here")
	}
	selector, err := labels.Parse(query.Get("metricLabelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("metricLabelSelector: %s", err))
	}
	var sum load
	known := false
	for _, u := range v.upstreams {
		if u.Service != t.name || !selector.Matches(labels.Set{labelUpstream: u.Name}) {
			continue
		}
		l, ok := v.windows.load(u, now)
		if !ok {
			return nil, errUnmeasured
		}
		sum, known = sum.plus(l), true
	}
	if !known {
		return nil, notFound(t, "no upstream has the Service %s for its source%s", t.name, also(selector))
	}
	var metricSelector *metav1.LabelSelector
	if !selector.Empty() {
		if metricSelector, err = metav1.ParseToLabelSelector(selector.String()); err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("metricLabelSelector: %s", err))
		}
	}
	object := corev1.ObjectReference{Kind: "Service", APIVersion: "v1", Namespace: t.namespace, Name: t.name}
	kind := metav1.TypeMeta{Kind: kindOf(gv), APIVersion: gv.String()}
	seconds := int64(v.window / time.Second)
	if gv == custombeta1.SchemeGroupVersion {
		return &custombeta1.MetricValueList{TypeMeta: kind, Items: []custombeta1.MetricValue{{
			DescribedObject: object, MetricName: m.name, Selector: metricSelector,
			Timestamp: metav1.NewTime(now), WindowSeconds: &seconds, Value: quantity(m.of(sum)),
		}}}, nil
	}
	return &custombeta2.MetricValueList{TypeMeta: kind, Items: []custombeta2.MetricValue{{
		DescribedObject: object, Metric: custombeta2.MetricIdentifier{Name: m.name, Selector: metricSelector},
		Timestamp: metav1.NewTime(now), WindowSeconds: &seconds, Value: quantity(m.of(sum)),
	}}}, nil
}

// external is the metric of every upstream that the selector matches, one value each.
func (v *view) external(t target, query url.Values, now time.Time) (any, error) {
	m, ok := metricOf(t.resource)
	if !ok || t.namespace != v.namespace || t.name != "" {
		return nil, notFound(t, "there is no metric %q in the namespace %q", t.resource, t.namespace)
	}
	selector, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("labelSelector: %s", err))
	}
	gv := externalbeta1.SchemeGroupVersion
	list := &externalbeta1.ExternalMetricValueList{TypeMeta: metav1.TypeMeta{Kind: kindOf(gv), APIVersion: gv.String()}}
	seconds := int64(v.window / time.Second)
	for _, u := range v.upstreams {
		set := map[string]string{labelUpstream: u.Name}
		if !selector.Matches(labels.Set(set)) {
			continue
		}
		l, ok := v.windows.load(u, now)
		if !ok {
			return nil, errUnmeasured
		}
		list.Items = append(list.Items, externalbeta1.ExternalMetricValue{
			MetricName: m.name, MetricLabels: set, Timestamp: metav1.NewTime(now), WindowSeconds: &seconds, Value: quantity(m.of(l)),
		})
	}
	if len(list.Items) == 0 {
		return nil, notFound(t, "there is no upstream%s", also(selector))
	}
	return list, nil
}

func also(selector labels.Selector) string {
	if selector.Empty() {
		return ""
	}
	return " with " + selector.String()
}

func (t target) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: t.group, Resource: t.resource}
}

var (
	errNoPath = apierrors.NewGenericServerResponse(404, "get", schema.GroupResource{}, "", "", 0, true)
	// errUnknown says no more: why is for the log.
	errUnknown = apierrors.NewUnauthorized("only the API server's front proxy is answered, by its client certificate")
	// errUnmeasured keeps the number of replicas as it is: a value would be taken for the load.
	errUnmeasured = apierrors.NewServiceUnavailable("the load is not measured yet over all gateways: nothing should be scaled on it")
)

func notFound(t target, format string, args ...any) error {
	err := apierrors.NewNotFound(t.groupResource(), t.name)
	err.ErrStatus.Message = fmt.Sprintf(format, args...)
	return err
}

// statusOf is an error as Kubernetes sends it.
func statusOf(err error) *metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	s := known.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return &s
}
