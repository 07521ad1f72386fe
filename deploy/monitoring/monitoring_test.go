// Package monitoring_test holds the tests of what this folder gives to Prometheus and Grafana: by Prometheus's own tool,
// against the names that a running sluice serves, and with a real Prometheus that scrapes it.
package monitoring_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// requireTool is the path of a program from Debian's package prometheus. Without it the test is skipped, or fails where
// SLUICE_TEST_REQUIRE names it or promtool, which comes with it.
func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for required := range strings.FieldsSeq(os.Getenv("SLUICE_TEST_REQUIRE")) {
		if required == name || required == "promtool" {
			t.Fatalf("%s is required: %v", name, err)
		}
	}
	t.Skipf("no %s on this machine: %v", name, err)
	return ""
}

// promtool runs it to its end and fails the test when it finds fault.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if said, err := exec.Command(requireTool(t, "promtool"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPromtool(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "rules", "alerts.yml")
	promtool(t, "test", "rules", "alerts_test.yml")
}

// The blocks of prometheus.yml that are switched off are right as well: with all of them on the file is still valid.
func TestScrapeConfigForOtherLayouts(t *testing.T) {
	folder := t.TempDir()
	off := regexp.MustCompile(`(?m)^#(  |\S)`)
	text := read(t, "prometheus.yml")
	if n := len(off.FindAllString(text, -1)); n < 10 {
		t.Fatalf("only %d lines are switched off: the check itself is broken", n)
	}
	token := filepath.Join(folder, "token")
	write(t, token, "secret")
	text = replace(t, off.ReplaceAllString(text, "$1"), "/etc/prometheus/sluice.token", token)
	text = regexp.MustCompile(`(?m)^ {4}kubernetes_sd_configs:\n(?: {6}.*\n)+`).ReplaceAllString(text, "") // Debian builds Prometheus without it
	write(t, filepath.Join(folder, "alerts.yml"), read(t, "alerts.yml"))
	write(t, filepath.Join(folder, "prometheus.yml"), text)
	promtool(t, "check", "config", filepath.Join(folder, "prometheus.yml"))
}

// replace fails the test when old is not there.
func replace(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}

// alert is one rule of alerts.yml.
type alert struct{ name, expr, text string }

var (
	alertStart = regexp.MustCompile(`(?m)^ {6}- alert: (\w+)\n`)
	alertExpr  = regexp.MustCompile(`(?m)^ {8}expr: (?:\|\n((?: {10}.*\n)+)|(.+)\n)`)
)

func alerts(t *testing.T) (list []alert) {
	t.Helper()
	text := read(t, "alerts.yml")
	starts := alertStart.FindAllStringSubmatchIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		a := alert{name: text[at[2]:at[3]], text: text[at[0]:end]}
		if m := alertExpr.FindStringSubmatch(a.text); m != nil {
			a.expr = m[1] + m[2]
		}
		list = append(list, a)
	}
	if len(list) == 0 || len(list) != strings.Count(text, "alert:") {
		t.Fatalf("%d alerts read of %d: the check itself is broken", len(list), strings.Count(text, "alert:"))
	}
	return list
}

// Every alert says how bad it is, what it means and which command helps; and there are cases in which it fires and in
// which it does not.
func TestAlertsAreComplete(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile(`alertname: (\w+),?\s+exp_alerts: *(\[\])?`).FindAllStringSubmatch(read(t, "alerts_test.yml"), -1) {
		if m[2] == "" {
			fires[m[1]] = true
		} else {
			quiet[m[1]] = true
		}
	}
	command := regexp.MustCompile("`sluice (\\w+)")
	known := map[string]bool{}
	for _, a := range alerts(t) {
		if !fires[a.name] || !quiet[a.name] {
			t.Errorf("%s: alerts_test.yml lets it fire: %v, and not fire: %v", a.name, fires[a.name], quiet[a.name])
		}
		for _, part := range []string{`expr: `, `for: \d+m`, `severity: (critical|warning)\b`, `summary: .*\S`, `description: >-`} {
			if !regexp.MustCompile(part).MatchString(a.text) {
				t.Errorf("%s has no %s", a.name, part)
			}
		}
		commands := command.FindAllStringSubmatch(a.text, -1)
		if len(commands) == 0 {
			t.Errorf("%s names no command that helps", a.name)
		}
		for _, m := range commands {
			if known[m[1]] {
				continue
			}
			known[m[1]] = true
			if said, err := exec.Command(binary(t), m[1], "-h").CombinedOutput(); err != nil {
				t.Errorf("%s: sluice %s: %v\n%s", a.name, m[1], err, said)
			}
		}
	}
}
