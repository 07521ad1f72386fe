package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sluice/scaler"
)

// handed is one replica in the state that Handover gives away. Its two files, lifeline and output, are at the
// same place among the files: 2·i and 2·i+1.
type handed struct {
	ID       string    `json:"id"`
	Index    int       `json:"index"`
	PID      int       `json:"pid"`
	Port     int       `json:"port"`
	Asked    time.Time `json:"asked"`
	Print    string    `json:"print"`
	Stopping bool      `json:"stopping,omitempty"`
}

// Handover gives the replicas away: files to pass to another sluice process, which calls Adopt with them and
// the state. From then on this driver neither starts, stops nor watches them (Close leaves them alone), until
// Resume takes them back because the other process failed. The caller closes files when it has passed them;
// as long as one process holds a lifeline open the replica lives.
func (d *Driver) Handover() (files []*os.File, state []byte) {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	d.mu.Lock()
	d.handed = true
	var all []*replica
	for _, r := range d.replicas {
		if r.state != scaler.ReplicaFailed {
			all = append(all, r)
		}
	}
	d.mu.Unlock()

	list := []handed{}
	for _, r := range all {
		if !r.interrupt() {
			continue // it has just ended
		}
		line, err1 := duplicate(r.line)
		out, err2 := duplicate(r.out)
		if err1 != nil || err2 != nil {
			d.log.Error("replica is not handed over", "replica", r.id, "error", fmt.Sprint(err1, err2))
			continue
		}
		files = append(files, line, out)
		list = append(list, handed{r.id, r.index, r.pid, r.port, r.asked, r.print, r.state == scaler.ReplicaStopping})
	}
	state, _ = json.Marshal(list) // plain values always marshal
	return files, state
}

// interrupt makes both readers stop where they are; false when the replica has ended instead.
func (r *replica) interrupt() bool {
	past := time.Unix(1, 0)
	_ = r.line.SetReadDeadline(past)
	_ = r.out.SetReadDeadline(past)
	for range 2 {
		select {
		case <-r.pause:
		case <-r.gone:
			return false
		}
	}
	return true
}

// duplicate is a second descriptor of f, which stays usable with deadlines.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Resume takes back what Handover gave away.
func (d *Driver) Resume() {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	d.mu.Lock()
	if !d.handed || d.closed {
		d.mu.Unlock()
		return
	}
	d.handed = false
	all := append([]*replica(nil), d.replicas...)
	d.mu.Unlock()
	for _, r := range all {
		select {
		case <-r.gone:
			continue
		default:
		}
		for _, f := range []*os.File{r.line, r.out} {
			if raw, err := f.SyscallConn(); err == nil { // passing a file on makes it blocking, for all who share it
				_ = raw.Control(func(fd uintptr) { _ = unix.SetNonblock(int(fd), true) })
			}
			_ = f.SetReadDeadline(time.Time{})
		}
		d.follow(r)
	}
	d.tell()
}

// Adopt takes over the replicas that another process gave away with Handover. It owns the files from here on,
// also when it fails; then the replicas end. Call it before Run and Scale.
func (d *Driver) Adopt(state []byte, files []*os.File) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	var list []handed
	err := json.Unmarshal(state, &list)
	if err == nil && len(files) != 2*len(list) {
		err = fmt.Errorf("%d files for %d replicas", len(files), len(list))
	}
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return fmt.Errorf("replicas handed over: %w", err)
	}
	for i, h := range list {
		r := &replica{id: h.ID, index: h.Index, pid: h.PID, port: h.Port, asked: h.Asked, print: h.Print, state: scaler.ReplicaRunning}
		if h.Stopping {
			r.state = scaler.ReplicaStopping
		}
		line, err1 := pollable(files[2*i])
		out, err2 := pollable(files[2*i+1])
		if err1 == nil {
			err1 = r.hold(line)
		}
		if err1 != nil || err2 != nil {
			err = fmt.Errorf("replica %s: %w", h.ID, errors.Join(err1, err2))
			continue
		}
		r.out = os.NewFile(uintptr(out), "output")
		d.mu.Lock()
		d.replicas = append(d.replicas, r)
		d.mu.Unlock()
		d.follow(r)
	}
	d.tell()
	return err
}

// pollable takes f's descriptor out of f, which it closes.
func pollable(f *os.File) (int, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return fd, unix.SetNonblock(fd, true)
}
