package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/image"

	"sluice/scaler"
)

// pull fetches an image that the engine does not have, once for all that wait for it. A fetch goes on when
// those who wait have given up: a model server's image takes longer than anyone waits.
type pull struct {
	mu    sync.Mutex // guards under
	under *fetching  // the one under way, or over and its outcome not yet told; nil when there is none
}

type fetching struct {
	ref  string
	done chan struct{} // closed when it is over
	err  error         // read after done is closed
}

// pullPatience is how long one call waits for a pull; the loop has other things to ask meanwhile.
const pullPatience = 5 * time.Second

// image returns the id of an image, fetching it if need be. While that takes longer than pullPatience it
// returns an error that says so; asked again it waits for the same pull.
func (p *pull) image(ctx context.Context, e Engine, ref string) (string, error) {
	p.mu.Lock()
	f := p.under
	if f == nil || f.ref != ref {
		f = &fetching{ref: ref, done: make(chan struct{})}
		p.under = f
		go f.run(context.WithoutCancel(ctx), e)
	}
	p.mu.Unlock()

	wait := time.NewTimer(pullPatience)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-wait.C: // neither a failed start nor a silent engine
		return "", fmt.Errorf("image %s is not on the engine and is being pulled", ref)
	case <-f.done:
	}
	p.mu.Lock()
	if p.under == f { // its outcome has been told; else another image is wanted by now
		p.under = nil
	}
	p.mu.Unlock()
	if f.err != nil {
		return "", fmt.Errorf("%w: image %s is not on the engine and cannot be pulled: %w", scaler.ErrStart, ref, f.err)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	im, err := e.ImageInspect(call, ref)
	if err != nil {
		return "", fmt.Errorf("looking up image %s: %w", ref, err)
	}
	return im.ID, nil
}

func (f *fetching) run(ctx context.Context, e Engine) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	f.err = fetch(ctx, e, f.ref)
	close(f.done)
}

// fetch reads the engine's report of a pull to its end: errors are told in it.
func fetch(ctx context.Context, e Engine, ref string) error {
	report, err := e.ImagePull(ctx, ref, image.PullOptions{})
	if err != nil {
		return err
	}
	defer report.Close()
	for lines := json.NewDecoder(report); ; {
		var line struct {
			Error string `json:"error"`
		}
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return errors.New(line.Error)
		}
	}
}
