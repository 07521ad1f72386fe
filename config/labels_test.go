package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLabelsAreDecodedAsTheFile(t *testing.T) {
	set, errs := Labels(map[string]string{
		"sluice.upstream": "api", "sluice.host": "API.example.com, b.example.com", "sluice.path": "/v1", "sluice.port": "8000", "sluice.network": "backend",
		"sluice.rate_limit": "100/s", "sluice.rate_limit.burst": "200", "sluice.strip_path": "true", "sluice.limit_conn": "3",
		"sluice.max_conns": "4", "sluice.scale.max": "6", "sluice.scale.cpu": "70%", "sluice.health_check.path": "/healthz", "sluice.outlier_detection.max_share": "70%", "sluice.retry.budget": "0.1",
		"sluice.headers.request.X-A":   "b",
		"sluice.route.internal.listen": ":11434", "sluice.route.internal.host": "ollama",
		"sluice.route.old.host": "old.example.com", "sluice.route.old.redirect": "https://$host/",
		"sluice.owner": "x", "sluice.replica.ordinal": "1", "com.docker.compose.service": "web",
	}, "web", "container web-1")
	if errs != nil {
		t.Fatal(errs)
	}
	file, err := Parse("a", []byte(labelFile))
	if err != nil {
		t.Fatal(err)
	}
	file.Routes[0].Name = ""
	if !reflect.DeepEqual(set.Routes, file.Routes) {
		t.Errorf("routes\n%+v\nwant\n%+v", set.Routes, file.Routes)
	}
	if !reflect.DeepEqual(set.Upstream, file.Upstreams["api"]) || set.Name != "api" || !set.Tuned {
		t.Errorf("upstream %q\n%+v\nwant\n%+v", set.Name, set.Upstream, file.Upstreams["api"])
	}
}

const labelFile = `
[[route]]
host = ["api.example.com", "b.example.com"]
path = "/v1"
rate_limit = { rate = "100/s", burst = 200 }
strip_path = true
limit_conn = 3
headers.request.X-A = "b"
upstream = "api"
[[route]]
name = "internal"
listen = ":11434"
host = "ollama"
upstream = "api"
[[route]]
name = "old"
host = "old.example.com"
redirect = "https://$host/"
[upstream.api]
service = { name = "web", port = 8000, network = "backend" }
max_conns = 4
scale = { max = 6, cpu = 0.7 }
health_check = "/healthz"
outlier_detection = { max_share = "70%" }
retry = { budget = 0.1 }
`

