package http1

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// Large bodies of known length arrive whole, both ways, whatever the pieces and the pauses, and the connections live on.
func TestLargeBodiesArriveWhole(t *testing.T) {
	for _, size := range []int{31 << 10, 48 << 10, 64<<10 + 1, 300 << 10, 3 << 20} {
		body := randomBytes(size)
		f, h := startRelay(t, script(t, func(nc *client) {
			for {
				head, err := nc.readHead()
				if err != nil {
					return
				}
				got := make([]byte, size)
				if strings.HasPrefix(head, "POST") {
					for n := 0; n < size; { // slower than it is sent
						k, err := nc.r.Read(got[n:min(n+50_000, size)])
						if err != nil {
							return
						}
						n += k
						time.Sleep(time.Millisecond)
					}
				} else {
					copy(got, body)
				}
				_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				for rest := got; len(rest) > 0; {
					n := min(len(rest), 100_000)
					if _, err := nc.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}
		}))
		c := f.dial(t)
		for _, method := range []string{"GET", "POST", "GET"} {
			go func() {
				if method == "POST" {
					_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body)
				} else {
					_, _ = io.WriteString(c, getRoot)
				}
			}()
			time.Sleep(5 * time.Millisecond) // let buffers run full
			if resp, got := c.response(method); resp.StatusCode != 200 || sha256.Sum256([]byte(got)) != sha256.Sum256(body) {
				t.Fatalf("%s of %d bytes: %d, %d bytes back: %v", method, size, resp.StatusCode, len(got), h.last())
			}
		}
		if h.failures() != 0 || h.t.Live() != 1 {
			t.Errorf("%d bytes: %v, %d connections to the server", size, h.last(), h.t.Live())
		}
	}
}

// A large body that is cut short is cut for the client too, and its pipe is not used again.
func TestLargeBodyCutShort(t *testing.T) {
	const size = 1 << 20
	body := randomBytes(size)
	f, h := startRelay(t, script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
		if requestPath(head) == "/cut" {
			_, _ = nc.Write(body[:size/2])
			return
		}
		_, _ = nc.Write(body)
	}))
	for range 5 {
		c := f.dial(t)
		c.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
		got, err := io.ReadAll(c.r)
		if !isReset(err) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if at := bytes.Index(got, []byte("\r\n\r\n")); at >= 0 && !bytes.HasPrefix(body, got[at+4:]) {
			t.Error("other bytes")
		}
		if !errors.Is(h.last(), ErrBodyCut) {
			t.Error(h.last())
		}
		c = f.dial(t)
		c.send(getRoot)
		if _, got := c.response("GET"); got != string(body) {
			t.Fatalf("%d bytes after a cut body", len(got))
		}
	}
}

// A client that leaves in the middle of a large body does not hold the connection to the server.
func TestClientLeavesLargeBody(t *testing.T) {
	body := randomBytes(8 << 20)
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err == nil {
			_, _ = fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	}))
	c := f.dial(t)
	c.send(getRoot)
	if _, err := io.CopyN(io.Discard, c.r, 100<<10); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}
