package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/balancer"
)

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
