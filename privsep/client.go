package privsep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Client asks the scaler behind a socket. Its methods may be called concurrently.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client. It connects when it asks.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{DialContext: dial, IdleConnTimeout: 30 * time.Second}}}
}

// Engine is the scaler's.
func (c *Client) Engine(ctx context.Context) (Engine, error) {
	var l listing
	err := c.call(ctx, http.MethodGet, "list", nil, nil, &l)
	return l.Engine, err
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// open sends a request; the caller closes what it returns. An error is *failure where the scaler gave a reason.
func (c *Client) open(ctx context.Context, method, verb string, q url.Values, body any) (io.ReadCloser, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://scaler/v1/"+verb+"?"+q.Encode(), sent)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // its address says nothing
			err = wrapped.Err
		}
		return nil, fmt.Errorf("the scaler at %s does not answer: %w", c.path, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	f := &failure{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, bodyMost)).Decode(f); err != nil || f.Message == "" {
		return nil, fmt.Errorf("the scaler at %s answered %s", c.path, resp.Status)
	}
	return nil, f
}

// call sends a request and reads its answer into v.
func (c *Client) call(ctx context.Context, method, verb string, q url.Values, body, v any) error {
	answer, err := c.open(ctx, method, verb, q, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, answerMost)).Decode(v); err != nil {
		return fmt.Errorf("the answer of the scaler at %s: %w", c.path, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer, bodyMost)) // so that the connection can be used again
	return nil
}
