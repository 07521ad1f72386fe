package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

// decoder reads values into configuration structs. It reports every mistake and goes on.
type decoder struct {
	*report
	// secrets remembers, by the path of the key, how a secret was written.
	secrets map[string]string
}

// decode reads v into out. path is the dotted path of the key, for messages.
func (d *decoder) decode(v *value, out reflect.Value, unit, path string) {
	switch t := out.Type(); {
	case t == durationType:
		d.duration(v, out)
	case unit == "slots":
		d.slots(v, out)
	case unit == "grpc":
		d.grpc(v, out)
	case unit != "":
		d.unit(v, out, unit, path)
	case t.Kind() == reflect.Pointer:
		fresh := reflect.New(t.Elem())
		setDefaults(fresh)
		d.decode(v, fresh.Elem(), "", path)
		out.Set(fresh)
	case t.Kind() == reflect.Struct:
		d.structure(v, out, path)
	case t.Kind() == reflect.Map:
		d.mapping(v, out, path)
	case t.Kind() == reflect.Slice:
		d.slice(v, out, path)
	default:
		d.scalar(v, out)
	}
}

func setDefaults(ptr reflect.Value) {
	if c, ok := ptr.Interface().(interface{ SetDefaults() }); ok {
		c.SetDefaults()
	}
}

func (d *decoder) structure(v *value, out reflect.Value, path string) {
	known := fields(out.Type())
	if _, ok := v.raw.(map[string]any); !ok {
		short, ok := shortField(out.Type())
		if !ok {
			if list, many := v.raw.([]any); many && len(list) > 0 {
				d.wrongType(v, "one table")
			} else {
				d.wrongType(v, "a table")
			}
			return
		}
		in := *v
		d.decode(&in, out.FieldByIndex(short.index), short.unit, path)
		v.bad = in.bad
		if in.bad {
			return
		}
		v.table, v.names = map[string]*value{short.key: &in}, []string{short.key} // so that it is found under its key as well
		return
	}
	for _, name := range v.names {
		c := v.table[name]
		i := slices.IndexFunc(known, func(f field) bool { return f.key == name })
		if name == shortKey && v.label != "" {
			i = slices.IndexFunc(known, func(f field) bool { return f.short })
			if i < 0 {
				d.wrongType(c, "a table (labels with a further word)")
				continue
			}
			v.table[known[i].key] = c
		}
		if i < 0 {
			d.unknown(c, name, path, known)
			continue
		}
		d.decode(c, out.FieldByIndex(known[i].index), known[i].unit, join2(path, name))
	}
}

func join2(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// unknown reports a key that its table does not have, with the key that may be meant or the table that has it.
func (d *decoder) unknown(v *value, name, path string, known []field) {
	var keys []string
	for _, f := range known {
		keys = append(keys, f.key)
	}
	hint := ""
	if place, ok := keyPlaces()[name]; ok && v.label == "" {
		hint = fmt.Sprintf("%s is a key of %s", name, place)
	}
	if near := didYouMean(name, keys); near != "" {
		hint = near
	}
	d.failKey(v, hint, "unknown key %q in %s", name, place(path))
	v.bad = true
}

// place names a table as its header would.
func place(path string) string {
	switch {
	case path == "":
		return "the top level"
	case path == "route":
		return "[[route]]"
	}
	return "[" + path + "]"
}

// keyPlaces tells for each key of the configuration the table that has it, the outermost one when several do.
var keyPlaces = sync.OnceValue(func() map[string]string {
	places := map[string]string{}
	type table struct {
		path string
		typ  reflect.Type
	}
	for todo := []table{{"", reflect.TypeFor[Config]()}}; len(todo) > 0; todo = todo[1:] {
		for _, f := range fields(todo[0].typ) {
			if _, ok := places[f.key]; !ok {
				places[f.key] = place(todo[0].path)
			}
			t, path := f.typ, join2(todo[0].path, f.key)
			for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
				if t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Pointer {
					path += ".NAME"
				}
				t = t.Elem()
			}
			if t.Kind() == reflect.Struct {
				todo = append(todo, table{path, t})
			}
		}
	}
	return places
})

func (d *decoder) mapping(v *value, out reflect.Value, path string) {
	if _, ok := v.raw.(map[string]any); !ok {
		d.wrongType(v, "a table")
		return
	}
	m := reflect.MakeMapWithSize(out.Type(), len(v.names))
	for _, name := range v.names {
		one := reflect.New(out.Type().Elem()).Elem()
		d.decode(v.table[name], one, "", join2(path, quoteKey(name)))
		m.SetMapIndex(reflect.ValueOf(name), one)
	}
	out.Set(m)
}

func (d *decoder) slice(v *value, out reflect.Value, path string) {
	elem := out.Type().Elem()
	if _, ok := v.raw.([]any); !ok {
		text, isText := v.raw.(string)
		switch {
		case elem.Kind() == reflect.String && isText && v.label != "":
			for part := range strings.SplitSeq(text, ",") {
				one := *v
				one.raw = strings.TrimSpace(part)
				v.list = append(v.list, &one)
			}
		case elem.Kind() == reflect.String && isText:
			one := *v
			v.list = []*value{&one}
		case elem.Kind() == reflect.Struct && v.raw != nil && reflect.TypeOf(v.raw).Kind() == reflect.Map:
			d.failKey(v, fmt.Sprintf("write [[%s]]", path), "%s is a list of tables", path)
			v.bad = true
			return
		default:
			d.wrongType(v, "a list")
			return
		}
	}
	list := reflect.MakeSlice(out.Type(), len(v.list), len(v.list))
	for i, c := range v.list {
		if elem.Kind() == reflect.Struct {
			setDefaults(list.Index(i).Addr())
		}
		d.decode(c, list.Index(i), "", path)
	}
	out.Set(list)
}
