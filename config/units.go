package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// longest is the largest duration that may be written.
const longest = 365 * 24 * time.Hour

// parseDuration reads "5s", "1m30s", "200ms": decimal numbers, each with a unit, never negative.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case s == "":
		return 0, errors.New(`"" is no duration: write a number with a unit, as "5s"`)
	case strings.HasPrefix(s, "-"):
		return 0, fmt.Errorf("%q: a duration is never negative", s)
	case err != nil && isNumber(s) && s != "0":
		return 0, fmt.Errorf("%q has no unit: write %q", s, s+"s")
	case err != nil && strings.HasSuffix(s, "d") && isNumber(s[:len(s)-1]):
		return 0, fmt.Errorf(`%q: the largest unit is h, a day is "24h"`, s)
	case err != nil:
		return 0, fmt.Errorf(`%q is no duration: write a number with a unit (ms, s, m, h), as "5s"`, s)
	case d > longest:
		return 0, fmt.Errorf("%q is more than a year", s)
	}
	return d, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

var rateText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(?:r|req)?/(?:([smh])|(sec|second|min|minute|hour))$`)

// parseRate reads "100/s", "20/m" or "1000/h" and gives requests per second.
func parseRate(s string) (float64, error) {
	part := rateText.FindStringSubmatch(s)
	if part == nil {
		if isNumber(s) && !strings.HasPrefix(s, "-") {
			return 0, fmt.Errorf("%q has no unit: write %q", s, s+"/s")
		}
		return 0, fmt.Errorf(`%q is no rate: write "100/s", "20/m" or "1000/h"`, s)
	}
	if strings.Contains(s, "r/") || strings.Contains(s, "req/") || part[3] != "" {
		unit := part[2]
		if unit == "" {
			unit = part[3][:1]
		}
		return 0, fmt.Errorf("%q: write %q", s, part[1]+"/"+unit)
	}
	n, err := strconv.ParseFloat(part[1], 64)
	if err != nil || n <= 0 || n > 1e9 {
		return 0, fmt.Errorf("%q: a rate is more than 0 and at most 1000000000", s)
	}
	return n / map[string]float64{"s": 1, "m": 60, "h": 3600}[part[2]], nil
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"kB", 1e3}, {"B", 1},
}

// parseSize reads "10MB" (decimal), "10MiB" (binary) or a plain number of bytes.
func parseSize(s string) (int64, error) {
	number := strings.TrimRightFunc(s, unicode.IsLetter)
	unit := s[len(number):]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.ContainsAny(number, "+eExX_") || math.IsInf(n, 0) || math.IsNaN(n) {
		return 0, fmt.Errorf(`%q is no size: write "10MB", "10MiB" or a number of bytes`, s)
	}
	if n < 0 {
		return 0, fmt.Errorf("%q: a size is never negative", s)
	}
	if unit == "" {
		unit = "B"
	}
	for _, u := range sizeUnits {
		if u.name != unit {
			continue
		}
		bytes := n * float64(u.bytes)
		if bytes > 1<<53 {
			return 0, fmt.Errorf("%q is too large", s)
		}
		if bytes != math.Trunc(bytes) {
			return 0, fmt.Errorf("%q is no whole number of bytes", s)
		}
		return int64(bytes), nil
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, unit) || strings.EqualFold(u.name, unit+"B") {
			return 0, fmt.Errorf("%q: unknown unit %q; did you mean %q?", s, unit, number+u.name)
		}
	}
	return 0, fmt.Errorf("%q: unknown unit %q (B, KB, KiB, MB, MiB, GB, GiB, TB, TiB)", s, unit)
}

// parsePercent reads "70%" and gives 0.7.
func parsePercent(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf(`%q is no share: write "70%%" or 0.7`, s)
	}
	return share(n/100, s)
}

func share(f float64, written any) (float64, error) {
	if !(f >= 0 && f <= 1) {
		return 0, fmt.Errorf("%v: a share is between 0%% and 100%%", written)
	}
	return f, nil
}

// maxSecret is the largest secret file that is read.
const maxSecret = 64 << 10

// readSecret reads what "env:NAME" or "file:PATH" refers to, without the white space around it. Relative paths
// start at the working directory. Errors name the reference, never the secret.
func readSecret(ref string) (string, error) {
	kind, name, _ := strings.Cut(ref, ":")
	var text string
	switch {
	case kind == "env" && name != "":
		var ok bool
		if text, ok = os.LookupEnv(name); !ok {
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
	case kind == "file" && name != "":
		info, err := os.Stat(name)
		if err != nil {
			return "", fmt.Errorf("the secret cannot be read: %w", err)
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("the secret cannot be read: %s is no regular file", name)
		}
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("the secret cannot be read: %w", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		if err != nil {
			return "", fmt.Errorf("the secret cannot be read: %w", err)
		}
		if len(b) > maxSecret {
			return "", fmt.Errorf("%s is too large for a secret (64 KiB at most)", name)
		}
		text = string(b)
	default:
		return "", errors.New(`a secret is written as "env:NAME" or "file:PATH", never itself`)
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return "", fmt.Errorf("the secret at %s is empty", ref)
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "", fmt.Errorf("the secret at %s has a control character", ref)
	}
	return text, nil
}
