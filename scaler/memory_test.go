package scaler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

func TestMemory(t *testing.T) {
	h := open(t, lawful, 1, 4, time.Second, 5*time.Second)
	h.seconds(300, 9)
	learned := lasting(h.state.Learned)
	dir := t.TempDir()
	file := filepath.Join(dir, "state.json")
	var out bytes.Buffer
	begin := func() *Memory {
		out.Reset()
		m := NewMemory(slog.New(slog.NewTextHandler(&out, nil)))
		m.Configure(file)
		return m
	}
	said := func(want string) { // in one line, or nothing
		t.Helper()
		if got := out.String(); !strings.Contains(got, want) || (got == "") != (want == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("the log says %q, not %q", got, want)
		}
	}

	m := begin()
	said("no state file yet")
	m.saved = time.Unix(5, 0) // not time to write yet
	m.keep("a", learned, time.Unix(10, 0))
	m.Save()
	if m = begin(); m.recall("a") != learned || m.recall("b") != (Learned{}) {
		t.Error("not the same after a restart")
	}
	said("")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("%v are left behind", left)
	}

	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"cut short": string(whole[:len(whole)/2]), "empty": "", "other": "[]", "version": strings.Replace(string(whole), `"version":1`, `"version":99`, 1),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m = begin(); m.recall("a") != (Learned{}) {
			t.Errorf("%s: believed", name)
		}
		said("learns afresh")
	}
	if err := os.Remove(file + ".bad"); err != nil { // of the one that was cut short
		t.Error(err)
	}
	unsound := strings.Replace(string(whole), `"load":`, `"load":-1,"x":`, 1)
	if err := os.WriteFile(file, []byte(unsound), 0o600); err != nil {
		t.Fatal(err)
	}
	if m = begin(); m.recall("a") != (Learned{}) {
		t.Error("an unsound entry is believed")
	}
	said("partly unsound")

	// What is newer than the file stays, and a folder that is gone is said.
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	m = NewMemory(slog.New(slog.NewTextHandler(&out, nil)))
	m.keep("a", Learned{Clock: 7}, time.Unix(20, 0))
	m.Configure(file)
	if m.recall("a").Clock != 7 {
		t.Error("the file replaced what is newer")
	}
	m.Configure(filepath.Join(dir, "gone", "state.json"))
	out.Reset()
	m.Save()
	said("cannot be written")

	for i := range memoryMost + 5 {
		m.keep(fmt.Sprint(i), Learned{}, time.Unix(int64(100+i), 0))
	}
	if len(m.entries) != memoryMost {
		t.Errorf("%d upstreams are remembered", len(m.entries))
	}
	var none *Memory
	none.keep("a", learned, time.Now())
	if none.Save(); none.recall("a") != (Learned{}) {
		t.Error("a nil memory remembers")
	}
}

// A loop begins with what was learned before and leaves what it has learned when it ends; a reload changes nothing of it.
func TestLoopRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := demoConfig()
		cfg.QueuedPerReplica = 0
		m := NewMemory(slog.New(slog.DiscardHandler))
		m.keep("demo", Learned{Clock: 1000, Service: ServiceTime{Mean: .5, Finished: 10, Served: 5, Occupied: 5}}, time.Now())
		u := balancer.NewUpstream("demo", balancer.DefaultConfig())
		loop := NewLoop(u, &fakeEngine{u: u, startTime: time.Second, changed: make(chan struct{}, 1)}, cfg, nil, slog.New(slog.DiscardHandler))
		loop.Remember(m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); loop.Run(ctx) }()
		time.Sleep(70*time.Second + time.Millisecond)
		synctest.Wait()
		first := m.recall("demo")
		if first.Clock < 1055 || first.Clock > 1075 || first.Service.Mean != .5 {
			t.Errorf("after 70 s the memory is at %g, mean %g", first.Clock, first.Service.Mean)
		}
		loop.Configure(cfg)
		time.Sleep(30 * time.Second)
		cancel()
		<-done
		u.Close()
		if last := m.recall("demo"); last.Clock < 1095 || last.Clock > 1105 {
			t.Errorf("after a reload, and at its end after 100 s, at %g", last.Clock)
		}
	})
}

// Save is the last to write: a goroutine that was to write the file, and comes later, finds nothing to do.
func TestNothingIsWrittenBehindSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	m := NewMemory(slog.New(slog.DiscardHandler))
	m.Configure(file)
	m.writing.Lock() // the goroutine that keep begins waits
	m.keep("a", Learned{Clock: 5}, epoch)
	m.writing.Unlock()
	m.Save()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	m.saveDue()
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was written again: %v", err)
	}
}
