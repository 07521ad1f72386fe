package signals

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sluice/scaler"
)

const (
	// maxNames is how many names of models an upstream's metrics ever have; every further one counts as other. Clients of
	// an Ollama choose what it loads.
	maxNames = 50
	// maxName is the longest name.
	maxName = 128
	// other is the name of all models that have none of their own.
	other = "other"
)

// names bounds the names of models over the life of an upstream. It belongs to one goroutine.
type names map[string]bool

// few gives every model a name that is one of few, and adds up those that share one.
func (n names) few(models []scaler.ModelMemory) []scaler.ModelMemory {
	var out []scaler.ModelMemory
	place := map[string]int{}
	for _, m := range models {
		name := m.Model
		if !n[name] {
			if len(n) < maxNames && fit(name) {
				n[strings.Clone(name)] = true
			} else {
				name = other
			}
		}
		i, ok := place[name]
		if !ok {
			i = len(out)
			place[name] = i
			out = append(out, scaler.ModelMemory{Model: name})
		}
		out[i].Bytes += m.Bytes
	}
	return out
}

func fit(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
