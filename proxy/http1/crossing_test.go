package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Servers that close at will, send what nobody asked for, cut and answer early; clients that leave in the middle: every answer that
// does arrive belongs to its request, in full. (What a server sends unasked after the next request lies in its kernel already nobody can tell
// from an answer; here it comes with the response before.)
func TestNothingIsCrossed(t *testing.T) {
	const clients, rounds = 16, 150
	var seed atomic.Uint64
	addr := script(t, func(nc *client) {
		r := rand.New(rand.NewPCG(1, seed.Add(1)))
		for {
			req, err := http.ReadRequest(nc.r)
			if err != nil {
				return
			}
			id := req.Header.Get("X-Id")
			body := strings.Repeat(id+" ", 1+r.IntN(3000))
			if r.IntN(10) > 0 {
				if n, err := io.Copy(io.Discard, req.Body); err != nil || strconv.FormatInt(n, 10) != req.Header.Get("X-Length") {
					return // the client left
				}
			}
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
			if r.IntN(2) == 0 {
				answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Id: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", id, len(body), body)
			}
			switch r.IntN(12) {
			case 0:
				answer += okBody("poison")
			case 1:
				answer = answer[:r.IntN(len(answer))]
				_, _ = nc.Write([]byte(answer))
				return
			case 2:
				_, _ = nc.Write([]byte(answer))
				return
			}
			if _, err := nc.Write([]byte(answer)); err != nil {
				return
			}
			if req.Body != nil {
				_, _ = io.Copy(io.Discard, req.Body)
			}
		}
	})
	f, h := startRelay(t, addr)
	var ok, failed atomic.Int64
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(n)))
			var nc net.Conn
			var br *bufio.Reader
			for round := range rounds {
				if nc == nil {
					var err error
					if nc, err = net.Dial("tcp", f.addr); err != nil {
						t.Error(err)
						return
					}
					_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
					br = bufio.NewReader(nc)
				}
				id := fmt.Sprintf("%d-%d", n, round)
				size := r.IntN(3) * r.IntN(40000)
				head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nX-Length: %d\r\nContent-Length: %d\r\n\r\n", id, size, size)
				if leaves := r.IntN(20) == 0; leaves {
					_, _ = io.WriteString(nc, head[:r.IntN(len(head))])
					_ = nc.Close()
					nc = nil
					continue
				}
				go func(nc net.Conn) { _, _ = io.WriteString(nc, head+strings.Repeat("b", size)) }(nc)
				resp, err := http.ReadResponse(br, nil)
				var got []byte
				if err == nil {
					got, err = io.ReadAll(resp.Body)
				}
				if err == nil && resp.StatusCode == 200 {
					if resp.Header.Get("X-Id") != id || strings.ReplaceAll(string(got), id+" ", "") != "" {
						t.Errorf("%s got the answer of %s", id, resp.Header.Get("X-Id"))
					}
					ok.Add(1)
				} else {
					failed.Add(1)
				}
				// A client that still sends while the answer is there cannot use the connection again; leaving tests more.
				if err != nil || resp.Close || size > 0 {
					_ = nc.Close()
					nc = nil
				}
			}
			if nc != nil {
				_ = nc.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%d good, %d failed", ok.Load(), failed.Load())
	if ok.Load() < clients*rounds/2 {
		t.Errorf("only %d good answers", ok.Load())
	}
	var fault *ProtocolError
	if errors.As(h.last(), &fault) && fault.Status == 400 {
		t.Error(fault)
	}
	eventually(t, "all connections settled", func() bool {
		open, active := f.Conns()
		return open == 0 && active == 0 && h.t.Live() == h.t.Idle()
	})
}
