package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// demo runs a demo backend that answers with its name, as somebody else would.
func (d dockerEngine) demo(t *testing.T, image, name string, labels ...string) (id string) {
	t.Helper()
	args := []string{"run", "-d", "--name", name}
	for _, l := range labels {
		args = append(args, "--label", l)
	}
	id = d.run(append(args, image, "demo-backend", "--addr", "0.0.0.0:8000", "--id", name, "--service-time", "5ms")...)
	t.Cleanup(func() { _, _ = d.try("rm", "-f", "-v", id) })
	return id
}

// answerer asks for host and says which backend answered; "" is sluice itself.
func answerer(url, host string) (backend string, code int, err error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", 0, err
	}
	req.Host = host
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return "", 0, err
	}
	resp.Body.Close()
	return resp.Header.Get("X-Backend"), resp.StatusCode, nil
}

// A container whose labels claim what is another's gets no request: a host of the file, a host of another project, or the
// place of a replica. It is said in the status, in the log and in the metrics, and nobody touches the container.
func TestStrangersGetNothingAndAreLeftAlone(t *testing.T) {
	d, owner := docker(t)
	image := d.image(owner)
	mine, theirs := owner+".mine.example", owner+".theirs.example"
	config := containerConfig(owner, image, d.socket(), "min = 2, max = 3, cooldown_down = \"1s\"")
	s := start(t, strings.Replace(config, "[[route]]\n", fmt.Sprintf("[[route]]\nhost = %q\n", mine), 1))
	s.waitReplicas("api", 2, 60*time.Second)

	// The project whose host it is, and then those who would like to have it.
	project := func(name string) string { return "com.docker.compose.project=" + owner + name }
	honest := d.demo(t, image, owner+"-honest", project("a"), "com.docker.compose.service=web", "sluice.host="+theirs, "sluice.port=8000", "sluice.upstream="+owner+"web")
	within(t, 20*time.Second, "the honest project is routed", func() bool {
		backend, _, _ := answerer(s.url, theirs)
		return backend == owner+"-honest"
	})
	stop, sent, diverted := make(chan struct{}), atomic.Int64{}, atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			for host, ok := range map[string]func(string) bool{
				mine:   func(b string) bool { return b != "" && !strings.HasPrefix(b, owner) },
				theirs: func(b string) bool { return b == owner+"-honest" },
			} {
				backend, code, err := answerer(s.url, host)
				if sent.Add(1); err != nil || code != http.StatusOK || !ok(backend) {
					diverted.Add(1)
					t.Errorf("%s: %q, %d, %v", host, backend, code, err)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	strangers := []string{honest,
		d.demo(t, image, owner+"-rogue", project("b"), "com.docker.compose.service=web", "sluice.host="+mine, "sluice.port=8000", "sluice.upstream="+owner+"rogue"),
		d.demo(t, image, owner+"-thief", project("c"), "com.docker.compose.service=shop", "sluice.host="+theirs, "sluice.port=8000", "sluice.upstream="+owner+"thief"),
		d.demo(t, image, owner+"-usurper", project("d"), "com.docker.compose.service=api", "sluice.host=x."+theirs, "sluice.port=8000", "sluice.upstream=api"),
		d.demo(t, image, owner+"-forged", "sluice.owner="+owner, "sluice.replica.upstream=api", "sluice.replica.ordinal=2"),
		d.demo(t, image, owner+"-foreign", "sluice.owner=another", "sluice.replica.upstream=api", "sluice.replica.ordinal=2"),
	}
	said := func(words ...string) func() bool {
		return func() bool {
			_, body, _ := fetch(s.admin + "/api/v1/status")
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(body, strings.ReplaceAll(w, `"`, `\"`)) })
		}
	}
	within(t, 20*time.Second, "the status says who is refused and why", said(
		owner+`-rogue: label sluice.host: the host "`+mine+`" belongs to the configuration file`,
		owner+`-thief: label sluice.host: the host "`+theirs+`" belongs to project "`+owner+`a"`,
		owner+`-usurper: the upstream name "api" belongs to the configuration file`,
		owner+"-forged", "its name does not follow from its labels",
	))
	within(t, 20*time.Second, "the metrics say so too", func() bool {
		_, text, _ := fetch(s.admin + "/metrics")
		return strings.Contains(text, "sluice_labels_refused 3\n")
	})
	// Up, down, and what was there goes on: only its own containers are stopped.
	s.pin("api", 3)
	s.waitReplicas("api", 3, 60*time.Second)
	s.pin("api", 1)
	s.waitReplicas("api", 1, 90*time.Second)
	time.Sleep(time.Second)
	for _, name := range []string{"-rogue", "-thief", "-usurper", "-forged", "-foreign"} {
		if !strings.Contains(s.log.String(), owner+name) {
			t.Errorf("the log does not name %s", name)
		}
	}
	close(stop)
	<-done
	t.Logf("%d requests, %d diverted", sent.Load(), diverted.Load())
	for _, id := range strangers {
		if state := d.run("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", id); state != "running 0" {
			t.Errorf("%s is %s", id, state)
		}
	}
}
