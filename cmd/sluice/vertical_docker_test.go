package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/admin"
	"sluice/scaler/vertical"
)

// A gateway that remembers days of little use lowers what its containers may use while they serve: one after the other,
// in place and without a lost request. Status and metrics tell what they should have.
func TestContainersAreSizedInPlace(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	d, owner := docker(t)
	m := vertical.NewModel()
	for at := time.Now().Add(-8 * 24 * time.Hour); at.Before(time.Now()); at = at.Add(vertical.Every) {
		m.Add(vertical.Sample{Replica: "before", CPU: .3, Memory: 60 << 20, Has: 1, Limit: 1}, at)
	}
	state, err := json.Marshal(map[string]any{"version": 1, "upstreams": map[string]any{"api": map[string]any{"at": time.Now(), "vertical": m.Checkpoint()}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(file, state, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, fmt.Sprintf(`
log.access = "off"
scale.state_file = %q
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
upstream = "api"
[upstream.api]
container = { image = %q, command = ["demo-backend", "--addr", "0.0.0.0:8000", "--service-time", "20ms"], cpus = 1, memory = "400MiB", port = 8000, stop_grace = "1s" }
health_check = { path = "/healthz", interval = "500ms", timeout = "10s" }
scale = { min = 2, max = 2, vertical = "recommend", vertical_min = { memory = "16MiB" } }
`, file, owner, d.socket(), d.image(owner)))
	// With apply new ones would start with less: these start while it is only recommended.
	s.waitReplicas("api", 2, 90*time.Second)
	format := "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"
	limits := func() []string {
		var all []string
		for _, id := range d.containers("sluice.owner="+owner, "{{.ID}}") {
			all = append(all, d.run("inspect", "-f", "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}", id))
		}
		return all
	}
	lives := func() []string {
		var all []string
		for _, id := range d.containers("sluice.owner="+owner, "{{.ID}}") {
			all = append(all, d.run("inspect", "-f", format, id))
		}
		slices.Sort(all)
		return all
	}
	was := lives()
	if got := limits(); len(got) != 2 || got[0] != "1000000000 419430400" || got[1] != got[0] {
		t.Fatalf("they begin with %q", got)
	}
	wait := load(t, "--rate", "20", "--duration", "130s", s.url)
	s.edit(`vertical = "recommend"`, `vertical = "apply"`)
	s.signalReload()
	within(t, 125*time.Second, "both have less", func() bool {
		got := limits()
		return len(got) == 2 && got[0] != "1000000000 419430400" && got[0] == got[1]
	})
	l := wait()
	l.lostNothing(t)
	if l.Refused > 0 {
		t.Errorf("%d were refused", l.Refused)
	}
	if is := lives(); !slices.Equal(is, was) {
		t.Errorf("they were %q and are %q", was, is)
	}
	_, body, _ := fetch(s.admin + "/api/v1/status")
	var st admin.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || len(st.Upstreams) != 1 {
		t.Fatalf("%v in %s", err, body)
	}
	v := st.Upstreams[0].Vertical
	if v == nil || v.Recommendation == nil || v.Failure != "" || !strings.Contains(v.Reason, "1 cores to ") || len(v.Replicas) != 2 {
		t.Fatalf("status %+v", v)
	}
	for _, r := range v.Replicas {
		if r.CPUs < v.Lower.CPUs*.98 || r.CPUs > v.Upper.CPUs*1.02 || r.Memory < v.Lower.Memory || r.Memory > v.Upper.Memory {
			t.Errorf("%s has %v, outside %v to %v", r.ID, r.Resources, v.Lower, v.Upper)
		}
	}
	if _, text, _ := fetch(s.admin + "/metrics"); !strings.Contains(text, `sluice_vertical_cpu_cores{bound="target",upstream="api"}`) || !strings.Contains(text, `sluice_replica_cpu_cores{`) {
		t.Error("no metrics tell of it")
	}
	if code, out, errs := commandOutput(t, "status", "-c", s.file); code != 0 || !strings.Contains(out, "REPLICAS SHOULD HAVE") {
		t.Errorf("status: %d, %s%s", code, out, errs)
	} else {
		t.Log("\n" + out)
	}
}
