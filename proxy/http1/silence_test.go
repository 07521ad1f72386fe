package http1

import (
	"io"
	"testing"
	"time"
)

// The time of a peer that takes nothing runs from the last of what it took: a silence is cut an eighth late at most, however much went out
// since the deadline was set.
func TestSilenceRunsFromTheLastByte(t *testing.T) {
	const timeout = 800 * time.Millisecond
	took := make(chan time.Time, 1)
	addr := script(t, func(nc *client) {
		time.Sleep(timeout / 2)
		_, _ = io.CopyN(io.Discard, nc.r, 8<<20)
		took <- time.Now()
		time.Sleep(4 * timeout)
	})
	tr := NewTransport(addr, TransportConfig{Idle: timeout})
	u, err := tr.Get(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	err = u.out.write(make([]byte, 64<<20))
	silence := time.Since(<-took)
	if !isTimeout(err) || silence < timeout-timeout/20 || silence > timeout*5/2 { // the kernels may move a little later than it reads
		t.Errorf("%v after a silence of %v", err, silence)
	}
}
