package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		want    []Request
		length  time.Duration
		counted bool
	}{
		"per request": {"timestamp_seconds,service_seconds\n10.5,2\n9.5,0.25\n", []Request{{0, 250 * time.Millisecond}, {second, 2 * second}}, second, false},
		"no heading":  {"0,1\n# a comment\n\n3,1\n", []Request{{0, second}, {3 * second, second}}, 3 * second, false},
		"per second":  {"2\n0\n1\n0\n", []Request{{0, unknown}, {0, unknown}, {2 * second, unknown}}, 4 * second, true},
		"azure": {"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4000,10\n2023-11-16 18:17:05.0799600,0,40\n",
			[]Request{{0, 1250 * time.Millisecond}, {1100 * time.Millisecond, second}}, 1100 * time.Millisecond, false},
		"azure 2024": {"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,8,4\n", []Request{{0, 102 * time.Millisecond}}, 0, false},
		"mooncake":   {`{"timestamp": 3000, "input_length": 400, "output_length": 4, "hash_ids": [0]}` + "\n" + `{"timestamp": 4500, "input_length": 0, "output_length": 80}`, []Request{{0, 200 * time.Millisecond}, {1500 * time.Millisecond, 2 * second}}, 1500 * time.Millisecond, false},
	} {
		got, err := Load(strings.NewReader(c.text), DefaultTokens, 1)
		if err != nil || got.Length != c.length || len(got.Requests) != len(c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		for i, r := range got.Requests {
			at := r.At
			if c.counted {
				at = at / second * second
			}
			if at != c.want[i].At || r.Service != c.want[i].Service {
				t.Errorf("%s: %+v, not %+v", name, got.Requests, c.want)
			}
		}
	}
	for _, text := range []string{"", "x\n", "1,2\n1;2\n", "1,-2\n", "-1\n", "{\n", "1,NaN\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n1,2,3\n", "2\nx\n"} {
		if got, err := Load(strings.NewReader(text), DefaultTokens, 1); err == nil {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestAccessLog(t *testing.T) {
	const line = `10.0.0.%d - - [26/Nov/2026:12:00:%02d +0000] "GET / HTTP/1.1" 200 12 "-" "Mozilla/5.0 537.36"%s` + "\n"
	text := fmt.Sprintf(line, 1, 10, "") + fmt.Sprintf(line, 2, 12, " rt=0.500 urt=\"0.4\"") + "nonsense\n" + fmt.Sprintf(line, 3, 20, " 2.250")
	got, passed, err := AccessLog(strings.NewReader(text), 1)
	if err != nil || passed != (Passed{1, 3}) || len(got.Requests) != 3 {
		t.Fatalf("%+v, %+v, %v", got, passed, err)
	}
	if s := got.Requests; s[0].Service != unknown || s[1].Service != 500*time.Millisecond || s[2].Service != 2250*time.Millisecond || s[1].At < 500*time.Millisecond || s[1].At > 2500*time.Millisecond {
		t.Errorf("%+v", got)
	}
	if _, _, err := AccessLog(strings.NewReader("nothing"), 1); err == nil {
		t.Error("a log without a request is read")
	}
}

// Of sluice's own log it is known when a request came, and how long it had a slot.
func TestOwnAccessLog(t *testing.T) {
	text := `{"ts":"2026-11-28T10:00:01.000Z","client":"::1","status":200,"t_queue":0.500,"t_total":2.000}` + "\n" +
		`{"ts":"2026-11-28T10:00:00.250Z","path":"/\"t_total\":9","t_queue":0,"t_total":3.5}` + "\n" + `{"status":200}` + "\n"
	got, passed, err := AccessLog(strings.NewReader(text), 1)
	want := []Request{{0, 3500 * time.Millisecond}, {750 * time.Millisecond, 1500 * time.Millisecond}}
	if err != nil || passed != (Passed{1, 3}) || !slices.Equal(got.Requests, want) {
		t.Errorf("%+v, %+v, %v", got, passed, err)
	}
}

func TestCompressedFiles(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte("2\n3\n"))
	_ = w.Close()
	name := filepath.Join(t.TempDir(), "trace.gz")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadFile(name, DefaultTokens, 1); err != nil || len(got.Requests) != 5 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(name, b.Bytes()[:12], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(name, DefaultTokens, 1); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("half of it: %v", err)
	}
}

// What would take all memory is refused, with its place.
func TestTracesHaveBounds(t *testing.T) {
	for text, want := range map[string]string{
		"1\n1000000000\n":                   "line 2: more than 50000000 requests",
		"0,1\n1700000000,1\n":               "span 19676 days",
		"1\n" + strings.Repeat("1", 17<<20): "line 2: bufio.Scanner: token too long",
	} {
		if _, err := Load(strings.NewReader(text), DefaultTokens, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func TestService(t *testing.T) {
	trace := poisson(100, second, 200*second, 1)
	for i := range trace.Requests {
		trace.Requests[i].Service = unknown
	}
	for _, d := range Distributions {
		filled, err := Service{Mean: 3 * second, Distribution: d}.Fill(trace, 1)
		if err != nil || math.Abs(filled.Mean().Seconds()-3) > .15 {
			t.Errorf("%s: mean %s, %v", d, filled.Mean(), err)
		}
		again, _ := Service{Mean: 6 * second, Distribution: d}.Fill(filled, 2)
		if ratio := float64(again.Requests[5].Service) / float64(filled.Requests[5].Service); math.Abs(again.Mean().Seconds()-6) > .01 || math.Abs(ratio-2) > .15 {
			t.Errorf("%s rescaled: mean %s, one by %g", d, again.Mean(), ratio)
		}
	}
	if _, err := (Service{Distribution: "x"}).Fill(trace, 1); err == nil {
		t.Error("any distribution is taken")
	}
}

func TestSynthetic(t *testing.T) {
	for _, kind := range Kinds {
		got, err := Synthetic(kind, 20, time.Hour, 5)
		if err != nil || math.Abs(float64(len(got.Requests))-72000) > 1500 || got.Length != time.Hour {
			t.Errorf("%s: %d requests in %s, %v", kind, len(got.Requests), got.Length, err)
		}
		for i := 1; i < len(got.Requests); i++ {
			if got.Requests[i].At < got.Requests[i-1].At {
				t.Fatalf("%s: out of order", kind)
			}
		}
	}
	if _, err := Synthetic("x", 1, time.Hour, 1); err == nil {
		t.Error("any kind is made")
	}
	if p := poisson(10, second, 100*second, 1).Part(.25, .5); p.Length != 25*second || math.Abs(float64(len(p.Requests))-250) > 80 || p.Requests[0].At > 2*second {
		t.Errorf("a part: %d requests in %s", len(p.Requests), p.Length)
	}
}

// The real traces, where somebody has put them.
func TestTraces(t *testing.T) {
	dir := os.Getenv("SLUICE_TRACES")
	if dir == "" {
		t.Skip("SLUICE_TRACES names no directory with traces")
	}
	for file, n := range map[string]int{"azure-llm-2023/AzureLLMInferenceTrace_conv.csv": 19366, "azure-llm-2023/AzureLLMInferenceTrace_code.csv": 8819, "mooncake/conversation_trace.jsonl": 12031} {
		got, err := LoadFile(dir+"/"+file, DefaultTokens, 1)
		if err != nil || len(got.Requests) != n || got.Length < 55*time.Minute || got.Length > 61*time.Minute {
			t.Errorf("%s: %d requests in %s, %v", file, len(got.Requests), got.Length, err)
		}
	}
}

func TestTurned(t *testing.T) {
	tr := poisson(10, second, 100*second, 1)
	one, again, other := tr.Turned(second, 2), tr.Turned(second, 2), tr.Turned(second, 3)
	if len(one.Requests) != len(tr.Requests) || one.Length != tr.Length || one.Mean() != tr.Mean() {
		t.Errorf("%d requests of %s in %s, want %d of %s in %s", len(one.Requests), one.Mean(), one.Length, len(tr.Requests), tr.Mean(), tr.Length)
	}
	for i, r := range one.Requests {
		if r.At < 0 || r.At >= tr.Length || i > 0 && r.At < one.Requests[i-1].At {
			t.Fatalf("request %d at %s", i, r.At)
		}
	}
	if !slices.Equal(one.Requests, again.Requests) || slices.Equal(one.Requests, other.Requests) {
		t.Error("the seed does not say which it is")
	}
	if got := (Trace{}).Turned(second, 1); len(got.Requests) != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}
