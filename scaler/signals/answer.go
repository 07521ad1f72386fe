package signals

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"sluice/scaler"
)

// errAbsent is of a name that the answer does not have.
var errAbsent = errors.New("not in the answer")

// answer gives the number that a name stands for: all of its series together, or the largest of them.
type answer interface {
	number(name string, largest bool) (float64, error)
}

// read makes a reading of what a server answered. A queue that the plan asks for has to be in it; what else is missing is
// NaN.
func (p plan) read(server string, body []byte) (scaler.ServerReading, error) {
	r := scaler.Untold(server)
	var a answer
	var err error
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) > 0 && (first[0] == '{' || first[0] == '[') {
		a, err = readJSON(body)
	} else {
		a, err = readText(body)
	}
	if err != nil {
		return r, err
	}
	for _, f := range []struct {
		names             []string
		to                *float64
		largest, required bool
	}{
		{p.queue, &r.Queue, false, true}, {p.tasks, &r.Tasks, false, true}, {p.running, &r.Running, false, false},
		{p.cacheUsage, &r.CacheUsage, true, false}, {p.modelsLoaded, &r.ModelsLoaded, false, false},
		{p.collections, &r.VectorCollections, false, false}, {p.pending, &r.VectorPendingOperations, false, false},
	} {
		v, err := first(a, f.names, f.largest)
		switch {
		case err == nil:
			*f.to = v
		case errors.Is(err, errAbsent) && (!f.required || len(f.names) == 0):
		case errors.Is(err, errAbsent) && p.absent:
			*f.to = 0
		default:
			return r, fmt.Errorf("%s: %w", short(f.names[0]), err)
		}
	}
	if p.ollama {
		if r.Models, err = ollamaModels(body); err != nil {
			return r, err
		}
	}
	return r, nil
}

// first is the number of the first name that is there.
func first(a answer, names []string, largest bool) (float64, error) {
	for _, name := range names {
		v, err := a.number(name, largest)
		switch {
		case errors.Is(err, errAbsent):
			continue
		case err != nil:
			return 0, err
		case math.IsNaN(v) || math.IsInf(v, 0) || v < 0:
			return 0, fmt.Errorf("the value is %v", v)
		}
		return v, nil
	}
	return 0, errAbsent
}

// text is an answer in Prometheus's text format.
type text map[string]*dto.MetricFamily

func readText(body []byte) (text, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("the answer is not in Prometheus's text format: %s", short(err.Error()))
	}
	return families, nil
}

// ranks are labels of the parts of one engine, each of which tells of all its requests: the largest counts.
var ranks = map[string]bool{"tp_rank": true, "pp_rank": true, "moe_ep_rank": true}

// number leaves out the series of single priorities, which SGLang has beside the one of all.
func (t text) number(name string, largest bool) (float64, error) {
	family := t[name]
	if family == nil {
		return 0, errAbsent
	}
	engines := map[string]float64{}
series:
	for _, m := range family.GetMetric() {
		var v float64
		switch family.GetType() {
		case dto.MetricType_GAUGE:
			v = m.GetGauge().GetValue()
		case dto.MetricType_COUNTER:
			v = m.GetCounter().GetValue()
		case dto.MetricType_UNTYPED:
			v = m.GetUntyped().GetValue()
		default:
			return 0, fmt.Errorf("a %s, not a number", strings.ToLower(family.GetType().String()))
		}
		if math.IsNaN(v) {
			return v, nil
		}
		var engine strings.Builder
		for _, l := range m.GetLabel() {
			if l.GetName() == "priority" && l.GetValue() != "" && strings.HasPrefix(name, "sglang") {
				continue series
			}
			if !ranks[l.GetName()] {
				fmt.Fprintf(&engine, "%s=%q,", l.GetName(), l.GetValue())
			}
		}
		if before, ok := engines[engine.String()]; !ok || v > before {
			engines[engine.String()] = v
		}
	}
	if len(engines) == 0 {
		return 0, errAbsent
	}
	sum, most := 0.0, math.Inf(-1)
	for _, v := range engines {
		sum += v
		most = max(most, v)
	}
	if largest {
		return most, nil
	}
	return sum, nil
}

// tree is an answer in JSON.
type tree struct{ root any }

func readJSON(body []byte) (tree, error) {
	var t tree
	if err := json.Unmarshal(body, &t.root); err != nil {
		return t, fmt.Errorf("the answer is not JSON: %s", short(err.Error()))
	}
	return t, nil
}

// number follows a path of fields, and of positions in lists. A list at its end counts its elements.
func (t tree) number(path string, _ bool) (float64, error) {
	at := t.root
	for step := range strings.SplitSeq(path, ".") {
		switch in := at.(type) {
		case map[string]any:
			next, ok := in[step]
			if !ok {
				return 0, errAbsent
			}
			at = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(in) {
				return 0, errAbsent
			}
			at = in[i]
		default:
			return 0, errAbsent
		}
	}
	switch v := at.(type) {
	case float64:
		return v, nil
	case []any:
		return float64(len(v)), nil
	case nil:
		return 0, errAbsent
	}
	return 0, errors.New("no number")
}

// ollamaModels are the models that /api/ps lists: size is all of their memory, of GPU and of main memory.
func ollamaModels(body []byte) ([]scaler.ModelMemory, error) {
	var ps struct {
		Models []struct {
			Name string
			Size float64
		}
	}
	if err := json.Unmarshal(body, &ps); err != nil {
		return nil, fmt.Errorf("the answer is not Ollama's: %s", short(err.Error()))
	}
	var all []scaler.ModelMemory
	for _, m := range ps.Models {
		if m.Size >= 0 {
			all = append(all, scaler.ModelMemory{Model: m.Name, Bytes: m.Size})
		}
	}
	return all, nil
}
