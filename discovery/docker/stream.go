package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/events"
)

// stream reads the engine's events until ctx ends, connecting again with a growing pause. state is
// told nil when it is connected and why it is not any more.
func (f *Feed) stream(ctx context.Context, out chan<- events.Message, state chan<- error) {
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	pause := shortest
	since := "" // the last event's time: the engine repeats what came after
	for {
		begun := time.Now()
		err := f.readEvents(ctx, &since, out, state)
		select {
		case state <- err:
		case <-ctx.Done():
			return
		}
		if time.Since(begun) > longest {
			pause = shortest
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longest)
	}
}

// readEvents reads one stream to its end, which is always an error.
func (f *Feed) readEvents(ctx context.Context, since *string, out chan<- events.Message, state chan<- error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hung := time.AfterFunc(callTimeout, cancel) // Events returns when the engine has answered
	messages, errs := f.Events(ctx, *since)
	if !hung.Stop() {
		return errHung
	}
	select {
	case err := <-errs:
		return streamError(err)
	default:
	}
	select {
	case state <- nil:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		select {
		case m := <-messages:
			if m.TimeNano > 0 {
				*since = fmt.Sprintf("%d.%09d", m.TimeNano/1e9, m.TimeNano%1e9)
			}
			select {
			case out <- m:
			case <-ctx.Done():
				return ctx.Err()
			}
		case err := <-errs:
			return streamError(err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// streamError says what an end of the stream was.
func streamError(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the event stream was closed")
	}
	return err
}