func TestLabelMistakes(t *testing.T) {
	for _, c := range []struct {
		labels []string // NAME=VALUE, after "sluice."
		want   string
	}{
		{[]string{"hots=a"}, `container w: label sluice.hots: unknown key "hots"; did you mean "host"?`},
		{[]string{"host=a", "max_conns=-1"}, `label sluice.max_conns: -1 is out of range: 0 to 1000000`},
		{[]string{"host=a", "max_conns=many"}, `label sluice.max_conns: "auto" or a whole number is wanted, not the text "many"`},
		{[]string{"host=a", "max_conn=1"}, `label sluice.max_conn: unknown key "max_conn"; did you mean "max_conns"?`},
		{[]string{"host=a", "rate_limit.brust=1", "rate_limit.rate=1/s"}, `label sluice.rate_limit.brust: unknown key "brust" in [route.rate_limit]; did you mean "burst"?`},
		{[]string{"host=a", "port=http"}, `label sluice.port: a whole number is wanted, not the text "http"`},
		{[]string{"host=a", "port=+80"}, `label sluice.port: a whole number is wanted`},
		{[]string{"host=a", "port=70000"}, `label sluice.port: 70000 is out of range`},
		{[]string{"host=a", "strip_path=yes", "path=/a"}, `label sluice.strip_path: true or false is wanted`},
		{[]string{"host=a", "process=rm"}, `label sluice.process: a label names no other source`},
		{[]string{"host=a", "process.command=rm"}, `label sluice.process.command: a label names no other source`},
		{[]string{"host=a", "servers=b:1"}, `label sluice.servers: a label names no other source`},
		{[]string{"host=a", "service=b"}, `label sluice.service: a label names no other source`},
		{[]string{"host=a:80"}, `label sluice.host: "a:80": a host has no port`},
		{[]string{"host=a,,b"}, `label sluice.host: a host is empty`},
		{[]string{"host=a\r\nb"}, `label sluice.host: "a\r\nb" is no host name`},
		{[]string{"host=a\xff"}, `label sluice.host: the text has a byte that no text has`},
		{[]string{"host.x=a"}, `label sluice.host: a list is wanted, not a table`},
		{[]string{"host=a", "scale.min=3", "scale.max=2"}, `label sluice.scale.min: min (3) is greater than max (2)`},
		{[]string{"host=a", "scale.min=0"}, `label sluice.scale.min: a service keeps its last container`},
		{[]string{"host=a", "scale.cpu=70"}, `label sluice.scale.cpu: 70: a share is between 0% and 100%`},
		{[]string{"host=a", "scale.prometheus.url=http://169.254.169.254", "scale.prometheus.query=x", "scale.prometheus.per_replica=1"}, `label sluice.scale.prometheus: prometheus is none of the labels' keys`},
		{[]string{"host=a", "tls.ca=/etc/passwd"}, `label sluice.tls.ca: a label names no file of the gateway's`},
		{[]string{"host=a", "tls.cert=/etc/tls/a.pem", "tls.key=/etc/tls/a.key"}, `label sluice.tls.cert: a label names no file of the gateway's`},
		{[]string{"host=a", "upstream=b:1"}, `label sluice.upstream: "b:1" is no name of an upstream`},
		{[]string{"host=a", "listen=80"}, `label sluice.listen: "80" has no port`},
		{[]string{"host=a", "route.x=1"}, `label sluice.route.x: a route is written sluice.route.NAME.KEY`},
		{[]string{"host=a", "route.x.upstream=other"}, `label sluice.route.x.upstream: unknown key "upstream" of a route`},
		{[]string{"host=a", ".=1"}, `label sluice..: the label has an empty word`},
		{[]string{"max_conns=1"}, `label sluice.*: the labels ask for no route; add sluice.host or sluice.upstream`},
		{[]string{"upstream=a", "rate_limit=1/s"}, `label sluice: the route matches nothing in particular; add sluice.host`},
		{[]string{"host=a", "redirect=/", "respond=x"}, `label sluice.respond: a route does one thing`},
	} {
		set := map[string]string{}
		for _, l := range c.labels {
			name, text, _ := strings.Cut(l, "=")
			set["sluice."+name] = text
		}
		got, errs := Labels(set, "w", "container w")
		if len(errs) != 1 || !strings.Contains(errs.Error(), c.want) || got != nil {
			t.Errorf("%q: got %v\nwant %s", c.labels, errs, c.want)
		}
	}
	for _, none := range []map[string]string{nil, {"a": "b"}, {"sluice.owner": "x", "sluice.replica.hash": "h"}, {"sluice.port": "80"}} {
		if set, errs := Labels(none, "w", "w"); set != nil || errs != nil {
			t.Errorf("%v: %v %v", none, set, errs)
		}
	}
}

// box is a container called NAME of PROJECT/SERVICE, or of none; labels as "host=a".
func box(name, of string, labels ...string) Labeled {
	project, service, _ := strings.Cut(of, "/")
	l := Labeled{Container: name, Project: project, Service: service, Labels: map[string]string{}}
	for _, one := range labels {
		label, text, _ := strings.Cut(one, "=")
		l.Labels["sluice."+label] = text
	}
	return l
}

