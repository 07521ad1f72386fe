package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// largeTable has 10,000 routes, 1,000 upstreams and 10,000 servers: loopback addresses with that port.
func largeTable(port string) string {
	var b strings.Builder
	b.WriteString("log = { access = \"off\", level = \"error\" }\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\nhost = \"h%d.example.com\"\npath = \"/a/b%d\"\nupstream = \"u%d\"\nrate_limit = { rate = \"10000/s\", burst = 1000, key = \"client_ip\" }\n", i, i/2, i, i%1000)
	}
	for u := range 1000 {
		servers := make([]string, 10)
		for i := range servers {
			servers[i] = fmt.Sprintf("\"127.%d.%d.%d:%s\"", 10+i, u/250, u%250+1, port)
		}
		fmt.Fprintf(&b, "[upstream.u%d]\nservers = [%s]\nhealth_check = { interval = \"60s\" }\n", u, strings.Join(servers, ", "))
	}
	return b.String()
}

// A table of ten thousand is loaded, used and loaded again under requests, without one of them lost.
func TestLargeTable(t *testing.T) {
	t.Parallel()
	ln := must(t, func() (net.Listener, error) { return net.Listen("tcp4", "0.0.0.0:0") }) // every loopback address
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	s := start(t, largeTable(port))
	const last, host = "/a/b9999", "h4999.example.com"
	within(t, 20*time.Second, "an answer by the last route", func() bool { return get(t, s.url+last, host) == http.StatusOK })
	wait := load(t, "--rate", "200", "--duration", "6s", "-H", "Host: "+host, s.url+last)
	for i := range 3 {
		time.Sleep(time.Second)
		s.edit(fmt.Sprintf("burst = %d", 1000+i), fmt.Sprintf("burst = %d", 1001+i))
		begun := time.Now()
		if code, said, err := fetchPost(s.admin+"/api/v1/reload", ""); code != http.StatusOK {
			t.Fatalf("reload: %d, %v %s", code, err, said)
		}
		t.Logf("reloaded in %s", time.Since(begun).Round(time.Millisecond))
	}
	l := wait()
	t.Logf("%+v", l)
	if l.Sent == 0 || l.OK != l.Sent {
		t.Errorf("not all were answered: %+v", l)
	}
}

// get is the status of a GET with this Host; 0 is none.
func get(t *testing.T, url, host string) int {
	t.Helper()
	r := must(t, func() (*http.Request, error) { return http.NewRequest(http.MethodGet, url, http.NoBody) })
	r.Host = host
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
