package simulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// accessTime is $time_local of nginx's combined format, and accessTook a request time that many formats add after
// it: request_time=, rt= or urt= with seconds, or a last field, not in quotes, that is a number with a point.
var (
	accessTime = regexp.MustCompile(`\[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\]`)
	accessTook = regexp.MustCompile(`(?:\b(?:request_time|rt|urt)[=:]"?(\d+(?:\.\d+)?))|(?: (\d+\.\d+)\s*$)`)
)

// Passed are the lines of an access log that tell no time.
type Passed struct {
	// Lines is how many, First the number of the first.
	Lines, First int
}

// AccessLog reads an access log: nginx's combined format, or the JSON that sluice writes. The former tells the second in which
// a request ended; it is spread over it by seed, and begins its service time earlier where that is logged. The latter tells when it
// came, and its service time is what was not spent in the queue. Lines without a time are counted and passed over.
func AccessLog(r io.Reader, seed uint64) (Trace, Passed, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	random := rand.New(rand.NewPCG(seed, 0xacce55))
	var all []Request
	var passed Passed
	var first time.Time
	n := 0
	for lines.Scan() {
		n++
		came, service, ok := loggedHere(lines.Text())
		exact := ok
		if !ok {
			came, service, ok = logged(lines.Text())
		}
		if !ok {
			if passed.Lines++; passed.First == 0 {
				passed.First = n
			}
			continue
		}
		if first.IsZero() {
			first = came
		}
		q := Request{came.Sub(first), service}
		if !exact {
			q.At += time.Duration(random.Float64() * float64(time.Second))
		}
		all = append(all, q)
		if len(all) > mostRequests {
			return Trace{}, passed, fmt.Errorf("line %d: %w", n, errTooMany)
		}
	}
	if err := lines.Err(); err != nil {
		return Trace{}, passed, fmt.Errorf("line %d: %w", n+1, err)
	}
	if len(all) == 0 {
		return Trace{}, passed, errors.New("no line of an access log in it")
	}
	t, err := checked(newTrace(all))
	return t, passed, err
}

// logged is when the request of a line of nginx's came, in the second at hand, and how long it was served, unknown if the line does not say.
func logged(line string) (came time.Time, service time.Duration, ok bool) {
	m := accessTime.FindStringSubmatchIndex(line)
	if m == nil {
		return time.Time{}, 0, false
	}
	ended, err := time.Parse("02/Jan/2006:15:04:05 -0700", line[m[2]:m[3]])
	if err != nil {
		return time.Time{}, 0, false
	}
	if took := accessTook.FindStringSubmatch(line[m[1]:]); took != nil {
		if s, err := strconv.ParseFloat(took[1]+took[2], 64); err == nil && s < 1e6 {
			service = time.Duration(s * float64(time.Second))
			return ended.Add(-service), service, true
		}
	}
	return ended, unknown, true
}

// loggedHere is logged of a line of sluice's JSON.
func loggedHere(line string) (came time.Time, service time.Duration, ok bool) {
	var l struct {
		Came  time.Time `json:"ts"`
		Total float64   `json:"t_total"`
		Queue float64   `json:"t_queue"`
	}
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &l) != nil || l.Came.IsZero() || !(l.Queue >= 0 && l.Total >= l.Queue && l.Total < 1e6) {
		return time.Time{}, 0, false
	}
	return l.Came, time.Duration((l.Total - l.Queue) * float64(time.Second)), true
}

// AccessLogFile is AccessLog of a file, which may be compressed by gzip.
func AccessLogFile(name string, seed uint64) (t Trace, passed Passed, err error) {
	err = withFile(name, func(r io.Reader) error {
		t, passed, err = AccessLog(r, seed)
		return err
	})
	return t, passed, err
}
