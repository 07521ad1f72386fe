package proxy

import (
	"context"
	"fmt"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// dialing runs the dials to one server on goroutines of their own.
//
// Nothing else that a request does goes as deep as a dial, let alone a handshake, and a stack that has grown to twice its size for one
// would be held for as long as the client's connection. A goroutine that has dialed waits a moment for the next dial, as its stack has
// the size for it. The plain version of its dial is Dialer.dial.
type dialing struct {
	asked chan *dial   // to a goroutine that waits
	spare atomic.Int32 // how many wait
}

const (
	maxSpareDials = 8
	spareDialWait = time.Second
)

func newDialing() *dialing { return &dialing{asked: make(chan *dial)} }

// dial is one that is waited for.
type dial struct {
	ctx    context.Context
	dialer *Dialer
	addr   string
	done   chan struct{} // closed when what follows is set
	nc     net.Conn
	err    error
	died   string // of a panic: why and where
}

// dial connects to the server at addr as d says. It panics where that does.
func (g *dialing) dial(ctx context.Context, d *Dialer, addr string) (net.Conn, error) {
	one := &dial{ctx: ctx, dialer: d, addr: addr, done: make(chan struct{})}
	select {
	case g.asked <- one:
	default:
		go g.run(one)
	}
	<-one.done
	if one.died != "" {
		panic(one.died)
	}
	return one.nc, one.err
}

// run makes d and those that are asked for within spareDialWait of the last.
func (g *dialing) run(d *dial) {
	wait := time.NewTimer(spareDialWait)
	defer wait.Stop()
	for {
		d.run()
		if g.spare.Add(1) > maxSpareDials {
			g.spare.Add(-1)
			return
		}
		wait.Reset(spareDialWait)
		select {
		case d = <-g.asked:
			g.spare.Add(-1)
		case <-wait.C:
			g.spare.Add(-1)
			return
		}
	}
}

func (d *dial) run() {
	defer close(d.done)
	defer func() {
		if v := recover(); v != nil {
			d.died = fmt.Sprintf("while dialing: %v\n%s", v, debug.Stack())
		}
	}()
	d.nc, d.err = d.dialer.dial(d.ctx, d.addr)
}