func TestWithLabels(t *testing.T) {
	const file = `
engine.project = "own"
[[route]]
host = ["file.com", "*.wild.com"]
upstream = "file"
[[route]]
listen = ":7000"
path = "/x"
upstream = "file"
[upstream.file]
servers = ["a:1"]
[upstream.chat]
service = "llm"
`
	for _, c := range []struct {
		name  string
		file  string
		found []Labeled
		want  string // routes as "NAME>UPSTREAM", upstreams that labels made
		errs  string
	}{
		{"a service", file, []Labeled{box("w-1", "p/web", "host=a.com"), box("w-2", "p/web", "host=a.com")}, "a.com>web | web", ""},
		{"named upstream, several routes", file, []Labeled{box("w", "p/web", "upstream=api", "host=a.com", "route.x.host=b.com")}, "a.com>api api/x>api | api", ""},
		{"no service", file, []Labeled{box("w", "", "host=a.com"), box("w2", "", "host=a.com")}, "a.com>w | w", ""},
		{"no service to scale", file, []Labeled{box("w", "", "host=a.com", "scale.max=3")}, "a.com>w | w", `w: label sluice.scale: only a service can be scaled, and this container belongs to none`},
		{"an upstream without routes", file, []Labeled{box("w", "p/web", "upstream=api")}, " | api", ""},
		{"the file's host, other path", file, []Labeled{box("w", "p/web", "host=file.com", "path=/w")}, " | web", `w: label sluice.host: the host "file.com" belongs to the configuration file`},
		{"below the file's wildcard", file, []Labeled{box("w", "p/web", "host=A.b.wild.com.")}, " | web", `w: label sluice.host: the host "a.b.wild.com" belongs to the configuration file, which routes "*.wild.com"`},
		{"a wildcard below it", file, []Labeled{box("w", "p/web", "host=*.b.wild.com")}, " | web", `w: label sluice.host: the host "*.b.wild.com" belongs to the configuration file, which routes "*.wild.com"`},
		{"on another listener too", file, []Labeled{box("w", "p/web", "host=file.com", "listen=:1")}, " | web", `w: label sluice.host: the host "file.com" belongs to the configuration file`},
		{"any host on the file's listener", file, []Labeled{box("w", "p/web", "upstream=w", "listen=:7000", "path=/y")}, " | w", `w: the configuration file routes any host on this listener already; add the label sluice.host`},
		{"any host on a new listener", file, []Labeled{box("w", "p/web", "upstream=w", "listen=:7001")}, "*:7001>w | w", ""},
		{"any host beside the file's hosts", file, []Labeled{box("w", "p/web", "upstream=w", "path=/")}, "*>w | w", ""},
		{"any host as the file", "[[route]]\nrespond = {}", []Labeled{box("w", "p/web", "upstream=w", "listen=:8080", "path=/a")}, " | w", `w: the configuration file routes any host on this listener already; add the label sluice.host`},
		{"a host beside the file's any host", "[[route]]\nrespond = {}", []Labeled{box("w", "p/web", "host=a.com")}, "a.com>web | web", ""},
		{"the file's upstream", file, []Labeled{box("w", "p/web", "host=a.com", "upstream=file")}, " | ", `w: the upstream name "file" belongs to the configuration file; choose another by the label sluice.upstream`},
		{"the file's service", file, []Labeled{box("w", "own/llm", "host=a.com")}, "a.com>chat | ", ""},
		{"the file's service, tuned", file, []Labeled{box("w", "own/llm", "host=a.com", "max_conns=1")}, "a.com>chat | ", `w: [upstream.chat] of the configuration file is this service, so its keys count and labels set none`},
		{"a service of that name elsewhere", file, []Labeled{box("w", "evil/llm", "host=a.com")}, "a.com>llm | llm", ""},
		{"that upstream from elsewhere", file, []Labeled{box("w", "evil/llm", "host=a.com", "upstream=chat")}, " | ", `w: the upstream name "chat" belongs to the configuration file; choose another by the label sluice.upstream`},
		{"two projects, one host", file, []Labeled{box("w", "p/web", "host=a.com"), box("v", "q/shop", "host=a.com", "path=/x")}, "a.com>web | shop web", `v: label sluice.host: the host "a.com" belongs to project "p"`},
		{"two projects, one name", file, []Labeled{box("w", "p/web", "host=a.com"), box("v", "q/web", "host=b.com")}, "a.com>web | web", `v: the upstream name "web" belongs to project "p"; choose another by the label sluice.upstream`},
		{"the own project goes first", file, []Labeled{box("w", "p/web", "host=a.com"), box("v", "own/shop", "host=a.com")}, "a.com>shop | shop web", `w: label sluice.host: the host "a.com" belongs to project "own"`},
		{"one project, one host, two paths", file, []Labeled{box("w", "p/web", "host=a.com"), box("v", "p/shop", "host=a.com", "path=/shop")}, "a.com>web a.com/shop>shop | shop web", ""},
		{"one project, the same requests", file, []Labeled{box("w", "p/web", "host=a.com"), box("v", "p/shop", "host=a.com")}, "a.com>web | shop web", `v: the route "a.com#2" matches the same requests as the route "a.com"`},
		{"one project, the same path in two spellings", file, []Labeled{box("w", "p/web", "host=a.com", "path=/a"), box("v", "p/shop", "host=a.com", "path=/%61")}, "a.com/a>web | shop web", `v: route a.com/%61: can never be reached for host a.com: route a.com/a matches the same`},
		{"two services, one upstream", file, []Labeled{box("w", "p/web", "upstream=x", "host=a.com"), box("v", "p/shop", "upstream=x", "host=b.com")}, "a.com>x | x", `v: the upstream name "x" belongs to project "p"; choose another by the label sluice.upstream`},
		{"the admin's port", file, []Labeled{box("w", "p/web", "host=a.com", "listen=127.0.0.1:9901")}, " | web", `w: label sluice.listen: "127.0.0.1:9901" and "127.0.0.1:9901", which is open, are the same port`},
		{"a listener that clashes", file, []Labeled{box("w", "p/web", "host=a.com", "listen=127.0.0.1:7000")}, " | web", `w: label sluice.listen: "127.0.0.1:7000" and ":7000", which is open, are the same port`},
		{"a taken route name", "[[route]]\nname = \"n\"\nhost = \"f\"\nrespond = {}", []Labeled{box("w", "p/web", "host=a.com", "name=n")}, " | web", `w: label sluice.name: the route name "n" is taken`},
		{"one mistake leaves the others", file, []Labeled{box("w", "p/web", "host=a.com", "port=x"), box("v", "q/shop", "host=b.com")}, "b.com>shop | shop", `w: label sluice.port: a whole number is wanted, not the text "x"`},
		{"labels that change", file, []Labeled{box("w-1", "p/web", "host=a.com"), box("w-2", "p/web", "host=b.com")}, "b.com>web | web", `w-1: its labels differ from those of w-2, which is newer and counts for the service`},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := Parse("a", []byte(c.file))
			if err != nil {
				t.Fatal(err)
			}
			before := string(base.Dump())
			got, errs := base.WithLabels(c.found)
			var all []string
			for _, r := range got.Routes[len(base.Routes):] {
				all = append(all, r.Name+">"+r.Upstream)
			}
			var made []string
			for _, name := range slices.Sorted(maps.Keys(got.Upstreams)) {
				if got.Upstreams[name].Labeled != nil {
					made = append(made, name)
				}
			}
			if s := strings.Join(all, " ") + " | " + strings.Join(made, " "); s != c.want {
				t.Errorf("got %s\nwant %s", s, c.want)
			}
			var why []string
			for _, e := range errs {
				why = append(why, strings.TrimPrefix(e.Error(), "container "))
			}
			if s := strings.Join(why, "\n"); s != c.errs {
				t.Errorf("errors\n%s\nwant\n%s", s, c.errs)
			}
			if after := string(base.Dump()); after != before {
				t.Errorf("the file's configuration changed:\n%s", after)
			}
			if _, err := Parse("dump", got.Dump()); err != nil {
				t.Errorf("its dump is refused: %v", err)
			}
		})
	}
}

