package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sluice/proxy"
)

// LabelSet is what the labels of one container say: an upstream that its service is the source of,
// and the routes to it.
type LabelSet struct {
	// Name is sluice.upstream; "" when it is not written.
	Name string
	// Routes lead to Name, whatever the upstream is called in the end; unnamed routes have the name "".
	Routes []proxy.RouteConfig
	// Upstream has its Service set: the name Labels was given, and sluice.port and sluice.network.
	Upstream *Upstream
	// Tuned tells that keys of the upstream itself are written, as sluice.max_conns.
	Tuned bool

	values []*value // of Routes
}

// Words of labels that are no keys of a route or an upstream. Those of the scaler's driver are not the user's.
const (
	labelPrefix  = "sluice."
	labelOwner   = "sluice.owner"
	labelReplica = "sluice.replica."
)

// Labels reads the labels of a container by the decoder and the checks of config.toml: sluice.KEY is
// the key of the container's route or of its upstream (sluice.host, sluice.rate_limit = "100/s" or
// sluice.rate_limit.burst, sluice.scale.max), sluice.route.NAME.KEY the key of a further route,
// sluice.upstream the upstream's name, sluice.port and sluice.network how the container is reached.
// Values are texts: numbers and true/false are read strictly, lists are separated by commas. A label
// names no other source than its own container, so sluice.process, for one, is refused. Labels outside "sluice."
// and the scaler's own are ignored.
//
// service is the name that the upstream's Service gets, where stands in the errors, as "container web-1".
// The result is nil when the labels ask for no route: neither sluice.upstream nor any host is there.
func Labels(set map[string]string, service, where string) (*LabelSet, Errors) {
	r := &labelReader{report: &report{}, src: &source{name: where}, routes: map[string]*value{}}
	r.up = r.branch("sluice")
	for _, label := range slices.Sorted(maps.Keys(set)) {
		if strings.HasPrefix(label, labelPrefix) && label != labelOwner && !strings.HasPrefix(label, labelReplica) {
			r.read(label, set[label])
		}
	}
	if !r.asked {
		if len(r.errs) == 0 && (len(r.routes) > 0 || r.tuned) {
			r.add(r.src, "sluice.*", 0, 0, "add sluice.host or sluice.upstream", "the labels ask for no route")
		}
		err, _ := r.err().(Errors)
		return nil, err
	}
	out := &LabelSet{Upstream: new(Upstream), Tuned: r.tuned}
	name := r.leaf("sluice.upstream", service)
	if r.name != nil {
		out.Name = set["sluice.upstream"]
		name = r.name
		if err := checkUpstreamName(out.Name); err != nil {
			r.fail(name, "%s", err)
		}
	}
	r.put(r.up, "sluice.service", []string{"service", "name"}, service)

	d := &decoder{report: r.report, secrets: map[string]string{}}
	k := &checker{report: r.report, c: &Config{Engine: EngineConfig{Kind: "docker"}}}
	out.Upstream.SetDefaults()
	d.structure(r.up, reflect.ValueOf(out.Upstream).Elem(), "upstream")
	k.upstream(out.Upstream, r.up)
	for _, key := range slices.Sorted(maps.Keys(r.routes)) {
		v := r.routes[key]
		if v.get("redirect") == nil && v.get("respond") == nil {
			v.add("upstream", name)
		}
		var route proxy.RouteConfig
		d.structure(v, reflect.ValueOf(&route).Elem(), "route")
		k.route(&route, v)
		if !slices.ContainsFunc([]string{"host", "listen", "path", "path_exact", "path_regex", "header", "query"}, func(key string) bool { return v.get(key) != nil }) {
			k.failKey(v, "add "+v.label+".host", "the route matches nothing in particular")
		}
		if at := v.get("listen"); at != nil && at.sound() {
			if _, _, err := splitAddress(route.Listen, 0); err != nil {
				k.fail(at, "%s", err)
			}
		}
		if key != "" && v.get("name") == nil {
			route.Name = key
		}
		if len(r.errs) == 0 {
			k.compile([]proxy.RouteConfig{route}, func(int) *value { return v })
		}
		out.Routes = append(out.Routes, route)
		out.values = append(out.values, v)
	}
	if err, _ := r.err().(Errors); err != nil {
		return nil, err
	}
	return out, nil
}

