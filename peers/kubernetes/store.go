package kubernetes

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"sluice/peers"
)

// Annotations of the Lease. What kubectl shows of a Lease is for people; these are what the gateways go by.
const (
	annotationTerm = "sluice/term"
	annotationBeat = "sluice/beat"
)

// leaseSeconds is what the Lease says of how long a holder that does not renew it is waited for.
const leaseSeconds = 4

// Store is a peers.Store in a Lease. Its versions are the object's resourceVersions.
type Store struct {
	api             *rest.RESTClient
	namespace, name string

	mu   sync.Mutex            // guards last
	last *coordinationv1.Lease // as read or written last: an update keeps what others have put into it
}

// NewStore is the store in the Lease of that name.
func NewStore(cfg *rest.Config, namespace, name string) (*Store, error) {
	api, _, err := newClient(cfg, coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	return &Store{api: api, namespace: namespace, name: name}, nil
}

// Get is peers.Store's.
func (s *Store) Get(ctx context.Context) (peers.Record, string, error) {
	lease := new(coordinationv1.Lease)
	err := s.api.Get().Namespace(s.namespace).Resource("leases").Name(s.name).Do(ctx).Into(lease)
	if err != nil {
		return peers.Record{}, "", s.words("read", err)
	}
	r, err := recordOf(lease)
	if err != nil {
		return peers.Record{}, "", fmt.Errorf("the Lease %s/%s: %w", s.namespace, s.name, err)
	}
	return r, s.keep(lease), nil
}

// Create is peers.Store's.
func (s *Store) Create(ctx context.Context, r peers.Record) (string, error) {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name: s.name, Namespace: s.namespace, Labels: map[string]string{"app.kubernetes.io/managed-by": "sluice"},
	}}
	write(lease, r)
	made := new(coordinationv1.Lease)
	err := s.api.Post().Namespace(s.namespace).Resource("leases").Body(lease).Do(ctx).Into(made)
	if err != nil {
		return "", s.words("create", err)
	}
	return s.keep(made), nil
}

// Update is peers.Store's.
func (s *Store) Update(ctx context.Context, r peers.Record, version string) (string, error) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last == nil || last.ResourceVersion != version { // another version has been seen since
		return "", peers.ErrConflict
	}
	lease := last.DeepCopy()
	write(lease, r)
	written := new(coordinationv1.Lease)
	err := s.api.Put().Namespace(s.namespace).Resource("leases").Name(s.name).Body(lease).Do(ctx).Into(written)
	if err != nil {
		return "", s.words("update", err)
	}
	return s.keep(written), nil
}

func (s *Store) keep(lease *coordinationv1.Lease) (version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = lease
	return lease.ResourceVersion
}

// write puts r into lease, as holders of Leases do elsewhere: a transition is a new holder.
func write(lease *coordinationv1.Lease, r peers.Record) {
	before := ""
	if lease.Spec.HolderIdentity != nil {
		before = *lease.Spec.HolderIdentity
	}
	renewed := metav1.NewMicroTime(r.Renewed)
	if lease.Annotations[annotationTerm] != fmt.Sprint(r.Term) {
		lease.Spec.AcquireTime = &renewed
	}
	transitions := int32(0)
	if lease.Spec.LeaseTransitions != nil {
		transitions = *lease.Spec.LeaseTransitions
	}
	if r.Holder != "" && r.Holder != before && lease.ResourceVersion != "" {
		transitions++
	}
	lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseTransitions = &r.Holder, &renewed, &transitions
	lease.Spec.LeaseDurationSeconds = new(int32(leaseSeconds))
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[annotationTerm] = fmt.Sprint(r.Term)
	lease.Annotations[annotationBeat] = fmt.Sprint(r.Beat)
}

// recordOf reads what write wrote. A Lease that somebody else made has no numbers, and begins with 0.
func recordOf(lease *coordinationv1.Lease) (r peers.Record, err error) {
	if lease.Spec.HolderIdentity != nil {
		r.Holder = *lease.Spec.HolderIdentity
	}
	if lease.Spec.RenewTime != nil {
		r.Renewed = lease.Spec.RenewTime.Time
	}
	for name, into := range map[string]*uint64{annotationTerm: &r.Term, annotationBeat: &r.Beat} {
		text, written := lease.Annotations[name]
		if !written {
			continue
		}
		if *into, err = strconv.ParseUint(text, 10, 64); err != nil {
			return r, fmt.Errorf("the annotation %s: %w", name, err)
		}
	}
	return r, nil
}

// words maps what the API server says. A namespace or an API that is not there is not found either, and says nothing
// of the record.
func (s *Store) words(what string, err error) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return peers.ErrConflict
	case apierrors.IsNotFound(err) && what != "create" && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse):
		return peers.ErrNoRecord
	case apierrors.IsForbidden(err):
		return fmt.Errorf("the service account may not %s the Lease %s/%s (deploy/kubernetes/peers has the Role): %w", what, s.namespace, s.name, err)
	}
	return fmt.Errorf("%s the Lease %s/%s: %w", what, s.namespace, s.name, err)
}
