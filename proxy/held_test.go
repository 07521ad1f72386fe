package proxy

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

// stackMax is one of 4 KiB, and of 8 for the race detector's larger frames.
func stackMax() int64 {
	if raceEnabled {
		return 9200
	}
	return 4600
}

// A stream of events that is silent holds a goroutine with its stack, and 8 KiB of heap with the test's own sockets. As the race
// detector keeps pools from giving back all that they were given, a buffer that something still points into counts there.
func TestHeldStreamsHoldLittle(t *testing.T) {
	const (
		streams = 1000
		heapMax = 8600
	)
	h := holdStreams(t)
	for range 20 { // so that pools and tables are there
		h.open()
	}
	heap, stack := inUse()
	for range streams {
		h.open()
	}
	for range 2 {
		for i := range h.ends {
			h.event(i)
		}
	}
	heapNow, stackNow := inUse()
	heap, stack = (heapNow-heap)/streams, (stackNow-stack)/streams
	t.Logf("%d bytes of heap and %d of stack a stream", heap, stack)
	if heap > heapMax || stack > stackMax() {
		t.Errorf("%d bytes of heap and %d of stack a stream, more than %d and %d", heap, stack, heapMax, stackMax())
	}
}

// A request that a server works on holds what was asked, in a buffer of its size, and nothing to answer with: a model
// takes seconds to say its first word.
func TestWaitingRequestsHoldLittle(t *testing.T) {
	for _, c := range []struct {
		name    string
		request string
		heapMax int64
	}{
		{"GET", "GET /models HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test\r\n\r\n", 7200},
		{"POST", "POST /v1/chat HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1500\r\n\r\n" + strings.Repeat("w", 1500), 10400},
	} {
		t.Run(c.name, func(t *testing.T) {
			const waiting = 500
			h := holdStreams(t)
			for range 20 {
				h.ask(c.request)
			}
			heap, stack := inUse()
			for range waiting {
				h.ask(c.request)
			}
			heapNow, stackNow := inUse()
			heap, stack = (heapNow-heap)/waiting, (stackNow-stack)/waiting
			t.Logf("%d bytes of heap and %d of stack a request", heap, stack)
			if heap > c.heapMax || stack > stackMax() {
				t.Errorf("%d bytes of heap and %d of stack a request, more than %d and %d", heap, stack, c.heapMax, stackMax())
			}
			for i := range h.ends {
				h.send(h.ends[i].server, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				h.receive(h.ends[i].client, "\r\n\r\nok")
			}
		})
	}
}

// What was asked for is logged also when the stream was silent meanwhile.
func TestSilentStreamIsLogged(t *testing.T) {
	h := holdStreams(t)
	h.open()
	h.open() // takes the buffer that the first has given back
	h.event(0)
	h.send(h.ends[0].server, "0\r\n\r\n")
	h.receive(h.ends[0].client, "0\r\n\r\n")
	line := h.gateway.lines(1)[0]
	for field, want := range map[string]string{"method": "GET", "host": "www.example.com", "path": "/events?stream=1", "user_agent": "test 1"} {
		if line[field] != want {
			t.Errorf("%s is %q, not %q, in %v", field, line[field], want, line)
		}
	}
}

// inUse are the bytes of the live heap and of all stacks.
func inUse() (heap, stack int64) {
	runtime.GC()
	runtime.GC() // the first leaves what was in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}

// heldStreams are streams of events through a gateway, whose two ends take no goroutine.
type heldStreams struct {
	t       testing.TB
	gateway *gateway
	servers net.Listener
	ends    []streamEnds
	buf     [4096]byte
}

type streamEnds struct{ client, server net.Conn }

func holdStreams(t testing.TB) *heldStreams {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &heldStreams{t: t, servers: l, gateway: newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), l.Addr().String())}
	t.Cleanup(h.close)
	return h
}

// open opens one more, which has had its first event then.
func (h *heldStreams) open() {
	h.t.Helper()
	n := len(h.ends) + 1
	h.ask(fmt.Sprintf("GET /events?stream=%d HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test %d\r\nAccept: text/event-stream\r\n\r\n", n, n))
	h.send(h.ends[n-1].server, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
	h.event(n - 1)
}

// ask sends a request on a connection of its own, which the server has then.
func (h *heldStreams) ask(request string) {
	h.t.Helper()
	client, err := net.Dial("tcp", h.gateway.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.send(client, request)
	server, err := h.servers.Accept()
	if err != nil {
		h.t.Fatal(err)
	}
	h.ends = append(h.ends, streamEnds{client, server})
	h.receive(server, request[strings.LastIndex(request, "\r\n"):])
}

// event sends an event on a stream and waits until it has come.
func (h *heldStreams) event(i int) {
	h.t.Helper()
	h.send(h.ends[i].server, "10\r\ndata: 12345678\n\n\r\n")
	h.receive(h.ends[i].client, "\n\n\r\n")
}

func (h *heldStreams) send(nc net.Conn, s string) {
	h.t.Helper()
	if _, err := nc.Write([]byte(s)); err != nil {
		h.t.Fatal(err)
	}
}

// receive reads until what has come ends with end.
func (h *heldStreams) receive(nc net.Conn, end string) {
	h.t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	defer nc.SetReadDeadline(time.Time{})
	for n := 0; !bytes.HasSuffix(h.buf[:n], []byte(end)); {
		got, err := nc.Read(h.buf[n:])
		if err != nil {
			h.t.Fatal(err)
		}
		n += got
	}
}

func (h *heldStreams) close() {
	_ = h.servers.Close()
	for _, e := range h.ends {
		_ = e.client.Close()
		_ = e.server.Close()
	}
}
