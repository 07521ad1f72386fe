package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/valyala/fasthttp"

	"sluice/admin"
	"sluice/config"
)

// contact is how a running sluice can be reached, as its configuration says.
type contact struct {
	file    string
	admin   admin.Config
	metrics admin.MetricsConfig
	pid     string
	cfg     *config.Config // nil when the file does not exist or is invalid
	err     error          // why cfg is nil; the rest is then as good as it can be had
	lost    bool           // with err: admin, metrics and pid may not be those of the sluice that is meant
}

// findContact reads the configuration. A file that has become invalid since sluice was started must not keep anybody from
// asking or stopping that sluice, so the few keys that are needed are then read by themselves.
func findContact(path string) contact {
	c := contact{file: path}
	if c.cfg, c.err = config.Load(path); c.err == nil {
		c.admin, c.metrics, c.pid = c.cfg.Admin, c.cfg.Metrics, c.cfg.PID
		return c
	}
	c.cfg = nil
	def := config.Default()
	var keys contactKeys
	if data, err := os.ReadFile(path); err == nil {
		c.lost = !keys.read(string(data))
	} else {
		c.lost = !errors.Is(err, fs.ErrNotExist)
	}
	text := func(table map[string]any, key, def string) string {
		switch v := table[key].(type) {
		case string:
			return v
		case nil:
			return def
		}
		c.lost = true
		return def
	}
	c.pid = cmp.Or(keys.PID, def.PID)
	c.admin.Listen = text(keys.Admin, "listen", def.Admin.Listen)
	c.admin.Token = text(keys.Admin, "token", "") // a reference; clientFlags.open reads it
	c.metrics.Listen = text(keys.Metrics, "listen", "")
	return c
}

// livePID is the pid of the running sluice. --admin does not tell the pid file.
func (c contact) livePID() (int, error) {
	if c.lost {
		return 0, fmt.Errorf("which sluice is meant cannot be read from its configuration: %w", c.err)
	}
	return livePID(c.pid)
}

// contactKeys are what is needed of a configuration to reach the sluice that runs it.
type contactKeys struct {
	PID            string `toml:"pid"`
	Admin, Metrics map[string]any
}

// read takes the keys from a file that need not be TOML any more: lines at fault are left out. It is false
// when the keys may be among those; taking the defaults for them could stop another sluice than the one that
// is meant.
func (k *contactKeys) read(data string) bool {
	lines := strings.Split(data, "\n")
	for range 32 {
		*k = contactKeys{}
		text := strings.Join(lines, "\n")
		_, err := toml.Decode(text, k)
		if err == nil {
			return true
		}
		var fault toml.ParseError
		if !errors.As(err, &fault) || fault.Position.Start < 0 {
			return false
		}
		// Not Position.Line, which is the next one when the end of a line came too soon.
		line := &lines[strings.Count(text[:min(fault.Position.Start, len(text))], "\n")]
		if !utf8.ValidString(*line) || strings.ContainsFunc(*line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' }) {
			return false // no text at all
		}
		for _, key := range []string{"pid", "admin", "metrics", "listen", "token"} {
			if strings.Contains(*line, key) {
				return false
			}
		}
		if strings.HasPrefix(strings.TrimSpace(*line), "[") {
			*line = "[[left_out]]" // what follows still belongs to a table of its own
		} else {
			*line = ""
		}
	}
	return false
}

// clientFlags are those of every command that asks a running sluice.
type clientFlags struct{ file, addr, token string }

func (f *clientFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.file, "c", "", "configuration `FILE` of the running sluice (default $SLUICE_CONFIG, else config.toml)")
	fs.StringVar(&f.addr, "admin", "", "`ADDRESS` of its admin API, host:port or unix:/path, instead of what the configuration says")
	fs.StringVar(&f.token, "token", "", "its admin `TOKEN`, or env:NAME or file:PATH, instead of what the configuration says")
}

// contact finds the sluice that is meant. A configuration that was named and is not there is an error.
func (f *clientFlags) contact(env Env) (contact, error) {
	path, named := configFile(env, f.file)
	c := findContact(path)
	if named && errors.Is(c.err, fs.ErrNotExist) {
		if f.addr == "" {
			return c, c.err
		}
		c.lost = true
	}
	if c.lost && f.addr == "" {
		return c, fmt.Errorf("which sluice is meant cannot be read from its configuration, name it with --admin: %w", c.err)
	}
	if f.addr != "" {
		c.admin.Listen = strings.TrimSuffix(strings.TrimPrefix(f.addr, "http://"), "/")
	}
	ref := f.token
	if ref == "" && c.cfg == nil {
		ref = c.admin.Token
	}
	if ref != "" {
		token, err := readToken(env, ref)
		if err != nil {
			return c, err
		}
		c.admin.Token = token
	}
	return c, nil
}

func readToken(env Env, ref string) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		if v := env.Getenv(name); v != "" {
			return v, nil
		}
		return "", fmt.Errorf("the admin token's environment variable %s is not set", name)
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("the admin token cannot be read: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	return ref, nil
}

// open makes a client of the admin API; nothing is sent yet.
func (f *clientFlags) open(env Env) (*adminClient, error) {
	c, err := f.contact(env)
	if err != nil {
		return nil, err
	}
	if c.admin.Listen == "off" || c.admin.Listen == "" {
		return nil, fmt.Errorf("the admin API is off in %s", c.file)
	}
	return newAdminClient(c.admin.Listen, c.admin.Token), nil
}

