package signals

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sluice/scaler"
)

func recorded(t *testing.T, file string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// The files have the format of each server's own documentation.
func TestPresets(t *testing.T) {
	tests := []struct {
		preset, file string
		want         func(r *scaler.ServerReading)
	}{
		// Two engines of one process; the reasons of waiting are of the same requests.
		{"vllm", "vllm.txt", func(r *scaler.ServerReading) { r.Queue, r.Running, r.CacheUsage = 75, 46, 0.9312977099236641 }},
		{"vllm", "vllm-0.9.txt", func(r *scaler.ServerReading) { r.Queue, r.Running, r.CacheUsage = 0, 2, 0.35 }},
		// Both ranks and every priority tell of the same requests.
		{"sglang", "sglang.txt", func(r *scaler.ServerReading) { r.Queue, r.Running, r.CacheUsage = 286, 162, 0.28 }},
		{"tgi", "tgi.txt", func(r *scaler.ServerReading) { r.Queue, r.Running = 17, 12 }},
		{"tgi", "tgi-idle.txt", func(r *scaler.ServerReading) { r.Queue = 0 }},
		{"llamacpp", "llamacpp.txt", func(r *scaler.ServerReading) { r.Queue, r.Running = 46, 4 }},
		{"ollama", "ollama.json", func(r *scaler.ServerReading) {
			r.ModelsLoaded = 2
			r.Models = []scaler.ModelMemory{{Model: "gemma3:4b", Bytes: 6591830464}, {Model: "nomic-embed-text:latest", Bytes: 849200128}}
		}},
		{"qdrant", "qdrant.txt", func(r *scaler.ServerReading) { r.VectorCollections, r.VectorPendingOperations = 3, 2 }},
	}
	seen := map[string]bool{}
	for _, test := range tests {
		seen[test.preset] = true
		want := scaler.Untold("s")
		test.want(&want)
		got, err := planOf(scaler.SignalsConfig{Preset: test.preset}).read("s", recorded(t, test.file))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) { // as text: NaN is not equal to itself
			t.Errorf("%s: %v %v, want %v", test.file, got, err, want)
		}
	}
	for _, p := range Presets() {
		if !seen[p] {
			t.Errorf("there is no answer of %s", p)
		}
	}
}

func TestNamesOfOnesOwn(t *testing.T) {
	agents := scaler.SignalsConfig{Path: "/tasks", TaskQueue: "tasks.waiting", Running: "workers.0.busy", ModelsLoaded: "list"}
	r, err := planOf(agents).read("s", []byte(` {"tasks": {"waiting": 41}, "workers": [{"busy": 3}], "list": ["a", "b"]}`))
	if err != nil || r.Tasks != 41 || r.Running != 3 || r.ModelsLoaded != 2 || !math.IsNaN(r.Queue) {
		t.Errorf("JSON: %+v %v", r, err)
	}
	r, err = planOf(scaler.SignalsConfig{TaskQueue: "ai_agent_queue_depth"}).read("s", []byte("ai_agent_queue_depth{kind=\"a\"} 4\nai_agent_queue_depth{kind=\"b\"} 5\n"))
	if err != nil || r.Tasks != 9 {
		t.Errorf("text: %+v %v", r, err)
	}
	p := planOf(scaler.SignalsConfig{Preset: "vllm", Path: "/m", Queue: "q", Port: 9})
	if p.path != "/m" || p.port != 9 || !reflect.DeepEqual(p.queue, []string{"q"}) || p.running == nil {
		t.Errorf("a preset with keys of one's own: %+v", p)
	}
	if p := planOf(scaler.SignalsConfig{Preset: "tgi", Queue: "q"}); p.absent {
		t.Error("a queue that was named may be absent")
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	queue := scaler.SignalsConfig{Queue: "a.b"}
	text := scaler.SignalsConfig{Queue: "a"}
	for _, test := range []struct {
		cfg        scaler.SignalsConfig
		body, want string
	}{
		{text, "", "a: not in the answer"},
		{text, "a NaN\n", "value is NaN"},
		{text, "a -1\n", "value is -1"},
		{text, "a +Inf\n", "value is +Inf"},
		{text, "a{ 1\n", "text format"},
		{text, "<html>", "text format"},
		{text, "# TYPE a histogram\na_sum 1\na_count 1\na_bucket{le=\"+Inf\"} 1\n", "a histogram, not a number"},
		{queue, `{"a": `, "not JSON"},
		{queue, `{"a": {}}`, "a.b: not in the answer"},
		{queue, `{"a": {"b": null}}`, "a.b: not in the answer"},
		{queue, `{"a": {"b": "7"}}`, "no number"},
		{queue, `{"a": {"b": -7}}`, "value is -7"},
		{queue, strings.Repeat("[", 100_000), "not JSON"},
	} {
		if _, err := planOf(test.cfg).read("s", []byte(test.body)); err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 300 {
			t.Errorf("%.40q: %v, want %q", test.body, err, test.want)
		}
	}
}

func TestNamesOfModelsAreFew(t *testing.T) {
	n := names{}
	var last []scaler.ModelMemory
	for i := range 1000 { // clients choose what is loaded
		last = n.few([]scaler.ModelMemory{{Model: "first", Bytes: 1}, {Model: fmt.Sprint("m", i), Bytes: 2}, {Model: "a\nb", Bytes: 4}, {Model: strings.Repeat("x", 1000), Bytes: 8}})
	}
	if want := []scaler.ModelMemory{{Model: "first", Bytes: 1}, {Model: other, Bytes: 14}}; !reflect.DeepEqual(last, want) || len(n) != maxNames {
		t.Errorf("%v, want %v; %d names", last, want, len(n))
	}
}

func FuzzRead(f *testing.F) {
	f.Add("vllm", []byte("vllm:num_requests_waiting 3\n"))
	f.Add("ollama", []byte(`{"models":[{"name":"x","size":1}]}`))
	f.Fuzz(func(t *testing.T, preset string, body []byte) {
		r, err := planOf(scaler.SignalsConfig{Preset: preset}).read("s", body)
		if err == nil && (r.Queue < 0 || math.IsInf(r.Queue, 0)) {
			t.Errorf("queue %v", r.Queue)
		}
	})
}
