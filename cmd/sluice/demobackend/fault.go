package demobackend

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
)

// faultRates say what goes wrong; zero is nothing.
type faultRates struct {
	fail       float64 // share answered with status
	status     int
	hang       float64 // share never answered
	close      float64 // share whose connection is closed without an answer
	crashAfter uint64  // the process dies on this many requests; 0 = never
}

// faults are the rates and switches of the running process.
type faults struct {
	mu      sync.Mutex // guards all below
	rates   faultRates
	sick    bool        // /healthz says 503
	service serviceTime // of one request; here because it can be changed at run time
}

func (f *faults) now() (faultRates, bool, serviceTime) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rates, f.sick, f.service
}

// set reads the parameters of /fault: healthy=true|false, crash=1 (dies at once), fail_rate, fail_status,
// hang_rate, close_rate, service_time, and concurrency, which goes to resize. Either all of them are taken or none.
func (f *faults) set(args *fasthttp.Args, resize func(int)) (crash bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.rates
	sick, service := f.sick, f.service
	concurrency := -1
	for k, v := range args.All() {
		key, value := string(k), string(v)
		switch key {
		case "healthy":
			var healthy bool
			healthy, err = strconv.ParseBool(value)
			sick = !healthy
		case "crash":
			crash, err = strconv.ParseBool(value)
		case "fail_rate":
			next.fail, err = strconv.ParseFloat(value, 64)
		case "fail_status":
			next.status, err = strconv.Atoi(value)
			if err == nil && (next.status < 200 || next.status > 599) {
				err = fmt.Errorf("want 200 to 599")
			}
		case "hang_rate":
			next.hang, err = strconv.ParseFloat(value, 64)
		case "close_rate":
			next.close, err = strconv.ParseFloat(value, 64)
		case "service_time":
			err = service.Set(value)
		case "concurrency":
			concurrency, err = strconv.Atoi(value)
			if err == nil && concurrency < 0 {
				err = fmt.Errorf("must not be negative")
			}
		default:
			err = fmt.Errorf("unknown fault")
		}
		if err != nil {
			return false, fmt.Errorf("%s=%s: %w", key, value, err)
		}
	}
	f.rates, f.sick, f.service = next, sick, service
	if concurrency >= 0 {
		resize(concurrency)
	}
	return crash, nil
}

// misfortune is what happens to one request.
type misfortune uint8

const (
	none misfortune = iota
	failed
	hung
	closed
)

// draw decides about one request.
func (r faultRates) draw(d *dice) misfortune {
	if r.fail == 0 && r.hang == 0 && r.close == 0 {
		return none
	}
	switch x := d.float(); {
	case x < r.close:
		return closed
	case x < r.close+r.hang:
		return hung
	case x < r.close+r.hang+r.fail:
		return failed
	}
	return none
}
