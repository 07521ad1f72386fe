package docker

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"sluice/scaler"
)

// registry is an engine of which only images are asked: each pull takes a minute and gives report.
type registry struct {
	Engine
	report string
	pulls  atomic.Int32
	has    atomic.Bool
}

func (r *registry) ImagePull(ctx context.Context, _ string, _ image.PullOptions) (io.ReadCloser, error) {
	r.pulls.Add(1)
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.has.Store(!strings.Contains(r.report, "error"))
	return io.NopCloser(strings.NewReader(r.report)), nil
}

func (r *registry) ImageInspect(context.Context, string, ...client.ImageInspectOption) (image.InspectResponse, error) {
	if !r.has.Load() {
		return image.InspectResponse{}, cerrdefs.ErrNotFound
	}
	return image.InspectResponse{ID: "sha256:1"}, nil
}

// A pull takes longer than one call of the loop: it goes on, and there is one for all who ask.
func TestPullOutlivesTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{report: "{\"status\":\"Pulling\"}\n{\"status\":\"Done\"}\n"}
		var p pull
		for range 2 {
			began := time.Now()
			_, err := p.image(t.Context(), r, "model:1")
			if err == nil || errors.Is(err, scaler.ErrStart) || err.Error() != "image model:1 is not on the engine and is being pulled" || time.Since(began) != pullPatience {
				t.Errorf("while it is pulled: %v after %v", err, time.Since(began))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.image(ctx, r, "model:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond its context: %v", err)
		}
		time.Sleep(46 * time.Second) // 57 of 60
		if id, err := p.image(t.Context(), r, "model:1"); err != nil || id != "sha256:1" {
			t.Errorf("when it is there: %q, %v", id, err)
		}
		if n := r.pulls.Load(); n != 1 {
			t.Errorf("pulled %d times", n)
		}
	})
}

func TestPullRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{report: "{\"status\":\"Pulling\"}\n{\"errorDetail\":{\"message\":\"no such tag\"},\"error\":\"no such tag\"}\n"}
		var p pull
		for range 2 { // and it is tried again when asked again
			if _, err := p.image(t.Context(), r, "model:2"); errors.Is(err, scaler.ErrStart) {
				t.Errorf("before its end is known: %v", err)
			}
			time.Sleep(2 * time.Minute) // nobody waits when it ends; the next to ask is told
			_, err := p.image(t.Context(), r, "model:2")
			if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "image model:2 is not on the engine and cannot be pulled: no such tag") {
				t.Errorf("error %v", err)
			}
		}
		if n := r.pulls.Load(); n != 2 {
			t.Errorf("pulled %d times", n)
		}
	})
}
