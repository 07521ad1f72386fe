package kubernetes

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"sluice/balancer"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFirstSetWaits: while the API server refuses, nothing is sent and the notes say why; then the full set comes.
func TestFirstSetWaits(t *testing.T) {
	var allowed atomic.Bool
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/apis/discovery.k8s.io/v1/namespaces/team-a/endpointslices" || r.URL.Query().Get("labelSelector") != "kubernetes.io/service-name=api" {
			t.Errorf("asked for %s", r.URL)
		}
		answer := any(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonForbidden, Code: 403, Message: "not you"})
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !allowed.Load():
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Query().Get("watch") != "":
			if r.URL.Query().Get("sendInitialEvents") != "" {
				w.WriteHeader(http.StatusUnprocessableEntity) // an older server: it is listed instead
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		default:
			s := slice(discoveryv1.AddressTypeIPv4, ports(80), "10.0.0.1/a")
			answer = discoveryv1.EndpointSliceList{TypeMeta: metav1.TypeMeta{Kind: "EndpointSliceList", APIVersion: "discovery.k8s.io/v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []discoveryv1.EndpointSlice{*s}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer api.Close()
	cli, err := NewClient(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	s := NewSource(cli, Query{Namespace: "team-a", Service: "api"}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	sets := make(chan []balancer.ServerSpec)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, sets) }()
	for end := time.Now().Add(10 * time.Second); len(s.Notes()) == 0 || !strings.Contains(s.Notes()[0].Why, "may not list and watch endpointslices in the namespace team-a"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("notes: %v", s.Notes())
		}
	}
	select {
	case set := <-sets:
		t.Errorf("a set without an answer: %v", set)
	default:
	}
	allowed.Store(true)
	select {
	case set := <-sets:
		if len(set) != 1 || set[0].Addr != "10.0.0.1:80" {
			t.Errorf("set %v", set)
		}
	case <-time.After(15 * time.Second):
		t.Errorf("no set; notes %v", s.Notes())
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Run returned %v", err)
	}
	if s.Notes() != nil {
		t.Errorf("notes after Run: %v", s.Notes())
	}
}
