package simulator

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"time"
)

// accessTime is $time_local of nginx's combined format, and accessTook a request time that many formats add after
// it: request_time=, rt= or urt= with seconds, or a last field, not in quotes, that is a number with a point.
var (
	accessTime = regexp.MustCompile(`\[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\]`)
	accessTook = regexp.MustCompile(`(?:\b(?:request_time|rt|urt)[=:]"?(\d+(?:\.\d+)?))|(?: (\d+\.\d+)\s*$)`)
)

// AccessLog reads an access log in nginx's combined format. The log tells the second in which a request ended; it is
// spread over it by seed, and begins its service time earlier where that is logged. Lines without a time are counted
// and passed over.
func AccessLog(r io.Reader, seed uint64) (t Trace, passed int, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	random := rand.New(rand.NewPCG(seed, 0xacce55))
	var all []Request
	var first time.Time
	for lines.Scan() {
		m := accessTime.FindStringSubmatchIndex(lines.Text())
		if m == nil {
			passed++
			continue
		}
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", lines.Text()[m[2]:m[3]])
		if err != nil {
			passed++
			continue
		}
		if first.IsZero() {
			first = at
		}
		q := Request{at.Sub(first) + time.Duration(random.Float64()*float64(time.Second)), unknown}
		if took := accessTook.FindStringSubmatch(lines.Text()[m[1]:]); took != nil {
			s, err := strconv.ParseFloat(took[1]+took[2], 64)
			if err == nil && s < 1e6 {
				q.Service = time.Duration(s * float64(time.Second))
				q.At -= q.Service
			}
		}
		all = append(all, q)
	}
	if err := lines.Err(); err != nil {
		return Trace{}, passed, err
	}
	if len(all) == 0 {
		return Trace{}, passed, errors.New("no line of an access log in it")
	}
	return newTrace(all), passed, nil
}

// AccessLogFile is AccessLog of a file.
func AccessLogFile(name string, seed uint64) (Trace, int, error) {
	f, err := os.Open(name)
	if err != nil {
		return Trace{}, 0, err
	}
	defer f.Close()
	t, passed, err := AccessLog(f, seed)
	if err != nil {
		return Trace{}, passed, fmt.Errorf("%s: %w", name, err)
	}
	return t, passed, nil
}
