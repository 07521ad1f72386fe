package main

import (
	"context"
	"crypto/tls"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// loader sends one request over and over on a fixed number of connections, and checks every answer. It is one thread
// with epoll, so that it needs far less of a core than the proxy that it loads.
type loader struct {
	addr    unix.SockaddrInet4
	request []byte
	length  int64       // of the answer's body
	closes  bool        // every request has a connection of its own
	tls     *tls.Config // nil: cleartext
	most    int         // requests under way at once; 0: as many as there are connections

	epoll int
	conns []*loaderConn
	idle  []*loaderConn // no request under way
	buf   []byte

	// Of the present run:
	rate    float64 // requests a second; 0: each connection sends the next one as soon as it has its answer
	begin   time.Time
	end     time.Time // no request is due from then on
	due     int64     // requests that were due so far, when there is a rate
	running int       // requests under way
	figures loadFigures
}

// loadFigures is what a run measured.
type loadFigures struct {
	requests int64
	took     time.Duration
	latency  *hdrhistogram.Histogram // µs; from when a request was due, where there is a rate
	errors   map[string]int64
}

// answerTimeout bounds how long a request may be under way at the end of a run.
const answerTimeout = 15 * time.Second

// newLoader makes the connections, which stay open between runs; those with TLS (secure is not nil) when they are first used.
func newLoader(port int, request []byte, length int64, connections int, closes bool, secure *tls.Config) (*loader, error) {
	l := &loader{addr: unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}, request: request, length: length, closes: closes, tls: secure,
		buf: make([]byte, 256<<10)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for i := range connections {
		l.conns = append(l.conns, &loaderConn{index: i, fd: -1})
	}
	for _, c := range l.conns {
		if closes || secure != nil {
			continue
		}
		if err := l.connect(c); err != nil {
			l.close()
			return nil, err
		}
	}
	l.idle = append(l.idle, l.conns...)
	return l, nil
}

func (l *loader) close() {
	for _, c := range l.conns {
		c.drop()
	}
	unix.Close(l.epoll)
}

// run sends for d, at rate or, when that is 0, as fast as answers come. It returns when all answers are there, which
// takes answerTimeout longer at most, or when ctx ends. A request that is due while every connection is busy is sent late,
// and its time counts from when it was due.
func (l *loader) run(ctx context.Context, d time.Duration, rate float64) loadFigures {
	var stopped atomic.Bool
	defer context.AfterFunc(ctx, func() { stopped.Store(true) })()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel rounds waits up by 50 µs unless it is told not to.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	l.figures = loadFigures{latency: newHistogram(), errors: map[string]int64{}}
	l.rate, l.due, l.running = rate, 0, 0
	l.begin = time.Now()
	l.end = l.begin.Add(d)
	events := make([]unix.EpollEvent, 512)
	for {
		now := time.Now()
		wait := l.start(now)
		if wait < 0 && l.running == 0 {
			break
		}
		if now.After(l.end.Add(answerTimeout)) {
			l.figures.errors["no answer"] += int64(l.running)
			break
		}
		if wait < 0 {
			wait = time.Second
		}
		n, err := l.wait(events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.figures.errors[err.Error()]++
			break
		}
		for _, ev := range events[:max(n, 0)] {
			if c := l.conns[ev.Fd]; c.fd >= 0 {
				l.event(c)
			}
		}
		if len(l.figures.errors) > 0 && l.failures() > 1000 {
			break // there is no point in going on
		}
		if stopped.Load() {
			l.figures.errors["interrupted"]++
			break
		}
	}
	l.abandon() // nothing is left when all went well
	l.figures.took = time.Since(l.begin)
	return l.figures
}

func (l *loader) failures() (n int64) {
	for _, e := range l.figures.errors {
		n += e
	}
	return n
}

// start sends what is due and returns how long nothing more is; below 0: until the end, or until an answer comes.
func (l *loader) start(now time.Time) time.Duration {
	for len(l.idle) > 0 && (l.most == 0 || l.running < l.most) {
		at := now
		if l.rate > 0 {
			at = l.begin.Add(time.Duration(float64(l.due) / l.rate * float64(time.Second)))
		}
		if !at.Before(l.end) {
			return -1
		}
		if at.After(now) {
			return at.Sub(now)
		}
		l.due++
		// The longest idle one: a load of many users, each of whom uses a connection now and then.
		c := l.idle[0]
		l.idle = l.idle[1:]
		c.at, c.sent, c.left, c.head, c.closing, c.busy = at, 0, -1, c.head[:0], false, true
		l.running++
		if c.fd < 0 {
			if err := l.connect(c); err != nil {
				l.fail(c, "connect: "+err.Error())
			}
			continue // written when connected
		}
		l.write(c)
	}
	return -1
}

// wait returns what is ready, after d at most: to the nanosecond when there is a rate, for which epoll's own
// milliseconds would be too coarse.
func (l *loader) wait(events []unix.EpollEvent, d time.Duration) (int, error) {
	if l.rate == 0 {
		return unix.EpollWait(l.epoll, events, int(d.Milliseconds()))
	}
	ts := unix.NsecToTimespec(d.Nanoseconds())
	if n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(l.epoll), Events: unix.POLLIN}}, &ts, nil); n <= 0 {
		return 0, err
	}
	return unix.EpollWait(l.epoll, events, 0)
}
