package swarm

import (
	"errors"
	"strings"
	"testing"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// Swarm says why it does not change what runs.
func TestNothingIsResized(t *testing.T) {
	var r scaler.Resizer = &Driver{}
	_, err := r.Allowances(t.Context())
	for _, err := range []error{err, r.Resize(t.Context(), "x", vertical.Resources{CPUs: 1})} {
		if !errors.Is(err, scaler.ErrNoResize) || !strings.Contains(err.Error(), "replaces every task") {
			t.Errorf("%v", err)
		}
	}
}
