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
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
)

const (
	descriptorsEnv = "SLUICE_TEST_DESCRIPTORS" // in the child process: the address of the server
	descriptors    = 60
)

// A storm of connections uses up the descriptors of a gateway in a process of its own: each client is served or told to come back
// later, none is left waiting, the listener lives, and all is well 2 s after the storm.
func TestDescriptorsRunOut(t *testing.T) {
	if server := os.Getenv(descriptorsEnv); server != "" {
		gatewayShortOfDescriptors(t, server)
		return
	}
	server := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "good") })
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
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), server)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: descriptors, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening on " + g.addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
}
