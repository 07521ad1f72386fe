package main

import (
	"os/exec"
	"strings"
	"testing"
)

// mayImport says which of our packages each room may import besides its own; a room that is not
// listed may import everything but cmd and bench.
var mayImport = map[string][]string{
	"balancer":  {},
	"proxy":     {"balancer"},
	"discovery": {"balancer"},
	"scaler":    {"balancer"},
	"peers":     {"balancer", "scaler"},
	"privsep":   {"balancer", "discovery", "scaler"},
	"bench":     {"balancer", "scaler"},
}

// engineOf says in which folders the library of an engine, or of ACME, may be used.
var engineOf = map[string][]string{
	"github.com/docker/docker/": {"docker", "swarm"},
	"k8s.io/":                   {"kubernetes"},
	"github.com/caddyserver/":   {"acme"},
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{$p := .ImportPath}}{{range .Imports}}{{$p}} {{.}}
{{end}}{{range .TestImports}}{{$p}} {{.}} test
{{end}}{{range .XTestImports}}{{$p}} {{.}} test
{{end}}`, "sluice/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		importer, imported, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		imported, inTest := strings.CutSuffix(imported, " test")
		seen++
		from := strings.TrimPrefix(importer, "sluice/")
		room, _, _ := strings.Cut(from, "/")
		for library, folders := range engineOf {
			if strings.HasPrefix(imported, library) && room != "cmd" && !contains(folders, from[strings.LastIndex(from, "/")+1:]) {
				t.Errorf("%s imports %s, which belongs into a folder named one of %v", importer, imported, folders)
			}
		}
		to, ours := strings.CutPrefix(imported, "sluice/")
		if !ours {
			continue
		}
		target, _, _ := strings.Cut(to, "/")
		switch allowed, listed := mayImport[room]; {
		case target == room:
			if from == "proxy/http1" && !(inTest && to == "proxy/http2") { // whose streams it serves
				t.Errorf("%s imports %s, but it knows nothing of routes", importer, imported)
			}
		case target == "cmd" || target == "bench":
			t.Errorf("%s imports %s, which joins others and is imported by none", importer, imported)
		case from == "proxy/http1":
			t.Errorf("%s imports %s, but it stands alone", importer, imported)
		case listed && !contains(allowed, target):
			t.Errorf("%s imports %s: the room %s may only import %v", importer, imported, room, allowed)
		}
	}
	if seen < 50 {
		t.Fatalf("only %d imports seen: the check itself is broken", seen)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
