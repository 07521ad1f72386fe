package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// reviewer asks the API server what its users may do, and remembers the answers for a while.
type reviewer struct {
	cli Client

	mu      sync.Mutex // guards all below
	answers map[string]answer
}

type answer struct {
	authorizationv1.SubjectAccessReviewStatus
	at time.Time
}

const (
	// reviewMemory is what Kubernetes' own aggregated servers have: a right that was taken away counts that long.
	reviewMemory = 10 * time.Second
	// answersMost and questionMost bound the memory: who asks chooses the text.
	answersMost  = 1024
	questionMost = 10000
)

// superusers may everything in every cluster; the API server itself asks as one of them whether this server is up.
const superusers = "system:masters"

// allows reports whether spec's user may, and why. An error means that it is not known: nobody may then.
func (v *reviewer) allows(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec, now time.Time) (ok bool, why string, err error) {
	if slices.Contains(spec.Groups, superusers) {
		return true, "", nil
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return false, "", err
	}
	question := string(text)
	v.mu.Lock()
	a, known := v.answers[question]
	v.mu.Unlock()
	if age := now.Sub(a.at); !known || age >= reviewMemory || age < 0 {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		status, err := v.cli.Review(ctx, spec)
		if apierrors.IsForbidden(err) {
			err = fmt.Errorf("the service account may not create subjectaccessreviews (deploy/kubernetes/metrics-api has the role): %w", err)
		}
		if err != nil {
			return false, "", err
		}
		a = answer{status, now}
		v.remember(question, a)
	}
	return a.Allowed && !a.Denied, a.Reason, nil
}

func (v *reviewer) remember(question string, a answer) {
	if len(question) > questionMost {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.answers) >= answersMost {
		for q, old := range v.answers {
			if a.at.Sub(old.at) >= reviewMemory {
				delete(v.answers, q)
			}
		}
		if len(v.answers) >= answersMost {
			clear(v.answers)
		}
	}
	if v.answers == nil {
		v.answers = map[string]answer{}
	}
	v.answers[question] = a
}
