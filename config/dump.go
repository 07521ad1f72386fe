package config

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/balancer"
)

// redacted stands where a secret was.
const redacted = "REDACTED"

// Dump gives the configuration in effect, defaults included, as a config.toml that Parse reads to
// the same Config. A secret appears only as the reference it was written as. Values that merely look like
// one (fields and variables named after a token, a key or a password) become "REDACTED".
func (c *Config) Dump() []byte {
	d := &dumper{secrets: c.secrets}
	own := *c
	own.Upstreams = maps.Clone(c.Upstreams)
	maps.DeleteFunc(own.Upstreams, func(name string, _ *Upstream) bool { return strings.Contains(name, ":") }) // the route makes it again
	d.tables("", reflect.ValueOf(&own).Elem(), reflect.ValueOf(Default()).Elem())
	return d.b.Bytes()
}

type dumper struct {
	b       bytes.Buffer
	secrets map[string]string
}

// tables writes a struct of the outer levels: first its plain keys, then its tables under headers.
// Values that are zero and would be so by default are left out.
func (d *dumper) tables(path string, v, defaults reflect.Value) {
	all := fields(v.Type())
	for _, f := range all {
		if val := v.FieldByIndex(f.index); !headed(path, f.typ) && (f.unit == "slots" || d.needed(val, defaults.FieldByIndex(f.index))) { // the default of slots depends on others
			fmt.Fprintf(&d.b, "%s = %s\n", f.key, d.value(join2(path, f.key), val, defaults.FieldByIndex(f.index), f.unit))
		}
	}
	for _, f := range all {
		val := v.FieldByIndex(f.index)
		if !headed(path, f.typ) {
			continue
		}
		switch key := join2(path, f.key); f.typ.Kind() {
		case reflect.Slice:
			for i := range val.Len() {
				fmt.Fprintf(&d.b, "\n[[%s]]\n", key)
				d.tables(key, val.Index(i), fresh(val.Index(i).Type()))
			}
		case reflect.Map:
			for _, name := range slices.SortedFunc(slices.Values(val.MapKeys()), func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) }) {
				fmt.Fprintf(&d.b, "\n[%s.%s]\n", key, quoteKey(name.String()))
				one := val.MapIndex(name).Elem()
				d.tables(key+".NAME", one, fresh(one.Type()))
			}
		case reflect.Pointer:
			if !val.IsNil() {
				fmt.Fprintf(&d.b, "\n[%s]\n", key)
				d.tables(key, val.Elem(), fresh(val.Type().Elem()))
			}
		default:
			if d.needed(val, defaults.FieldByIndex(f.index)) {
				fmt.Fprintf(&d.b, "\n[%s]\n", key)
				d.tables(key, val, defaults.FieldByIndex(f.index))
			}
		}
	}
}

// headed tells which fields get a header of their own: the tables of the top level.
func headed(path string, t reflect.Type) bool {
	if path != "" {
		return false
	}
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Map || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// fresh gives a struct as the decoder starts with it.
func fresh(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	setDefaults(p)
	return p.Elem()
}

// needed tells whether leaving v out would lose something.
func (d *dumper) needed(v, byDefault reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() > 0 || !v.IsNil() && v.Kind() == reflect.Slice
	}
	if v.Kind() == reflect.Struct {
		return !reflect.DeepEqual(v.Interface(), reflect.Zero(v.Type()).Interface()) || !byDefault.IsZero()
	}
	return !v.IsZero() || !byDefault.IsZero()
}

// value writes v as the right side of a key. byDefault is what an absent key means.
func (d *dumper) value(path string, v, byDefault reflect.Value, unit string) string {
	switch {
	case v.Type() == durationType:
		return quote(duration(time.Duration(v.Int())))
	case unit == "secret":
		return quote(cmp.Or(d.secrets[path], "env:"+redacted))
	case unit == "slots" && v.Int() == balancer.AutoSlots:
		return quote("auto")
	case unit == "grpc" && v.String() == "*":
		return "true"
	case unit == "bytes":
		return size(v.Int())
	case unit == "rate":
		return quote(rate(v.Float()))
	case unit == "percent":
		return percent(v.Float())
	}
	switch v.Kind() {
	case reflect.Pointer:
		return d.inline(path, v.Elem(), fresh(v.Type().Elem()))
	case reflect.Struct:
		return d.inline(path, v, byDefault)
	case reflect.Map:
		var parts []string
		m := v.Interface().(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(m)) {
			text := m[name]
			if text != "" && text != "*" && secretName.MatchString(name) {
				text = redacted
			}
			parts = append(parts, quoteKey(name)+" = "+quote(text))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			if e := v.Index(i); e.Kind() == reflect.Struct {
				parts[i] = d.inline(path, e, fresh(e.Type()))
			} else {
				parts[i] = d.value(path, e, reflect.Zero(e.Type()), "")
			}
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.String:
		return quote(v.String())
	case reflect.Float64:
		return float(v.Float())
	}
	return fmt.Sprint(v.Interface())
}

func (d *dumper) inline(path string, v, byDefault reflect.Value) string {
	var parts []string
	for _, f := range fields(v.Type()) {
		if val, def := v.FieldByIndex(f.index), byDefault.FieldByIndex(f.index); d.needed(val, def) {
			parts = append(parts, f.key+" = "+d.value(join2(path, f.key), val, def, f.unit))
		}
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// secretName finds header fields and environment variables that usually hold secrets.
var secretName = regexp.MustCompile(`(?i)token|secret|passw|api.?key|authorization|cookie|credential|private|(^|_)key$`)

// duration drops the zero units that Duration.String ends with: 10m0s is 10m.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func size(n int64) string {
	for _, u := range sizeUnits {
		if n > 0 && u.bytes > 1 && n%u.bytes == 0 {
			return quote(strconv.FormatInt(n/u.bytes, 10) + u.name)
		}
	}
	return strconv.FormatInt(n, 10)
}

func rate(f float64) string {
	for _, unit := range []string{"s", "m", "h"} {
		s := strconv.FormatFloat(math.Round(f*map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]), 'f', -1, 64) + "/" + unit
		if back, err := parseRate(s); err == nil && back == f {
			return s
		}
	}
	return strconv.FormatFloat(f, 'f', -1, 64) + "/s"
}

func percent(f float64) string {
	s := strconv.FormatFloat(math.Round(f*100), 'f', -1, 64) + "%"
	if back, err := parsePercent(s); err == nil && back == f {
		return quote(s)
	}
	return float(f)
}

func float(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func quoteKey(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == "" {
		return s
	}
	return quote(s)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 127:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
