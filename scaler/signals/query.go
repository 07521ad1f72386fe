package signals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sluice/scaler"
)

// ask sends the instant query of cfg and returns its one number.
func ask(ctx context.Context, c *http.Client, cfg scaler.PrometheusConfig) (float64, error) {
	address := strings.TrimSuffix(cfg.URL, "/") + "/api/v1/query?query=" + url.QueryEscape(cfg.Query)
	status, body, err := fetch(ctx, c, address, cfg.Timeout)
	if err != nil {
		return 0, err
	}
	return queryValue(status, body)
}

// queryValue reads an answer of Prometheus's query API: a vector of one series, or a scalar.
func queryValue(status int, body []byte) (float64, error) {
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		if status != http.StatusOK {
			return 0, fmt.Errorf("it answers %d", status)
		}
		return 0, errors.New("the answer is not Prometheus's")
	}
	if answer.Status != "success" || status != http.StatusOK {
		return 0, fmt.Errorf("it answers %d: %s", status, short(answer.Error))
	}
	var sample [2]any // time and value, the latter as text
	switch answer.Data.ResultType {
	case "scalar":
		if err := json.Unmarshal(answer.Data.Result, &sample); err != nil {
			return 0, fmt.Errorf("the answer's value makes no sense: %w", err)
		}
	case "vector":
		var series []struct{ Value [2]any }
		if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
			return 0, fmt.Errorf("the answer's value makes no sense: %w", err)
		}
		switch len(series) {
		case 0:
			return 0, errors.New("no series")
		case 1:
			sample = series[0].Value
		default:
			return 0, fmt.Errorf("%d series where one is wanted; sum them up", len(series))
		}
	default:
		return 0, fmt.Errorf("a %s where one number is wanted", short(answer.Data.ResultType))
	}
	text, _ := sample[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && !math.IsInf(v, 0):
		return 0, fmt.Errorf("the value %q is no number", short(text))
	case math.IsNaN(v) || math.IsInf(v, 0):
		return 0, fmt.Errorf("the value is %s", text)
	}
	return v, nil
}

// short cuts what another program said to a length that a reason may have, and to one line of text.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 127 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 160 {
		return string(r[:160]) + "…"
	}
	return s
}
