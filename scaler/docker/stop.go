package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// errNotOurs: the second look, by id, did not find our labels.
var errNotOurs = errors.New("not ours, left alone")

// own inspects a container once more, by its id, before it is stopped or removed. Labels and id of a
// container never change, so what it says holds.
func (d *Driver) own(ctx context.Context, o Options, id string) (container.InspectResponse, error) {
	c, err := d.engine.ContainerInspect(ctx, id)
	if err != nil {
		return c, err
	}
	if why := foreign(o, c.Config.Labels, c.Name); why != "" {
		return c, fmt.Errorf("container %s: %w: %s", short(id), errNotOurs, why)
	}
	return c, nil
}

// stop tells a replica to end (the signal its image names, SIGTERM if none), gives it the grace it was made
// with, and removes it, in a goroutine that outlives ctx: once told to, it does end.
func (d *Driver) stop(ctx context.Context, o Options, m *member) {
	d.mu.Lock()
	_, already := d.stopping[m.id]
	if !already {
		d.stopping[m.id] = time.Now()
	}
	d.others.mine[m.id] = time.Now()
	d.mu.Unlock()
	if already {
		return
	}
	ctx = context.WithoutCancel(ctx)
	d.stops.Go(func() {
		err := d.stopAndRemove(ctx, o, m.id)
		if err != nil {
			o.Log.Error("a replica was not stopped", "upstream", o.Upstream, "container", m.name, "id", short(m.id), "error", err)
		} else {
			o.Log.Info("a replica was stopped", "upstream", o.Upstream, "container", m.name, "id", short(m.id))
		}
		d.mu.Lock() // whatever is left of it, the next look sees it as the engine does
		delete(d.stopping, m.id)
		d.mu.Unlock()
		select {
		case d.changed <- struct{}{}:
		default:
		}
	})
}

func (d *Driver) stopAndRemove(ctx context.Context, o Options, id string) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := d.own(call, o, id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	grace := 10 * time.Second // the engine's own
	if t := c.Config.StopTimeout; t != nil {
		grace = time.Duration(*t) * time.Second
	}
	stopCall, cancelStop := context.WithTimeout(ctx, grace+stopSlack)
	defer cancelStop()
	if err := d.engine.ContainerStop(stopCall, id, container.StopOptions{}); err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsNotModified(err) {
		return fmt.Errorf("stopping: %w", err)
	}
	return d.remove(ctx, id)
}

// remove removes a container that does not run, with its anonymous volumes.
func (d *Driver) remove(ctx context.Context, id string) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := d.engine.ContainerRemove(call, id, container.RemoveOptions{RemoveVolumes: true})
	if err == nil || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return nil
	}
	return fmt.Errorf("removing: %w", err)
}

// discard removes a replica that has ended or was never started, and says what is known of its end.
func (d *Driver) discard(ctx context.Context, o Options, m *member) error {
	why := "created and never started"
	if m.ended() {
		why = d.ending(ctx, o, m).why
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := d.own(call, o, m.id)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err == nil {
		err = d.remove(ctx, m.id)
	}
	if err != nil {
		return fmt.Errorf("replica %s has ended (%s) and is still there: %w", m.name, why, err)
	}
	o.Log.Info("a replica was removed", "upstream", o.Upstream, "container", m.name, "id", short(m.id), "reason", why)
	return nil
}

// ending is how a replica came to its end.
type ending struct {
	why string
	at  time.Time
}

// ending inspects an ended replica and reads its last lines, once.
func (d *Driver) ending(ctx context.Context, o Options, m *member) ending {
	d.mu.Lock()
	end, known := d.endings[m.id]
	d.mu.Unlock()
	if known {
		return end
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := d.own(call, o, m.id)
	if err != nil {
		return ending{why: "ended, and the engine does not say how: " + err.Error()}
	}
	end.why = exitReason(c.State)
	end.at, _ = time.Parse(time.RFC3339Nano, c.State.FinishedAt) // zero when it is not known
	if lines := d.lastLines(call, m.id, c.Config.Tty); lines != "" {
		end.why += "; last output: " + lines
	}
	d.mu.Lock()
	d.endings[m.id] = end
	d.mu.Unlock()
	return end
}

func exitReason(s *container.State) string {
	why := fmt.Sprintf("exit status %d", s.ExitCode)
	if s.OOMKilled {
		why = "out of memory"
	}
	if s.Error != "" {
		why += ": " + s.Error
	}
	return why
}

// lastLines are the last lines that a container wrote, in one line of at most 400 bytes; "" when they
// cannot be had (some log drivers do not give back what they take).
func (d *Driver) lastLines(ctx context.Context, id string, tty bool) string {
	logs, err := d.engine.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Tail: "5"})
	if err != nil {
		return ""
	}
	defer logs.Close()
	var out bytes.Buffer
	if tty {
		_, err = out.ReadFrom(logs)
	} else {
		_, err = stdcopy.StdCopy(&out, &out, logs)
	}
	if err != nil && out.Len() == 0 {
		return ""
	}
	return oneLine(out.String(), 400)
}

// oneLine makes text fit for a reason: lines joined by " | ", nothing unprintable, the last limit bytes.
func oneLine(text string, limit int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	if len(text) > limit {
		text = "…" + strings.ToValidUTF8(text[len(text)-limit:], "")
	}
	return text
}
