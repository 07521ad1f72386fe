package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// gatewayFaults are what a soak does to a sluice of its own and to its replicas.
type gatewayFaults struct {
	g     *gateway
	write func() error // writes the next generation of the configuration file

	mu      sync.Mutex
	stopped []int // guarded by mu: pids that are to be continued
	victims []int // guarded by mu: pids that were killed or frozen at some time
	waiting sync.WaitGroup
}

// reload loads a changed configuration file.
func (f *gatewayFaults) reload(ctx context.Context, _ *rand.Rand) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.g.call(ctx, "POST", "/api/v1/reload", nil, nil)
}

// scale pins another number of replicas.
func (f *gatewayFaults) scale(ctx context.Context, rng *rand.Rand) error {
	return f.g.call(ctx, "POST", "/api/v1/upstreams/soak/scale", map[string]any{"replicas": 2 + rng.IntN(4)}, nil)
}

// kill ends a ready replica as a crash would.
func (f *gatewayFaults) kill(ctx context.Context, rng *rand.Rand) error {
	pid, err := f.replica(ctx, rng)
	if err != nil || pid == 0 {
		return err
	}
	f.strike(pid)
	return ignoreGone(syscall.Kill(pid, syscall.SIGKILL))
}

// stop freezes a ready replica for three seconds.
func (f *gatewayFaults) stop(ctx context.Context, rng *rand.Rand) error {
	pid, err := f.replica(ctx, rng)
	if err != nil || pid == 0 {
		return err
	}
	f.strike(pid)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return ignoreGone(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = append(f.stopped, pid)
	f.waiting.Go(func() {
		time.Sleep(3 * time.Second)
		f.resume(pid)
	})
	return nil
}

// strike enters a victim, before the blow: its answers are cut at once.
func (f *gatewayFaults) strike(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.victims = append(f.victims, pid)
}

// hasStruck knows a backend by its X-Backend, "host-pid".
func (f *gatewayFaults) hasStruck(backend string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	pid, err := strconv.Atoi(backend[strings.LastIndex(backend, "-")+1:])
	return err == nil && slices.Contains(f.victims, pid)
}

func (f *gatewayFaults) resume(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.stopped, pid); i >= 0 {
		f.stopped = slices.Delete(f.stopped, i, i+1)
		// sluice may have replaced it meanwhile, and the pid may be another's.
		if slices.Contains(processesOf(f.g.binary), pid) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// calm lets every stopped replica run on and unpins the count.
func (f *gatewayFaults) calm(ctx context.Context) error {
	f.waiting.Wait()
	return f.g.call(ctx, "POST", "/api/v1/upstreams/soak/scale", map[string]any{"replicas": "auto"}, nil)
}

// replica is the pid of a ready replica that is not stopped; 0 when fewer than two are ready, since sluice does
// not promise anything without a server.
func (f *gatewayFaults) replica(ctx context.Context, rng *rand.Rand) (int, error) {
	u, err := f.g.status(ctx, "soak")
	if err != nil {
		return 0, err
	}
	ours := processesOf(f.g.binary)
	var pids []int
	for _, s := range u.Servers {
		if s.State != "ready" {
			continue
		}
		pid, err := backendPID(ctx, s.Addr)
		if err != nil || !slices.Contains(ours, pid) {
			continue // it has just ended or hangs
		}
		pids = append(pids, pid)
	}
	if len(pids) < 2 {
		return 0, nil
	}
	return pids[rng.IntN(len(pids))], nil
}

// backendPID asks a demo backend for its pid.
func backendPID(ctx context.Context, addr string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/stats", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var s struct{ PID int }
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return 0, err
	}
	if s.PID <= 1 {
		return 0, fmt.Errorf("%s has no pid", addr)
	}
	return s.PID, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// freePorts gives n different ports of 127.0.0.1 that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() // all of them at the end: a port that is free again is given again
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
