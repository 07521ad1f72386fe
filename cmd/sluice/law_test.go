package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Without an objective the law sizes, and what it has learned outlives sluice; a state file that is damaged is said
// and learned anew.
func TestLawScalesAndRemembers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	s := start(t, "scale.state_file = \""+file+"\"\n"+demo(`"--concurrency", "2", "--service-time", "100ms"`, `max_conns = 2
scale = { min = 1, max = 6, start_time = "1s" }`))
	s.waitReplicas("demo", 1, 10*time.Second)
	wait := load(t, "--rate", "55", "--duration", "10s", s.url)
	within(t, 10*time.Second, "replicas for a load of 5.5", func() bool { return s.upstream("demo").Ready >= 3 })
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("%d refused with a queue that was never full: %+v", l.Refused, l)
	}
	if reason := s.upstream("demo").Reason; !strings.Contains(reason, "expected with a start taking") {
		t.Errorf("the reason is %q", reason)
	}

	end := func() {
		t.Helper()
		s.signal(syscall.SIGTERM)
		if code := s.exitCode(15 * time.Second); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
	end()
	whole, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(whole), `"demo"`) {
		t.Fatalf("the state file: %.80q, %v", whole, err)
	}
	s.launch()
	s.waitReady()
	if strings.Contains(s.log.String(), "state file") {
		t.Errorf("a sound state file is complained of:\n%s", s.log)
	}
	end()
	if err := os.WriteFile(file, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s.launch()
	s.waitReady()
	if !strings.Contains(s.log.String(), "the state file cannot be read: scaling learns afresh") {
		t.Errorf("a damaged state file is not said:\n%s", s.log)
	}
}

// An upgrade hands the state file over: for a moment two processes have it, and neither takes the other for a stranger.
func TestStateFileOverAnUpgrade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	s := start(t, "scale.state_file = \""+file+"\"\n"+demo(`"--service-time", "1ms"`, "scale = { min = 1, max = 2, start_time = \"1s\" }"))
	s.waitReplicas("demo", 1, 20*time.Second)
	time.Sleep(2500 * time.Millisecond) // a little is learned
	s.upgrade()
	s.waitReplicas("demo", 1, 20*time.Second)
	time.Sleep(2500 * time.Millisecond)
	s.signal(syscall.SIGTERM)
	within(t, 20*time.Second, "the successor's state", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), `"demo"`)
	})
	within(t, 20*time.Second, "the end", func() bool { return strings.Count(s.log.String(), "msg=ended") == 2 })
	if strings.Contains(s.log.String(), "somebody else") {
		t.Errorf("the two take each other for strangers:\n%s", s.log)
	}
}
