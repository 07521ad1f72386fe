package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Tasks that wait within the replicas, which no request tells of, scale them; while they are not known nothing goes down;
// and they stand in the metrics.
func TestServersOwnQueuesScale(t *testing.T) {
	var waiting atomic.Int64 // of each replica; below zero: no answer
	told := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := waiting.Load(); n < 0 || r.URL.Path != "/tasks" {
			w.WriteHeader(503)
		} else {
			fmt.Fprintf(w, `{"tasks": {"waiting": %d}}`, n)
		}
	}))
	defer told.Close()
	port := told.URL[strings.LastIndexByte(told.URL, ':')+1:]
	const signals = `signals = { path = "/tasks", port = %s, task_queue = "tasks.waiting", interval = "1s", timeout = "500ms" }, `
	s := start(t, demo(`"--service-time", "1ms"`, `scale = { `+fmt.Sprintf(signals, port)+`min = 1, max = 3, queued_per_replica = 10, cooldown_down = "1s" }`))
	s.waitReplicas("demo", 1, 20*time.Second)
	metric := func() string {
		_, text, err := fetch(s.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "sluice_ai_task_queue_depth{") {
				return line
			}
		}
		return ""
	}
	within(t, 20*time.Second, "the metric", func() bool { return strings.HasSuffix(metric(), `upstream="demo"} 0`+"\n") })

	waiting.Store(25)
	s.waitReplicas("demo", 3, 30*time.Second)
	within(t, 20*time.Second, "the decision names the tasks of three replicas", func() bool { return strings.Contains(s.upstream("demo").Reason, "tasks 75") })

	waiting.Store(-1)
	var since time.Time
	within(t, 30*time.Second, "it is held for long after the last answer", func() bool {
		u := s.upstream("demo")
		if u.Wanted != 3 {
			t.Fatalf("wanted %d: %s", u.Wanted, u.Reason)
		}
		if strings.Contains(u.Reason, "own queue of 3 of 3 servers not known (/tasks answers 503)") {
			if since.IsZero() {
				since = time.Now()
			}
			return time.Since(since) > 4*time.Second // four times cooldown_down
		}
		return false
	})
	if m := metric(); m != "" {
		t.Errorf("a metric that is not known any more: %s", m)
	}

	waiting.Store(0)
	s.waitReplicas("demo", 1, 30*time.Second)
	s.edit(fmt.Sprintf(signals, port), "")
	s.signalReload()
	within(t, 20*time.Second, "without the key there is no metric", func() bool { return metric() == "" })
}

func (s *running) signalReload() {
	s.t.Helper()
	if code, out, err := fetchPost(s.admin+"/api/v1/reload", ""); err != nil || code != 200 {
		s.t.Fatalf("reload: %d %s %v", code, out, err)
	}
}
