package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
)

const (
	descriptorsEnv = "SLUICE_TEST_DESCRIPTORS" // in the child process: the address of the server
	descriptors    = 80
	ownDescriptors = 16 // that the gateway has open for itself, at most
)

// A storm of connections on a gateway in a process of its own that has descriptors for few of them: each client is
// served or told at once to come back later, none is left waiting, none is taken for whom no server can be reached, the
// listener lives, and all is well 2 s after.
func TestDescriptorsRunOut(t *testing.T) {
	if server := os.Getenv(descriptorsEnv); server != "" {
		gatewayShortOfDescriptors(t, server)
		return
	}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond) // so that they are many at the same time
		if r.URL.Path == "/long" {
			time.Sleep(2 * time.Second)
		}
		_, _ = io.WriteString(w, "good")
	})
	child := exec.Command(os.Args[0], "-test.run=^TestDescriptorsRunOut$", "-test.v")
	child.Env = append(os.Environ(), descriptorsEnv+"="+server)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(stdout)
	addr := ""
	for addr == "" && said.Scan() {
		_, addr, _ = strings.Cut(said.Text(), "listening on ")
	}
	defer func() {
		_ = stdin.Close()
		rest, _ := io.ReadAll(stdout)
		if err := child.Wait(); err != nil {
			t.Errorf("%v\n%s", err, rest)
		}
	}()

	for range 2 {
		storm(t, addr)
		over := time.Now()
		for {
			status, reason, err := ask(addr)
			if err == nil && status == 200 {
				break
			}
			if time.Since(over) > 2*time.Second*slack {
				t.Fatalf("after the storm: %d %s, %v", status, reason, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	wakeSome(t, addr)
}

// wakeSome opens as many connections as are kept idle, and then asks for what takes long on so many of them that there
// are not descriptors enough for a server each: others that are still idle make room.
func wakeSome(t *testing.T, addr string) {
	t.Helper()
	var idle []net.Conn
	for range (descriptors - ownDescriptors) * 2 / 3 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if status, _, err := askOn(c); err != nil || status != 200 {
			t.Fatalf("%d, %v", status, err)
		}
		idle = append(idle, c)
	}
	const long = (descriptors - ownDescriptors) / 2
	var done sync.WaitGroup
	var served atomic.Int32
	for i, c := range idle {
		if _, err := io.WriteString(c, "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			continue // it made room
		}
		done.Go(func() {
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			switch r, err := http.ReadResponse(bufio.NewReader(c), nil); {
			case err != nil: // it made room
			case r.StatusCode == 200:
				served.Add(1)
			default:
				t.Errorf("%d %s with %d requests under way", r.StatusCode, r.Header.Get("X-Sluice-Reason"), i)
			}
		})
		time.Sleep(5 * time.Millisecond)
		if i == long {
			break
		}
	}
	done.Wait()
	if n := served.Load(); n < long*3/4 {
		t.Errorf("%d of %d were served", n, long)
	}
}

// slack is for a machine that is busy with other things too.
const slack = 3

// storm opens many times as many connections as the gateway has descriptors and keeps each until all are answered.
func storm(t *testing.T, addr string) {
	t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	var answered, done sync.WaitGroup
	leave := make(chan bool)
	for range 4 * descriptors {
		answered.Add(1)
		done.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				defer c.Close()
			}
			what := fmt.Sprint(err)
			if err == nil {
				status, reason, err := askOn(c)
				what = fmt.Sprint(status, reason, err)
			}
			mu.Lock()
			got[what]++
			mu.Unlock()
			answered.Done()
			<-leave
		})
	}
	answered.Wait()
	close(leave)
	done.Wait()
	ok, refused := got["200<nil>"], got["503"+ReasonConnLimited+"<nil>"]
	if refused == 0 || ok+refused != 4*descriptors {
		t.Errorf("clients got %v", got)
	}
}

func ask(addr string) (status int, reason string, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	return askOn(c)
}

func askOn(c net.Conn) (status int, reason string, err error) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	if _, err := io.ReadAll(r.Body); err != nil {
		return 0, "", err
	}
	return r.StatusCode, r.Header.Get("X-Sluice-Reason"), nil
}

// gatewayShortOfDescriptors serves until its standard input ends.
func gatewayShortOfDescriptors(t *testing.T, server string) {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: descriptors, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultUpstreamConfig()
	cfg.Timeouts.KeepAlive = 50 * time.Millisecond
	g := newGateway(t, balancer.DefaultConfig(), cfg, one(RouteConfig{}), server)
	fmt.Println("listening on " + g.addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if n := g.rejected("r", ReasonConnLimited); n > 0 {
		t.Errorf("%d requests were taken and had no descriptor for a server", n)
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
}
