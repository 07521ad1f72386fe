package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	clientcache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"sluice/balancer"
	"sluice/discovery"
)

// Source finds the servers of one upstream among the endpoints of a Service.
//
// An endpoint that is being terminated, or is not ready, is taken out as soon as the API server says so; what it has
// in flight goes on.
type Source struct {
	cli   *Client
	query Query
	log   *slog.Logger
	found atomic.Pointer[finding] // nil while Run does not run
}

// finding is what Notes tells from.
type finding struct {
	cache *cache
	notes []discovery.Note
}

// NewSource returns the source of what query finds through cli.
func NewSource(cli *Client, query Query, log *slog.Logger) *Source {
	return &Source{cli: cli, query: query, log: log}
}

// Run is discovery.Source's: it sends the first set when the API server has listed once.
func (s *Source) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	c := newCache()
	var reflecting sync.WaitGroup
	defer reflecting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.found.Store(nil)
	s.found.Store(&finding{cache: c})
	reflecting.Go(func() { s.reflect(ctx, c) })

	look := func() ([]balancer.ServerSpec, []discovery.Note, bool) {
		all, listed := c.read()
		if !listed {
			return nil, nil, false
		}
		specs, notes := s.query.servers(all)
		s.found.Store(&finding{c, notes})
		return specs, notes, true
	}
	return discovery.Follow(ctx, out, c.changed, s.log.With("what", s.query.String()), look)
}

// again is the pause before the API server is asked again: sooner than a reflector's own, of up to a minute, because
// servers may have gone meanwhile.
var again = wait.Backoff{Duration: 300 * time.Millisecond, Factor: 2, Jitter: 0.5, Cap: 4 * time.Second, Steps: 5}

// reflect keeps c as the API server says, until ctx ends.
func (s *Source) reflect(ctx context.Context, c *cache) {
	ofService := discoveryv1.LabelServiceName + "=" + s.query.Service
	calls := &clientcache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = ofService
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			list, err := s.cli.list(ctx, s.query.Namespace, options)
			s.answered(ctx, c, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = ofService
			w, err := begin(ctx, func(ctx context.Context) (watch.Interface, error) {
				return s.cli.watch(ctx, s.query.Namespace, options)
			})
			s.answered(ctx, c, err)
			return w, err
		},
	}
	backoff := again
	reflector := clientcache.NewReflectorWithOptions(calls, &discoveryv1.EndpointSlice{}, c, clientcache.ReflectorOptions{
		Name: s.query.String(), Backoff: &backoff,
	})
	// What went wrong is told by answered, in this program's own log.
	reflector.RunWithContext(klog.NewContext(ctx, logr.Discard()))
}

// callTimeout is how long an answer may take to begin. Without it client-go tries ten times in silence.
const callTimeout = 5 * time.Second

var errSilent = fmt.Errorf("no answer within %s", callTimeout)

// begin opens a watch, whose beginning is bounded by callTimeout and whose length is not.
func begin(ctx context.Context, open func(context.Context) (watch.Interface, error)) (watch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(callTimeout, cancel)
	w, err := open(ctx)
	if !timer.Stop() && err == nil {
		w.Stop()
		err = errSilent
	}
	if err != nil {
		cancelled := ctx.Err() != nil
		cancel()
		if cancelled {
			err = errSilent
		}
		return nil, err
	}
	return &opened{w, cancel}, nil
}

// opened is a watch that lets go of its context when it is stopped.
type opened struct {
	watch.Interface
	cancel context.CancelFunc
}

// Stop is watch.Interface's.
func (o *opened) Stop() {
	o.Interface.Stop()
	o.cancel()
}

// answered notes how a call of the API server ended and logs when that changes.
func (s *Source) answered(ctx context.Context, c *cache, err error) {
	if ctx.Err() != nil {
		return
	}
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		err = nil // an answer: the reflector lists anew
	}
	since, _ := c.trouble()
	switch before := c.answered(err); {
	case err != nil && before == nil:
		s.log.Warn("the API server does not tell the endpoints, keeping the last ones", "what", s.query.String(), "error", err)
	case err == nil && before != nil:
		s.log.Info("the API server tells the endpoints again", "what", s.query.String(), "after", time.Since(since).Round(time.Second))
	}
}

// Notes says which endpoints are not routed and why, and what ails the API server.
func (s *Source) Notes() []discovery.Note {
	f := s.found.Load()
	if f == nil {
		return nil
	}
	notes := slices.Clone(f.notes)
	if since, err := f.cache.trouble(); err != nil {
		notes = append(notes, discovery.Note{Name: "kubernetes", Why: s.words(err, since)})
	}
	return notes
}

func (s *Source) words(err error, since time.Time) string {
	kept := fmt.Sprintf("for %s; the last ones are kept", time.Since(since).Round(time.Second))
	if apierrors.IsForbidden(err) {
		return fmt.Sprintf("the service account may not list and watch endpointslices in the namespace %s (the base of deploy/kubernetes has the Role): %s, %s", s.query.Namespace, err, kept)
	}
	return fmt.Sprintf("the API server does not tell the endpoints of %s: %s, %s", s.query, err, kept)
}
