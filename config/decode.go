package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/balancer"
)

// field is one key of a configuration struct.
type field struct {
	key   string
	index []int
	typ   reflect.Type
	unit  string
	short bool
}

// fields lists the keys of a struct in the order of its fields, those of inline structs among them. The list is shared: nothing in
// it may be changed.
func fields(t reflect.Type) []field {
	if known, ok := fieldsOf.Load(t); ok {
		return known.([]field)
	}
	all := listFields(t)
	fieldsOf.Store(t, all)
	return all
}

// fieldsOf has what fields found, as []field by reflect.Type: a table of ten thousand routes is read with a few types.
var fieldsOf sync.Map

func listFields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case options == "inline":
			for _, in := range fields(f.Type) {
				in.index = append([]int{i}, in.index...)
				all = append(all, in)
			}
		case key != "" && key != "-":
			all = append(all, field{key, []int{i}, f.Type, f.Tag.Get("unit"), f.Tag.Get("short") == "true"})
		}
	}
	return all
}

func shortField(t reflect.Type) (field, bool) {
	if t.Kind() == reflect.Struct {
		for _, f := range fields(t) {
			if f.short {
				return f, true
			}
		}
	}
	return field{}, false
}

// shortKey is where a label tree keeps the value of a label that is also the prefix of others, as
// sluice.rate_limit beside sluice.rate_limit.burst.
const shortKey = "\x00"

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

func (d *decoder) duration(v *value, out reflect.Value) {
	s, ok := v.raw.(string)
	if !ok {
		hint := ""
		if n, isInt := v.raw.(int64); isInt && n >= 0 {
			hint = fmt.Sprintf("write %q", strconv.FormatInt(n, 10)+"s")
		}
		d.failHint(v, hint, "a duration with a unit is wanted, not %s", kind(v.raw))
		v.bad = true
		return
	}
	n, err := parseDuration(s)
	if d.ok(v, err) {
		out.SetInt(int64(n))
	}
}

// ok reports err at the value, if there is one.
func (d *decoder) ok(v *value, err error) bool {
	if err != nil {
		d.fail(v, "%s", err)
		v.bad = true
	}
	return err == nil
}

func (d *decoder) unit(v *value, out reflect.Value, unit, path string) {
	s, isText := v.raw.(string)
	number, isInt := v.raw.(int64)
	fraction, isFloat := v.raw.(float64)
	switch {
	case unit == "secret" && isText:
		secret, err := readSecret(s)
		if d.ok(v, err) {
			out.SetString(secret)
			d.secrets[path] = s
		}
	case unit == "secret":
		v.bad = true
		d.add(v.src, v.label, v.at, v.at+1, "", `a secret is written as "env:NAME" or "file:PATH"`)
	case unit == "bytes" && (isText || isInt):
		var err error
		if isText {
			number, err = parseSize(s)
		} else if number < 0 {
			err = fmt.Errorf("%d: a size is never negative", number)
		} else if number > 1<<53 {
			err = fmt.Errorf("%d is too large", number)
		}
		if d.ok(v, err) {
			out.SetInt(number)
		}
	case unit == "rate" && isText:
		rate, err := parseRate(s)
		if d.ok(v, err) {
			out.SetFloat(rate)
		}
	case unit == "rate" && isInt && number > 0:
		d.failHint(v, fmt.Sprintf(`write "%d/s"`, number), "a rate with a unit is wanted, not a whole number")
		v.bad = true
	case unit == "percent" && (isText || isFloat || isInt && number == 0):
		var err error
		if isText && v.label != "" && !strings.HasSuffix(s, "%") && isNumber(s) {
			fraction, _ = strconv.ParseFloat(s, 64)
			isText = false
		}
		if isText {
			fraction, err = parsePercent(s)
		} else {
			fraction, err = share(fraction, v.raw)
		}
		if d.ok(v, err) {
			out.SetFloat(fraction)
		}
	case unit == "percent" && isInt && number > 0:
		d.failHint(v, fmt.Sprintf(`write "%d%%"`, number), "a share is wanted, not a whole number")
		v.bad = true
	default:
		d.wrongType(v, map[string]string{"bytes": `a size, as "10MB",`, "rate": `a rate, as "100/s",`, "percent": `a share, as "70%" or 0.7,`}[unit])
	}
}

