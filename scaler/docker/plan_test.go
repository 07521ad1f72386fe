package docker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// members writes a list as the engine might: "3:running 4:created,outdated". The id is the number.
func membersOf(text string) []*member {
	var list []*member
	for i, f := range strings.Fields(text) {
		number, rest, _ := strings.Cut(f, ":")
		words := strings.Split(rest, ",")
		m := &member{id: number, number: numberOf(number), state: words[0], created: time.Unix(int64(1000+i), 0)}
		for _, w := range words[1:] {
			switch w {
			case "outdated":
				m.outdated = true
			case "stopping":
				m.stopping = true
			case "fixed":
				m.fixed = true
			default:
				panic(w)
			}
		}
		list = append(list, m)
	}
	return list
}

func ids(ms []*member) string {
	var list []string
	for _, m := range ms {
		list = append(list, m.id)
	}
	return strings.Join(list, " ")
}

func TestPlan(t *testing.T) {
	declared, clones := bounds{first: 0, max: 4}, bounds{first: 1, max: 4, clones: true}
	for _, c := range []struct {
		what    string
		b       bounds
		have    string
		n       int
		victims string
		want    string // remove; stop; start; numbers created; kept
	}{
		{"nothing wanted, nothing there", declared, "", 0, "", "; ; ; ; "},
		{"from nothing", declared, "", 2, "", "; ; ; 0 1; "},
		{"never above max", declared, "", 9, "", "; ; ; 0 1 2 3; "},
		{"below zero is zero", declared, "0:running", -1, "", "; 0; ; ; "},
		{"gaps first", declared, "0:running 2:running", 3, "", "; ; ; 1; "},
		{"what is so stays so", declared, "0:running 1:restarting 2:paused", 3, "", "; ; ; ; "},
		{"created counts and is started", declared, "0:created 1:running", 2, "", "; ; 0; ; "},
		{"created goes before what runs", declared, "0:created 1:running", 1, "", "0; ; ; ; "},
		{"ended is removed, its number taken", declared, "0:exited 1:dead 2:running", 2, "", "0 1; ; ; 0; "},
		{"ended is removed when nothing else is to do", declared, "0:exited 1:running", 1, "", "0; ; ; ; "},
		{"removing and stopping keep their numbers", declared, "0:removing 1:running,stopping 2:exited,stopping", 1, "", "; ; ; 3; "},
		{"stopping ones leave no room at max", declared, "0:running,stopping 1:running 2:running 3:running", 4, "", "; ; ; ; "},
		{"victims in their order", declared, "0:running 1:running 2:running", 1, "2 0", "; 2 0; ; ; "},
		{"more victims than surplus: replaced", declared, "0:running 1:running", 2, "0", "; 0; ; 2; "},
		{"unknown victims are gone", declared, "0:running", 1, "7", "; ; ; ; "},
		{"without victims the youngest goes", declared, "0:running 1:running 2:running", 2, "", "; 2; ; ; "},
		{"not running before outdated before youngest", declared, "0:restarting 1:running,outdated 2:running", 1, "", "; 0 1; ; ; "},
		{"created from an older declaration is made anew", declared, "0:created,outdated 1:running", 2, "", "0; ; ; 0; "},
		{"one beyond max while one is outdated", declared, "0:running,outdated 1:running 2:running 3:running", 5, "", "; ; ; 4; "},
		{"not two", declared, "0:running,outdated 1:running,outdated 2:running 3:running", 6, "", "; ; ; 4; "},
		{"none without", declared, "0:running 1:running 2:running 4:running", 5, "", "; ; ; ; "},
		{"a number beyond max takes a place", declared, "0:running 7:running", 4, "", "; ; ; 1 2; "},
		{"after max was lowered", bounds{first: 0, max: 2}, "0:running 1:running 4:running", 2, "", "; 4; ; ; "},

		{"the exemplar counts", clones, "1:running,fixed", 3, "", "; ; ; 2 3; "},
		{"the exemplar is not stopped", clones, "1:running,fixed 2:running", 0, "", "; 2; ; ; "},
		{"not even as a victim", clones, "1:running,fixed 2:running", 1, "1", "; 2; ; ; 1"},
		{"more by Compose than wanted stay", clones, "1:running,fixed 2:running,fixed", 1, "", "; ; ; ; "},
		{"Compose's own number beyond max", clones, "7:running,fixed", 9, "", "; ; ; 1 2 3; "},
		{"an ended exemplar holds its number only", clones, "1:exited,fixed 2:running", 4, "", "; ; ; 3 4 5; "},
		{"the last clone is kept to copy", clones, "1:exited,fixed 2:running 3:running", 0, "", "; 3; ; ; "},
		{"also when it is a victim", clones, "2:running 3:running", 2, "2 3", "; 2; ; 1; 3"},
	} {
		p := makePlan(membersOf(c.have), c.n, strings.Fields(c.victims), c.b)
		created := p.free[:min(p.create, len(p.free))]
		got := fmt.Sprintf("%s; %s; %s; %s; %s", ids(p.remove), ids(p.stop), ids(p.start), strings.Trim(fmt.Sprint(created), "[]"), strings.Join(p.kept, " "))
		if got != c.want {
			t.Errorf("%s: have %q, want %d, victims %q:\n got %q\nwant %q", c.what, c.have, c.n, c.victims, got, c.want)
		}
	}
}

// Whatever is there, and whoever of two acts first, what counts never goes beyond max.
func TestPlanNeverAboveMax(t *testing.T) {
	states := []string{"running", "created", "exited", "running,stopping", "removing", "running,outdated"}
	var try func(have []string, number int)
	tried := 0
	try = func(have []string, number int) {
		if number < 3 {
			try(have, number+1)
			for _, s := range states {
				try(append(slices.Clone(have), fmt.Sprintf("%d:%s", number, s)), number+1)
			}
			return
		}
		tried++
		for n := range 5 {
			ms := membersOf(strings.Join(have, " "))
			p := makePlan(ms, n, nil, bounds{max: 3})
			outdated := slices.ContainsFunc(ms, func(m *member) bool { return m.outdated && m.counts() && m.state != "created" })
			limit := 3
			if outdated {
				limit = 4
			}
			after, names := 0, map[int]bool{}
			for _, m := range ms {
				if slices.Contains(p.remove, m) || m.ended() && !m.stopping {
					continue
				}
				if names[m.number] = true; m.counts() && !slices.Contains(p.stop, m) {
					after++
				}
			}
			for _, number := range p.free[:min(p.create, len(p.free))] {
				if names[number] {
					t.Fatalf("%v, %d: number %d twice", have, n, number)
				}
				after++
				names[number] = true
			}
			if after > limit || len(names) > limit || after > max(n, 0) && n <= limit {
				t.Fatalf("%v, want %d: %d after, %d names", have, n, after, len(names))
			}
		}
	}
	try(nil, 0)
	if tried != 343 {
		t.Errorf("tried %d", tried)
	}
}
