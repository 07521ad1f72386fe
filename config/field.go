package config

import (
	"reflect"
	"strings"
	"sync"
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
