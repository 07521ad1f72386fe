package swarm

import (
	"context"
	"fmt"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// errNoResize: the resources of a task are those of its service's specification, which cannot be changed without a new
// task in the place of each, and the API of a manager reaches no container of another node.
var errNoResize = fmt.Errorf("%w on Swarm: `docker service update --limit-cpu … --limit-memory …` replaces every task of the service by one with other limits", scaler.ErrNoResize)

// Allowances is scaler.Resizer's, which Swarm cannot be.
func (d *Driver) Allowances(context.Context) (scaler.Allowances, error) {
	return scaler.Allowances{}, errNoResize
}

// Resize is scaler.Resizer's, which Swarm cannot be.
func (d *Driver) Resize(context.Context, string, vertical.Resources) error { return errNoResize }

// StartWith is scaler.Resizer's, which Swarm cannot be.
func (d *Driver) StartWith(vertical.Recommendation) {}
