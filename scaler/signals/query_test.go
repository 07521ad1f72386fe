package signals

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice/scaler"
)

func TestQueryValue(t *testing.T) {
	ok := func(result string) string { return `{"status":"success","data":` + result + `}` }
	for _, test := range []struct {
		status int
		body   string
		want   float64
		err    string
	}{
		{200, ok(`{"resultType":"vector","result":[{"metric":{},"value":[1700000000.1,"84.5"]}]}`), 84.5, ""},
		{200, ok(`{"resultType":"scalar","result":[1700000000.1,"3"]}`), 3, ""},
		{200, ok(`{"resultType":"vector","result":[]}`), 0, "no series"},
		{200, ok(`{"resultType":"vector","result":[{"value":[1,"1"]},{"value":[1,"2"]}]}`), 0, "2 series"},
		{200, ok(`{"resultType":"vector","result":[{"value":[1,"NaN"]}]}`), 0, "the value is NaN"},
		{200, ok(`{"resultType":"vector","result":[{"value":[1,"+Inf"]}]}`), 0, "the value is +Inf"},
		{200, ok(`{"resultType":"vector","result":[{"value":[1,"1e999"]}]}`), 0, "the value is 1e999"},
		{200, ok(`{"resultType":"vector","result":[{"value":[1,7]}]}`), 0, "no number"},
		{200, ok(`{"resultType":"vector","result":[{}]}`), 0, "no number"},
		{200, ok(`{"resultType":"vector","result":7}`), 0, "makes no sense"},
		{200, ok(`{"resultType":"matrix","result":[]}`), 0, "a matrix where one number is wanted"},
		{400, `{"status":"error","errorType":"bad_data","error":"parse error: unexpected \"}\"\nline 2"}`, 0, `it answers 400: parse error: unexpected "}" line 2`},
		{200, `{"status":"error","error":"x"}`, 0, "it answers 200: x"},
		{502, `<html>Bad Gateway</html>`, 0, "it answers 502"},
		{200, `<html>Log in</html>`, 0, "the answer is not Prometheus's"},
		{200, `{}`, 0, "the answer is not Prometheus's"},
	} {
		v, err := queryValue(test.status, []byte(test.body))
		if err == nil && test.err != "" || err != nil && (test.err == "" || !strings.Contains(err.Error(), test.err)) || v != test.want {
			t.Errorf("%d %s: %v %v, want %v %q", test.status, test.body, v, err, test.want, test.err)
		}
	}
}

func TestQueryIsBounded(t *testing.T) {
	release := make(chan struct{})
	var elsewhere bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/base/api/v1/query":
			if q := r.URL.Query().Get("query"); q != `sum(a{b="c d"}) + 1` {
				t.Errorf("query %q", q)
			}
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`))
		case "/slow/api/v1/query":
			<-release
		case "/long/api/v1/query":
			for range maxAnswer/1024 + 2 {
				_, _ = w.Write(make([]byte, 1024))
			}
		case "/moved/api/v1/query":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			elsewhere = true
		}
	}))
	defer s.Close()
	defer close(release)
	client := newClient()
	defer client.CloseIdleConnections()
	get := func(path string, timeout time.Duration) error {
		v, err := ask(context.Background(), client, scaler.PrometheusConfig{URL: s.URL + path, Query: `sum(a{b="c d"}) + 1`, Timeout: timeout})
		if err == nil && v != 1 {
			t.Errorf("%s: %v", path, v)
		}
		return err
	}
	if err := get("/base/", 10*time.Second); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{"/slow": "no answer within 50ms", "/long": "more than 4 MB", "/moved": "it answers 302"} {
		timeout := 10 * time.Second
		if path == "/slow" {
			timeout = 50 * time.Millisecond
		}
		if err := get(path, timeout); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if elsewhere {
		t.Error("a redirect was followed")
	}
}