// labelReader turns labels into the trees that the decoder reads.
type labelReader struct {
	*report
	src    *source
	up     *value
	name   *value            // sluice.upstream
	routes map[string]*value // by NAME; "" is the container's route
	asked  bool              // there is a host or sluice.upstream
	tuned  bool
}

func (r *labelReader) branch(label string) *value {
	return &value{src: r.src, label: label, raw: map[string]any{}}
}

func (r *labelReader) leaf(label, text string) *value {
	return &value{src: r.src, label: label, raw: text}
}

// keysOf lists the keys that labels may use of a configuration struct.
func keysOf(t reflect.Type, without ...string) []string {
	var keys []string
	for _, f := range fields(t) {
		if !slices.Contains(without, f.key) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

var (
	routeLabels    = keysOf(reflect.TypeFor[proxy.RouteConfig](), "upstream")
	upstreamLabels = keysOf(reflect.TypeFor[Upstream](), sources...)
)

// read puts one label where it belongs.
func (r *labelReader) read(label, text string) {
	words := strings.Split(strings.TrimPrefix(label, labelPrefix), ".")
	if slices.Contains(words, "") || strings.ContainsRune(label, 0) {
		r.add(r.src, label, 0, 0, "", "the label has an empty word")
		return
	}
	switch first := words[0]; {
	case first == "upstream" && len(words) == 1:
		r.name, r.asked = r.leaf(label, text), true
	case first == "port" || first == "network":
		r.put(r.up, label, append([]string{"service"}, words...), text)
	case first == "route" && len(words) < 3:
		r.add(r.src, label, 0, 0, "", "a route is written sluice.route.NAME.KEY")
	case first == "route" && !slices.Contains(routeLabels, words[2]):
		r.add(r.src, label, 0, 0, didYouMean(words[2], routeLabels), fmt.Sprintf("unknown key %q of a route", words[2]))
	case first == "route":
		r.asked = r.asked || words[2] == "host"
		r.put(r.route(words[1], "sluice.route."+words[1]), label, words[2:], text)
	case slices.Contains(routeLabels, first):
		r.asked = r.asked || first == "host"
		r.put(r.route("", "sluice"), label, words, text)
	case slices.Contains(upstreamLabels, first):
		r.tuned = true
		r.put(r.up, label, words, text)
	case slices.Contains(sources, first):
		r.add(r.src, label, 0, 0, "", "a label names no other source than its own container")
	default:
		known := append(append([]string{"upstream", "port", "network", "route"}, routeLabels...), upstreamLabels...)
		r.add(r.src, label, 0, 0, didYouMean(first, known), fmt.Sprintf("unknown key %q", first))
	}
}

func (r *labelReader) route(name, label string) *value {
	if r.routes[name] == nil {
		r.routes[name] = r.branch(label)
	}
	return r.routes[name]
}

// put sets the value at a path of keys. A label that is the prefix of another holds the short form of a table.
func (r *labelReader) put(table *value, label string, path []string, text string) {
	for i, word := range path[:len(path)-1] {
		next := table.child(word)
		if next == nil {
			next = r.branch(strings.Join(append([]string{"sluice"}, path[:i+1]...), "."))
			table.add(word, next)
		} else if _, isText := next.raw.(string); isText {
			short := *next
			next.raw = map[string]any{}
			next.add(shortKey, &short)
		}
		table = next
	}
	last, leaf := path[len(path)-1], r.leaf(label, text)
	if at := table.child(last); at != nil {
		table, last = at, shortKey
	}
	table.add(last, leaf)
}
