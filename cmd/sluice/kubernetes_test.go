package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/config"
)

// kubernetesEngine chooses the engine for a configuration with that [engine] table.
func kubernetesEngine(t *testing.T, table string) *engine {
	t.Helper()
	cfg, err := config.Parse("config.toml", []byte("engine = { "+table+" }\n[[route]]\nupstream = \"api\"\n[upstream.api]\nservice = \"api\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := chooseEngine(cfg, "config.toml")
	t.Cleanup(e.close)
	return e
}

func TestKubernetesIsChosen(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(`{"gitVersion": "v1.37.2"}`))
	}))
	defer api.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '" + api.URL + "'}}]\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", file)
	e := kubernetesEngine(t, `kind = "kubernetes", namespace = "team-a"`)
	if e.kube == nil || e.missing() || !strings.Contains(e.String(), "kubernetes: engine.kind is kubernetes; the API server at "+api.URL) || !strings.HasSuffix(e.String(), "namespace team-a, answers (v1.37.2)") {
		t.Errorf("%s", e)
	}
	// Outside a cluster it has to be named: a file for kubectl says nothing of where sluice runs.
	if e := kubernetesEngine(t, `kind = "auto", socket = "unix:///nowhere"`); e.kind == "kubernetes" {
		t.Errorf("auto: %s", e)
	}
	api.Close()
	if e := kubernetesEngine(t, `kind = "kubernetes"`); e.kube == nil || !strings.Contains(e.String(), "does not answer yet") {
		t.Errorf("an API server that is away: %s", e)
	}
	t.Setenv("KUBECONFIG", "")
	if e := kubernetesEngine(t, `kind = "kubernetes"`); !e.missing() || !strings.Contains(e.String(), "$KUBECONFIG is not set") {
		t.Errorf("nowhere: %s", e)
	}
}