// maxSlots is the largest max_conns.
const maxSlots = 1e6

// slots reads a number of slots or "auto".
func (d *decoder) slots(v *value, out reflect.Value) {
	raw := v.raw
	if s, ok := raw.(string); ok && v.label != "" {
		raw = fromLabel(s, reflect.Int)
	}
	switch raw := raw.(type) {
	case int64:
		if raw < 0 || raw > maxSlots {
			d.ok(v, fmt.Errorf("%d is out of range: 0 to %d", raw, int(maxSlots)))
			return
		}
		out.SetInt(raw)
	case string:
		hint := didYouMean(raw, []string{"auto"})
		switch {
		case raw == "auto":
			out.SetInt(balancer.AutoSlots)
		case hint != "":
			d.failHint(v, hint, `%q is neither "auto" nor a whole number`, raw)
			v.bad = true
		default:
			d.wrongType(v, `"auto" or a whole number`)
		}
	default:
		d.wrongType(v, `"auto" or a whole number`)
	}
}

// grpc reads true, false or the name of a service.
func (d *decoder) grpc(v *value, out reflect.Value) {
	raw := v.raw
	if s, ok := raw.(string); ok && v.label != "" {
		raw = fromLabel(s, reflect.Bool)
	}
	switch raw := raw.(type) {
	case bool:
		if raw {
			out.SetString("*")
		} else {
			out.SetString("")
		}
	case string:
		if raw == "" || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == '*' || r >= 127 }) {
			d.failHint(v, "true is the server as a whole", "%q is no name of a gRPC service", raw)
			v.bad = true
			return
		}
		out.SetString(raw)
	default:
		d.wrongType(v, "true, false or the name of a service")
	}
}

func (d *decoder) scalar(v *value, out reflect.Value) {
	raw := v.raw
	if s, ok := raw.(string); ok && v.label != "" {
		raw = fromLabel(s, out.Kind())
	}
	switch out.Kind() {
	case reflect.String:
		s, ok := raw.(string)
		switch {
		case !ok:
			d.wrongType(v, "a string")
		case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
			d.fail(v, "the text has a byte that no text has (NUL or broken UTF-8)")
			v.bad = true
		default:
			out.SetString(s)
		}
	case reflect.Bool:
		if b, ok := raw.(bool); ok {
			out.SetBool(b)
		} else {
			d.wrongType(v, "true or false")
		}
	case reflect.Int, reflect.Int64:
		if n, ok := raw.(int64); ok {
			out.SetInt(n)
		} else {
			d.wrongType(v, "a whole number")
		}
	case reflect.Float64:
		switch n := raw.(type) {
		case float64:
			out.SetFloat(n)
		case int64:
			out.SetFloat(float64(n))
		default:
			d.wrongType(v, "a number")
		}
	default:
		panic("config: no decoding for " + out.Type().String())
	}
}

// fromLabel reads a label's text as the kind that is wanted; it stays text when it cannot be read so.
func fromLabel(s string, k reflect.Kind) any {
	switch k {
	case reflect.Bool:
		if s == "true" || s == "false" {
			return s == "true"
		}
	case reflect.Int, reflect.Int64:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && !strings.HasPrefix(s, "+") {
			return n
		}
	case reflect.Float64:
		if n, err := strconv.ParseFloat(s, 64); err == nil && !strings.ContainsAny(s, "xXpP_") {
			return n
		}
	}
	return s
}

func (d *decoder) wrongType(v *value, wanted string) {
	hint := ""
	if s, ok := v.raw.(string); ok && v.label == "" && (strings.HasSuffix(wanted, "number") && isNumber(s) || wanted == "true or false" && (s == "true" || s == "false")) {
		hint = "write it without quotes"
	}
	d.failHint(v, hint, "%s is wanted, not %s", wanted, kind(v.raw))
	v.bad = true
}

// kind names a value's type as a TOML author would, and short texts themselves.
func kind(raw any) string {
	switch raw := raw.(type) {
	case string:
		if len(raw) <= 40 {
			return fmt.Sprintf("the text %q", raw)
		}
		return "a text"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	}
	return "a table"
}
