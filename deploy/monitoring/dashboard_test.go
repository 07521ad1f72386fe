package monitoring_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is the part of grafana-dashboard.json that tests look at.
type dashboard struct {
	UID        string
	ID         *int
	Title      string
	Templating struct {
		List []struct {
			Name, Type string
			Datasource *datasource
			Query      any // a string for the data source itself
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               *datasource
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []target
}

type datasource struct{ Type, UID string }

// target is one expression of a panel; Legend may have labels of its result as {{label}}.
type target struct {
	RefID      string
	Datasource *datasource
	Expr       string
	Legend     string `json:"legendFormat"`
}

// place says where an expression stands; no other stands there.
func (p panel) place(t target) string { return fmt.Sprintf("panel %d %q %s", p.ID, p.Title, t.RefID) }

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "grafana-dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// query is the PromQL of a template variable, which asks for label_values(query, label); "" for one that asks nothing.
func query(t *testing.T, q any) string {
	t.Helper()
	asks, ok := q.(map[string]any)
	if !ok {
		return ""
	}
	m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(fmt.Sprint(asks["query"]))
	if m == nil {
		t.Fatalf("a variable asks %v", asks["query"])
	}
	return "group by (" + m[2] + ") (" + m[1] + ")"
}

// expressions are all of the dashboard by where they stand, with Grafana's variables as they were chosen; those that are not
// in variables are left.
func (d dashboard) expressions(t *testing.T, variables map[string]string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all[p.place(target)] = target.Expr
		}
	}
	for _, v := range d.Templating.List {
		if q := query(t, v.Query); q != "" {
			all["variable "+v.Name] = q
		}
	}
	for where, expr := range all {
		for name, value := range variables {
			expr = strings.ReplaceAll(expr, "$"+name, value)
		}
		all[where] = expr
	}
	return all
}

// everything is every variable chosen so that it selects all.
var everything = map[string]string{"instance": ".*", "upstream": ".*", "route": ".*", "__rate_interval": "5m"}

// Prometheus's own parser takes every expression: each becomes a rule of a file that promtool checks.
func TestDashboardExpressionsParse(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	expressions := readDashboard(t).expressions(t, everything)
	if want := strings.Count(read(t, "grafana-dashboard.json"), `"expr":`) + 3; len(expressions) != want {
		t.Fatalf("%d expressions of %d: the check itself is broken", len(expressions), want) // 3: of the variables
	}
	n := 0
	for where, expr := range expressions {
		if strings.Contains(expr, "$") {
			t.Errorf("%s has a variable that is not known: %s", where, expr)
		}
		fmt.Fprintf(&rules, "      - {record: 'dashboard:e%d', expr: %q} # %s\n", n, expr, where)
		n++
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	write(t, file, rules.String())
	promtool(t, "check", "rules", file)
}

func TestDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.ID != nil {
		t.Errorf("uid %q, title %q, id %v: importing needs the first two and gives the third", d.UID, d.Title, d.ID)
	}
	chosen := datasource{"prometheus", "${datasource}"}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
		if v.Type == "query" && (v.Datasource == nil || *v.Datasource != chosen) {
			t.Errorf("variable %s has the data source %v", v.Name, v.Datasource)
		}
	}
	if want := []string{"datasource", "instance", "upstream", "route"}; !slices.Equal(names, want) {
		t.Errorf("variables %v, want %v", names, want)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies at %d, %d, beyond the edge or on %q", p.Title, x, y, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || len(p.Targets) == 0 || p.Datasource == nil || *p.Datasource != chosen {
			t.Errorf("panel %d %q is not complete", p.ID, p.Title)
		}
		places := map[string]bool{}
		for _, target := range p.Targets {
			if places[target.RefID] {
				t.Errorf("%s: two expressions are %s", p.Title, target.RefID)
			}
			places[target.RefID] = true
			if target.Datasource == nil || *target.Datasource != chosen {
				t.Errorf("%s %s has the data source %v", p.Title, target.RefID, target.Datasource)
			}
		}
	}
}

// Every metric that the dashboard or an alert names is one that a running sluice serves.
func TestNamedMetricsExist(t *testing.T) {
	s := start(t)
	served := map[string]bool{"up": true} // Prometheus's own, of every target
	within(t, "a refusal, a decision of the scaler and an answer to it, which have no metrics before there is one", func() bool {
		text := s.metrics()
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
			switch name := m[1]; m[2] {
			case "histogram":
				served[name+"_bucket"], served[name+"_sum"], served[name+"_count"] = true, true, true
			default:
				served[name] = true
			}
		}
		return served["sluice_rejected_total"] && served["sluice_scale_decisions_total"] && served["sluice_ai_running"]
	})
	expressions := readDashboard(t).expressions(t, everything)
	for _, a := range alerts(t) {
		expressions["alert "+a.name] = a.expr
	}
	for where, expr := range expressions {
		names := metricsIn(expr)
		if len(names) == 0 {
			t.Errorf("%s names no metric: %s", where, expr)
		}
		for _, name := range names {
			if !served[name] {
				t.Errorf("%s: sluice has no metric %s", where, name)
			}
		}
	}
}

var (
	notNames = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	word     = regexp.MustCompile(`\b[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	operator = map[string]bool{"and": true, "or": true, "unless": true, "bool": true, "offset": true}
)

// metricsIn are the names of metrics in a PromQL expression: its words that are no label, function or operator.
func metricsIn(expr string) (names []string) {
	expr = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, `""`) // first: a string may have brackets
	for _, w := range word.FindAllString(notNames.ReplaceAllString(expr, " "), -1) {
		if w = strings.TrimSpace(w); !strings.HasSuffix(w, "(") && !operator[w] {
			names = append(names, w)
		}
	}
	return names
}

func TestMetricsIn(t *testing.T) {
	for expr, want := range map[string]string{
		`sum by (le, route) (rate(a_bucket{route=~"x(y){1}"}[5m])) or vector(0)`:                    "a_bucket",
		`a{x="1"} == 0 and on (job) (b offset 5m > bool 1e3) unless absent(up{job="sluice"})`:       "a b up",
		`histogram_quantile(0.5, sum (increase(c_seconds_bucket[1h])) without (a)) - ignoring(q) d`: "c_seconds_bucket d",
	} {
		if got := strings.Join(metricsIn(expr), " "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