// TestReplicasChangeNothing: a reload compares configurations, and a service that is scaled is the same.
func TestReplicasChangeNothing(t *testing.T) {
	one, _ := Default().WithLabels([]Labeled{box("w-1", "p/web", "host=a.com")})
	two, _ := Default().WithLabels([]Labeled{box("w-1", "p/web", "host=a.com"), box("w-2", "p/web", "host=a.com")})
	if !reflect.DeepEqual(one, two) {
		t.Errorf("%s\nand\n%s", one.Dump(), two.Dump())
	}
}

func TestOlderProjectKeepsItsHost(t *testing.T) {
	now := time.Now()
	evil, good := box("a", "aaa/x", "host=a.com"), box("z", "zzz/y", "host=a.com")
	evil.Created, good.Created = now, now.Add(-time.Hour)
	c, errs := Default().WithLabels([]Labeled{evil, good})
	if len(c.Routes) != 1 || c.Routes[0].Upstream != "y" || len(errs) != 1 || errs[0].Container != "a" {
		t.Errorf("%+v %v", c.Routes, errs)
	}
	if got := fmt.Sprint(*c.Upstreams["y"].Labeled); got != "{zzz y map[]}" {
		t.Errorf("owner %s", got)
	}
}

// FuzzLabels: whatever a container says, Labels does not panic, and what it accepts can be dumped and read.
func FuzzLabels(f *testing.F) {
	f.Add("host", "a.com", "rate_limit", "1/s", "rate_limit.burst", "2")
	f.Add("upstream", "x", "route.a.host", "b", "route.a.path", "/")
	f.Add("host.x", "a", "host", "b", "header.X-A", "*")
	f.Fuzz(func(t *testing.T, a, av, b, bv, c, cv string) {
		l := Labeled{Container: "c", Project: "p", Service: "s", Labels: map[string]string{"sluice." + a: av, "sluice." + b: bv, "sluice." + c: cv}}
		got, _ := Default().WithLabels([]Labeled{l})
		if _, err := Parse("dump", got.Dump()); err != nil {
			t.Fatalf("%v\n%s", err, got.Dump())
		}
	})
}
