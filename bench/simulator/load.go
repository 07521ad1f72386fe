package simulator

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"
)

// Tokens turns the tokens of a request to a language model into a service time: every token read and every token
// written costs its time. The defaults are of the order of a large model's server under load.
type Tokens struct {
	Prompt, Output time.Duration
}

// DefaultTokens reads 4000 and writes 40 tokens a second.
var DefaultTokens = Tokens{Prompt: 250 * time.Microsecond, Output: 25 * time.Millisecond}

func (k Tokens) service(prompt, output int) time.Duration {
	return k.Prompt*time.Duration(prompt) + k.Output*time.Duration(output)
}

// Load reads a trace; its form is told from the first line:
//
//	timestamp_seconds,service_seconds      a request a line, with or without this heading
//	17                                     requests in that second, a second a line
//	TIMESTAMP,ContextTokens,GeneratedTokens      the Azure LLM inference traces
//	{"timestamp": ms, "input_length": …, "output_length": …}      the Mooncake traces
//
// Requests of which only the second is known are spread over it by seed.
func Load(r io.Reader, k Tokens, seed uint64) (Trace, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	var all []Request
	var parse func(line string) error
	second, counted := 0, false
	random := rand.New(rand.NewPCG(seed, 0x7ace))
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		if parse == nil {
			heading := strings.HasPrefix(strings.ToLower(line), "timestamp")
			switch {
			case line[0] == '{':
				parse = func(line string) error {
					var m struct {
						Timestamp float64 `json:"timestamp"`
						Input     int     `json:"input_length"`
						Output    int     `json:"output_length"`
					}
					if err := json.Unmarshal([]byte(line), &m); err != nil {
						return err
					}
					all = append(all, Request{time.Duration(m.Timestamp * float64(time.Millisecond)), k.service(m.Input, m.Output)})
					return nil
				}
			case heading && strings.Count(line, ",") == 2:
				parse = func(line string) error {
					q, err := azure(line, k)
					all = append(all, q)
					return err
				}
			case strings.Contains(line, ","):
				parse = func(line string) error {
					q, err := perRequest(line)
					all = append(all, q)
					return err
				}
			default:
				counted = true
				parse = func(line string) error {
					count, err := strconv.Atoi(line)
					if err != nil || count < 0 {
						return errors.New("want the number of requests in this second")
					}
					if count > mostRequests-len(all) {
						return errTooMany
					}
					for range count {
						all = append(all, Request{time.Duration((float64(second) + random.Float64()) * float64(time.Second)), unknown})
					}
					second++
					return nil
				}
			}
			if heading {
				continue
			}
		}
		if err := parse(line); err != nil {
			return Trace{}, fmt.Errorf("line %d: %w: %.80q", n, err, line)
		}
		if len(all) > mostRequests {
			return Trace{}, fmt.Errorf("line %d: %w", n, errTooMany)
		}
	}
	if err := lines.Err(); err != nil {
		return Trace{}, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(all) == 0 {
		return Trace{}, errors.New("no request in it")
	}
	if counted {
		return checked(wholeSeconds(all, second))
	}
	return checked(newTrace(all))
}

const (
	// mostRequests and longest bound what is simulated: a trace beyond them is rather a mistake, and would take all memory.
	mostRequests = 50_000_000
	longest      = 366 * 24 * time.Hour
)

var errTooMany = fmt.Errorf("more than %d requests", mostRequests)

// checked is t, unless it spans too long a time.
func checked(t Trace) (Trace, error) {
	if t.Length > longest {
		return Trace{}, fmt.Errorf("its requests span %.0f days, and %.0f is the most: are all of its times of one kind?", t.Length.Hours()/24, longest.Hours()/24)
	}
	return t, nil
}

// LoadFile is Load of a file, which may be compressed by gzip.
func LoadFile(name string, k Tokens, seed uint64) (t Trace, err error) {
	err = withFile(name, func(r io.Reader) error {
		t, err = Load(r, k, seed)
		return err
	})
	return t, err
}

// withFile calls read with what is in a file, uncompressed. Errors name it.
func withFile(name string, read func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	plain := bufio.NewReader(f)
	var r io.Reader = plain
	if magic, _ := plain.Peek(2); string(magic) == "\x1f\x8b" {
		if r, err = gzip.NewReader(plain); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := read(r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// wholeSeconds is a trace that counts requests per second: it begins with its first second, empty or not.
func wholeSeconds(all []Request, seconds int) Trace {
	t := newTrace(append([]Request{{}}, all...))
	return Trace{Requests: t.Requests[1:], Length: time.Duration(seconds) * time.Second}
}

func perRequest(line string) (Request, error) {
	at, service, ok := strings.Cut(line, ",")
	a, err1 := strconv.ParseFloat(strings.TrimSpace(at), 64)
	s, err2 := strconv.ParseFloat(strings.TrimSpace(service), 64)
	if !ok || err1 != nil || err2 != nil || !(s >= 0 && s < 1e7) || !(a > -1e10 && a < 1e10) {
		return Request{}, errors.New("want timestamp_seconds,service_seconds")
	}
	return Request{time.Duration(a * float64(time.Second)), time.Duration(s * float64(time.Second))}, nil
}

// azureBegin is some time before the traces, so that a Duration can hold the distance.
var azureBegin = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)

func azure(line string, k Tokens) (Request, error) {
	f := strings.Split(line, ",")
	if len(f) != 3 {
		return Request{}, errors.New("want TIMESTAMP,ContextTokens,GeneratedTokens")
	}
	layout := "2006-01-02 15:04:05.999999999"
	if strings.Contains(f[0], "+") {
		layout += "-07:00"
	}
	at, err := time.Parse(layout, f[0])
	prompt, err1 := strconv.Atoi(strings.TrimSpace(f[1]))
	output, err2 := strconv.Atoi(strings.TrimSpace(f[2]))
	if err := errors.Join(err, err1, err2); err != nil {
		return Request{}, err
	}
	return Request{at.Sub(azureBegin), k.service(prompt, output)}, nil
}