// adminClient asks one sluice's admin API, one question at a time.
type adminClient struct {
	listen, token string
	patience      time.Duration // for an answer to begin
	http          fasthttp.HostClient

	begins, ends time.Time // when the answer has to, of the call that is under way
	begun        bool      // it has
}

const (
	answerPatience = 5 * time.Second
	reloadPatience = 10 * time.Second // it is answered when it is done
	wholeAnswer    = 30 * time.Second
)

func newAdminClient(listen, token string) *adminClient {
	c := &adminClient{listen: listen, token: token, patience: answerPatience}
	host := reachable(listen)
	c.http = fasthttp.HostClient{Addr: host, Name: "sluice", MaxIdemponentCallAttempts: 1, DisablePathNormalizing: true, MaxResponseBodySize: 64 << 20}
	network, addr := "tcp", host
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		c.http.Addr, network, addr = "localhost", "unix", path
	}
	c.http.Dial = func(string) (net.Conn, error) {
		nc, err := net.DialTimeout(network, addr, 2*time.Second)
		if err != nil {
			return nil, err
		}
		return awaited{nc, c}, nil
	}
	return c
}

// awaited is a connection on which an answer has to begin in time. fasthttp knows a time for the whole answer alone.
type awaited struct {
	net.Conn
	by *adminClient
}

func (a awaited) Read(p []byte) (int, error) {
	if a.by.begun {
		return a.Conn.Read(p)
	}
	if err := a.SetReadDeadline(a.by.begins); err != nil {
		return 0, err
	}
	n, err := a.Conn.Read(p)
	if n > 0 {
		a.by.begun = true
		if err := a.SetReadDeadline(a.by.ends); err != nil {
			return n, err
		}
	}
	return n, err
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// errNobody says that nobody listens where sluice should.
type errNobody struct {
	listen string
	cause  error
}

func (e errNobody) Error() string {
	if errors.Is(e.cause, fs.ErrPermission) {
		return fmt.Sprintf("%s may not be opened by this user", e.listen)
	}
	return fmt.Sprintf("no sluice answers on %s: is it running?", e.listen)
}

func (e errNobody) Unwrap() error { return e.cause }

// refusal is an answer of the API other than 200.
type refusal struct {
	status int
	Reason string `json:"reason"`
	Text   string `json:"error"`
}

func (r *refusal) Error() string { return r.Text }

// call sends one request and returns the body of a 200. body nil sends none. The errors are errNobody,
// *refusal and what else can happen to a connection.
func (c *adminClient) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + c.http.Addr + path)
	req.Header.SetMethod(method)
	req.SetConnectionClose()
	if c.token != "" {
		req.Header.Set(fasthttp.HeaderAuthorization, "Bearer "+c.token)
	}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		req.Header.SetContentType("application/json")
		req.SetBody(b)
	}
	asked := time.Now()
	c.begins, c.ends, c.begun = asked.Add(c.patience), asked.Add(wholeAnswer), false
	if d, ok := ctx.Deadline(); ok {
		c.begins, c.ends = earlier(c.begins, d), earlier(c.ends, d)
	}
	if err := c.http.DoDeadline(req, resp, c.ends); err != nil {
		var dial *net.OpError
		switch {
		case errors.As(err, &dial) && dial.Op == "dial":
			return nil, errNobody{c.listen, err}
		case errors.Is(err, fasthttp.ErrTimeout) && c.begun:
			return nil, fmt.Errorf("the answer of %s did not end within %s", c.listen, c.ends.Sub(asked).Round(time.Millisecond))
		case errors.Is(err, fasthttp.ErrTimeout):
			return nil, fmt.Errorf("%s was asked and did not answer within %s: is it sluice, and does it run?", c.listen, c.begins.Sub(asked).Round(time.Millisecond))
		}
		return nil, fmt.Errorf("sluice on %s: %w", c.listen, err)
	}
	if resp.StatusCode() == fasthttp.StatusOK {
		return append([]byte(nil), resp.Body()...), nil
	}
	r := &refusal{status: resp.StatusCode()}
	if json.Unmarshal(resp.Body(), r) != nil || r.Text == "" {
		r.Text = fmt.Sprintf("what answers on %s is no sluice, or not of this version: status %d", c.listen, r.status)
		if text := strings.TrimSpace(string(resp.Body())); strings.HasPrefix(text, "not ready") {
			r.Text = text
		}
	}
	switch {
	case r.status != fasthttp.StatusUnauthorized:
	case c.token != "":
		r.Text = fmt.Sprintf("sluice on %s does not take this token: give the right one with --token, or run this where its configuration is", c.listen)
	default:
		r.Text = fmt.Sprintf("sluice on %s asks for its token: give it with --token, or run this where its configuration is", c.listen)
	}
	return nil, r
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (c *adminClient) status(ctx context.Context) (admin.Status, []byte, error) {
	var st admin.Status
	b, err := c.call(ctx, "GET", "/api/v1/status", nil)
	if err != nil {
		return st, nil, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, nil, fmt.Errorf("what answers on %s is no sluice, or not of this version: %w", c.listen, err)
	}
	return st, b, nil
}
