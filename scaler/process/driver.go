package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// Options say what a Driver runs.
type Options struct {
	// Upstream names the replicas and stands in their log lines.
	Upstream string
	Config   scaler.ProcessConfig
	// Binary is sluice itself: $SLUICE in the command, and what the guards are. Required.
	Binary string
	Log    *slog.Logger
	Output *slog.Logger // of what the processes write; nil is Log
}

// Driver is the scaler.Driver and the discovery source of one upstream's processes. All methods may be called
// concurrently.
type Driver struct {
	upstream, binary string
	log, output      *slog.Logger
	updated          chan struct{} // capacity 1: for Run
	changed          chan struct{} // capacity 1: for the loop
	pickPort         func() (int, error)

	gauge   gauge
	scaling sync.Mutex // one of Scale, Handover, Resume, Adopt, Close at a time

	mu       sync.Mutex // guards all below, and the changing fields of the replicas
	cfg      scaler.ProcessConfig
	print    string
	replicas []*replica
	clashes  int  // taken ports in a row
	closed   bool // no more starts
	handed   bool // the replicas belong to another sluice
}

var (
	_ scaler.Driver  = (*Driver)(nil)
	_ scaler.Changer = (*Driver)(nil)
	_ scaler.Gauge   = (*Driver)(nil)
)

// ErrClosed is what Scale returns after Close or Handover.
var ErrClosed = errors.New("process driver is closed")

// New makes a driver without replicas.
func New(opts Options) *Driver {
	d := &Driver{
		upstream: opts.Upstream, binary: opts.Binary, log: opts.Log.With("upstream", opts.Upstream),
		updated: make(chan struct{}, 1), changed: make(chan struct{}, 1), pickPort: freePort,
	}
	if abs, err := filepath.Abs(opts.Binary); err == nil { // Dir may be another
		d.binary = abs
	}
	d.output = d.log
	if opts.Output != nil {
		d.output = opts.Output.With("upstream", opts.Upstream)
	}
	d.cfg, d.print = opts.Config, fingerprint(opts.Config)
	return d
}

// Configure takes a new declaration. Replicas of an older one live on, listed as outdated.
func (d *Driver) Configure(cfg scaler.ProcessConfig) {
	d.mu.Lock()
	d.cfg, d.print = cfg, fingerprint(cfg)
	d.mu.Unlock()
	d.tell()
}

// fingerprint is equal for declarations that start the same.
func fingerprint(cfg scaler.ProcessConfig) string {
	b, _ := json.Marshal([]any{cfg.Command, cfg.Env, cfg.Dir}) // strings always marshal, maps in order
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Scale starts and stops processes; see scaler.Driver. It waits until those it starts have their pid.
func (d *Driver) Scale(ctx context.Context, n int, victims []string) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	d.mu.Lock()
	if d.closed || d.handed {
		d.mu.Unlock()
		return ErrClosed
	}
	d.replicas = slices.DeleteFunc(d.replicas, func(r *replica) bool { return r.state == scaler.ReplicaFailed && r.listed })
	for _, id := range victims {
		for _, r := range d.replicas {
			if r.id == id && r.live() {
				d.stop(r)
			}
		}
	}
	var live []*replica
	used := map[int]bool{}
	for _, r := range d.replicas {
		used[r.index] = used[r.index] || r.state != scaler.ReplicaFailed
		if r.live() {
			live = append(live, r)
		}
	}
	for len(live) > max(n, 0) { // no victim was named: the youngest
		d.stop(live[len(live)-1])
		live = live[:len(live)-1]
	}
	d.mu.Unlock()
	d.tell()

	errs := make([]error, max(n-len(live), 0))
	var wait sync.WaitGroup
	index := 0
	for i := range errs {
		for index++; used[index]; index++ {
		}
		at := index
		wait.Go(func() { errs[i] = d.start(ctx, at) })
	}
	wait.Wait()
	for _, err := range errs { // they fail alike: one says it for all
		if err != nil {
			return err
		}
	}
	return nil
}

// List is every process that has not been forgotten; it never fails.
func (d *Driver) List(context.Context) ([]scaler.Replica, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]scaler.Replica, 0, len(d.replicas))
	for _, r := range d.replicas {
		r.listed = true
		all = append(all, scaler.Replica{
			ID: r.id, Addr: r.addr(), State: r.state, Asked: r.asked, Reason: r.reason, Index: r.index, Outdated: r.print != d.print,
		})
	}
	return all, nil
}

// Changed tells that a process has ended; see scaler.Changer.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Run sends the addresses of the processes, and again whenever one was started, is to stop or has ended,
// until ctx ends. It is what discovery calls a source.
func (d *Driver) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	for {
		select {
		case out <- d.specs():
		case <-ctx.Done():
			return nil
		}
		select {
		case <-d.updated:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Driver) specs() []balancer.ServerSpec {
	d.mu.Lock()
	defer d.mu.Unlock()
	specs := []balancer.ServerSpec{}
	for _, r := range d.replicas {
		if r.live() {
			specs = append(specs, balancer.ServerSpec{ID: r.id, Addr: r.addr()})
		}
	}
	return specs
}

// tell says that the list is another.
func (d *Driver) tell() {
	for _, c := range []chan struct{}{d.updated, d.changed} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Close ends every process as Scale(0) would and waits for them; when ctx ends first they are killed. After a
// Handover it leaves them alone.
func (d *Driver) Close(ctx context.Context) {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	d.gauge.close()
	d.mu.Lock()
	d.closed = true
	if d.handed {
		for _, r := range d.replicas {
			r.line.Close()
			r.out.Close()
		}
		d.replicas = nil
		d.mu.Unlock()
		return
	}
	for _, r := range d.replicas {
		if r.live() {
			d.stop(r)
		}
	}
	all := slices.Clone(d.replicas)
	d.mu.Unlock()
	d.tell()
	for _, r := range all {
		select {
		case <-r.gone:
			continue
		case <-ctx.Done():
			r.order(tellKill)
		}
		select {
		case <-r.gone:
		case <-time.After(2 * time.Second):
			d.log.Error("replica does not end", "replica", r.id, "pid", r.pid)
		}
	}
}

// freePort is a port of the loopback address that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
