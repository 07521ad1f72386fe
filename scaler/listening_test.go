package scaler

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counting is a gauge that only counts.
type counting struct {
	mu        sync.Mutex // guards all below
	listening Listening
	begun     int // how often
	listens   int // goroutines
}

func (c *counting) ask() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listening.Asked(time.Now(), c.listen) {
		c.begun++
	}
}

func (c *counting) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listening.End()
}

func (c *counting) listen(ctx context.Context) {
	c.add(1)
	defer c.add(-1)
	for c.goesOn(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (c *counting) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listens += n
}

func (c *counting) goesOn(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listening.GoesOn(ctx, time.Now())
}

func TestListening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{}
		is := func(when string, begun, listens int) {
			t.Helper()
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.begun != begun || c.listens != listens {
				t.Errorf("%s: begun %d times and %d listen, want %d and %d", when, c.begun, c.listens, begun, listens)
			}
		}
		c.end()
		is("never asked", 0, 0)
		c.ask()
		c.ask()
		is("asked twice", 1, 1)
		time.Sleep(GaugeIdle - time.Second)
		c.ask()
		time.Sleep(GaugeIdle + time.Second/2)
		is("a minute after it was asked again", 1, 1)
		time.Sleep(time.Second)
		is("a second later", 1, 0)
		c.ask()
		is("asked after it has ended", 2, 1)
		c.end()
		c.ask() // before the one that was ended has seen it
		is("ended and begun anew", 3, 1)
		time.Sleep(GaugeIdle / 2)
		is("half a minute later", 3, 1)
		c.end()
		c.end()
		is("ended", 3, 0)
	})
}

// One that was ended does not go on with what was begun after it, nor ends that.
func TestListeningOfBefore(t *testing.T) {
	var l Listening
	now := time.Unix(1000, 0)
	var contexts []context.Context
	hears := make(chan context.Context)
	for range 2 {
		if !l.Asked(now, func(ctx context.Context) { hears <- ctx }) {
			t.Fatal("it does not begin")
		}
		contexts = append(contexts, <-hears)
		if len(contexts) == 1 {
			l.End()
		}
	}
	if l.GoesOn(contexts[0], now.Add(2*GaugeIdle)) || contexts[1].Err() != nil || !l.GoesOn(contexts[1], now.Add(GaugeIdle)) {
		t.Error("the first is taken for the second")
	}
	if l.GoesOn(contexts[1], now.Add(GaugeIdle+1)) || contexts[1].Err() == nil {
		t.Error("nobody asks, and it goes on")
	}
}
