package kubernetes

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sluice/scaler"
)

// rivalMemory is how long the absence of a second writer is believed while nothing is changed.
const rivalMemory = 10 * time.Second

// refuseRival returns an error when a HorizontalPodAutoscaler targets w: two writers of one number undo each other's
// decisions for ever. While observing, it is only noted. What was seen less than memory ago still counts.
func (d *Driver) refuseRival(ctx context.Context, o Options, w workload, memory time.Duration) error {
	d.mu.Lock()
	rival, known := d.rival, time.Since(d.rivalAt) < memory && d.rivalAt != time.Time{}
	d.mu.Unlock()
	if !known {
		list, err := d.cli.ListAutoscalers(ctx, o.Namespace)
		if err != nil {
			return d.words(o, w, "look for a HorizontalPodAutoscaler of", err)
		}
		rival = ""
		for _, hpa := range list.Items {
			ref := hpa.Spec.ScaleTargetRef
			if strings.EqualFold(ref.Kind, w.kind) && ref.Name == w.name && strings.HasPrefix(ref.APIVersion+"/", "apps/") {
				rival = hpa.Name
			}
		}
		d.mu.Lock()
		if rival != "" && d.rival == "" {
			o.Log.Warn("a second writer", "why", rivalWords(rival, w))
		}
		d.rival, d.rivalAt = rival, time.Now()
		d.mu.Unlock()
	}
	if rival == "" || o.Observe {
		return nil
	}
	return fmt.Errorf("%w: %s", scaler.ErrRefused, rivalWords(rival, w))
}

func rivalWords(rival string, w workload) string {
	return fmt.Sprintf(`the HorizontalPodAutoscaler %s scales %s as well, and two writers would undo each other's decisions: delete it, or set scale.mode = "observe"`, rival, w)
}

func isConflict(err error) bool { return apierrors.IsConflict(err) }

// words says what was tried when err came; nil stays nil.
func (d *Driver) words(o Options, w workload, doing string, err error) error {
	what := doing
	if w != (workload{}) {
		what += " " + w.String()
	}
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%w: the account may not %s in the namespace %s (deploy/kubernetes/scaling has the Role): %w", scaler.ErrRefused, what, o.Namespace, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%w: the API server does not accept the account: %w", scaler.ErrRefused, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("cannot %s: it changed %d times in between, so something else writes to it: %w", what, conflictsMost, err)
	case apierrors.IsInvalid(err):
		return fmt.Errorf("%w: cannot %s: %w", scaler.ErrRefused, what, err)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}
