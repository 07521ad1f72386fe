package signals

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxAnswer bounds what is read of one answer. A vLLM with many models has some hundred kilobytes.
	maxAnswer = 4 << 20
	// maxHead bounds the head of an answer.
	maxHead = 64 << 10
)

// newClient makes a client of its own, so that nothing of the requests' way is shared. It follows no redirects: a server
// must not choose what is asked next.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			MaxResponseHeaderBytes: maxHead,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true, // the bound is on what is read
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch reads what url answers, whatever the status is, within timeout. Its errors are words for a decision's reason.
func fetch(ctx context.Context, c *http.Client, address string, timeout time.Duration) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4, application/json;q=0.9, */*;q=0.1")
	req.Header.Set("User-Agent", "sluice")
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, plain(err, timeout)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, plain(err, timeout)
	}
	if len(body) > maxAnswer {
		return 0, nil, fmt.Errorf("the answer has more than %d MB", maxAnswer>>20)
	}
	return resp.StatusCode, body, nil
}

// plain leaves out what the reader knows: the method and the URL.
func plain(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", timeout)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return errors.New(short(err.Error())) // it may quote the answer
}
