package docker

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
)

// What panics over what an engine says costs one listing or one event: all goes on with the next.
func TestPanicCostsAListingOrAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFeed(slog.New(slog.DiscardHandler))
		messages, listed, taken := make(chan events.Message), 0, 0
		f.Events = func(context.Context, string) (<-chan events.Message, <-chan error) { return messages, make(chan error) }
		f.Stream = func(error) {}
		f.Take = func(events.Message) {
			if taken++; taken == 1 {
				panic("over an event")
			}
		}
		f.List = func(context.Context) func() (bool, time.Duration) {
			if listed++; listed == 1 {
				panic("over a listing")
			}
			mine := listed
			return func() (bool, time.Duration) {
				if mine == 2 {
					panic("over what was listed")
				}
				return true, 0
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go f.Run(ctx)
		time.Sleep(3*listPeriod + time.Second) // two listings that fail, and the first good one opens the stream
		for range 2 {
			messages <- events.Message{}
		}
		synctest.Wait()
		if taken != 2 {
			t.Errorf("%d events taken", taken)
		}
		time.Sleep(listPeriod)
		synctest.Wait()
		if listed < 4 {
			t.Errorf("%d listings", listed)
		}
	})
}
