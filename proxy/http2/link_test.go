package http2

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// sink takes all and counts it.
type sink struct {
	net.Conn
	writes, bytes atomic.Int64
}

func (c *sink) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// What streams say at the same time goes out with one write, or a few.
func TestOneWriteForMany(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const streams = 32
	var nc sink
	var l link
	l.init(&nc, defaultWindow, defaultWindow)
	go l.write(nil, nil)
	ready := make(chan struct{})
	var waiting, said sync.WaitGroup
	for range streams {
		waiting.Add(1)
		said.Go(func() {
			waiting.Done()
			<-ready
			l.mu.Lock()
			defer l.mu.Unlock()
			l.control(8)
			l.out = appendPing(l.out, 0, [8]byte{})
		})
	}
	waiting.Wait()
	runtime.Gosched() // now all but us wait
	close(ready)
	said.Wait()
	l.mu.Lock()
	l.finish()
	l.mu.Unlock()
	<-l.written
	if got := nc.bytes.Load(); got != streams*(frameHeader+8) {
		t.Errorf("%d bytes were written", got)
	}
	if got := nc.writes.Load(); got > streams/8 {
		t.Errorf("%d writes for %d frames", got, streams)
	}
}
