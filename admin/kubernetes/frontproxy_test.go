package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// passedOn is a request as the front proxy sends it, with that certificate.
func passedOn(cert tls.Certificate, fields ...string) *http.Request {
	r := &http.Request{Header: http.Header{}, TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	p := &frontProxy{cli: newCluster(a), log: slog.New(slog.DiscardHandler)}
	now := time.Now()
	good := a.certify("front-proxy", x509.ExtKeyUsageClientAuth)
	got, err := p.authenticate(passedOn(good, "X-Remote-User", "ann", "X-Remote-Uid", "7", "X-Remote-Group", "dev", "X-Remote-Group", "ops", "X-Remote-Extra-Acme.com%2fproject", "x"), now)
	if want := (caller{"ann", "7", []string{"dev", "ops"}, map[string][]string{"acme.com/project": {"x"}}}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	for want, r := range map[string]*http.Request{
		"no client certificate":     {Header: http.Header{"X-Remote-User": {"ann"}}, TLS: &tls.ConnectionState{}},
		"not the front proxy's":     passedOn(other.certify("front-proxy", x509.ExtKeyUsageClientAuth), "X-Remote-User", "ann"),
		"incompatible key usage":    passedOn(a.certify("front-proxy", x509.ExtKeyUsageServerAuth), "X-Remote-User", "ann"),
		"none of the front proxy's": passedOn(a.certify("ann", x509.ExtKeyUsageClientAuth), "X-Remote-User", "ann"),
		"does not say who asks":     passedOn(good, "X_Remote_User", "ann", "Remote-User", "ann"),
	} {
		if c, err := p.authenticate(r, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v %v, want %q", c, err, want)
		}
	}
	if _, err := p.authenticate(passedOn(good, "X-Remote-User", "ann"), now.Add(2*time.Hour)); err == nil {
		t.Error("a certificate that is over is taken")
	}
}

// TestAuthorityIsReplaced: a certificate of the next authority is known at once, but nobody who shows bad ones can make
// more calls than one in five seconds.
func TestAuthorityIsReplaced(t *testing.T) {
	a, next := newAuthority(t), newAuthority(t)
	c := newCluster(a)
	p := &frontProxy{cli: c, log: slog.New(slog.DiscardHandler)}
	now := time.Now()
	r := passedOn(next.certify("front-proxy", x509.ExtKeyUsageClientAuth), "X-Remote-User", "ann")
	for range 10 {
		if _, err := p.authenticate(r, now); err == nil {
			t.Fatal("an unknown authority is believed")
		}
	}
	if c.reads != 1 {
		t.Errorf("%d calls for 10 bad certificates at once", c.reads)
	}
	c.set(func() { c.data["requestheader-client-ca-file"] = a.pem() + next.pem() })
	if _, err := p.authenticate(r, now.Add(trustPause)); err != nil {
		t.Errorf("the authority was added: %v", err)
	}
	c.set(func() { c.data["requestheader-client-ca-file"] = a.pem() })
	if _, err := p.authenticate(r, now.Add(trustPause+trustMemory)); err == nil {
		t.Error("an authority that was removed is believed after a minute")
	}

	// While the API server does not tell, what it last said counts, and the status says so.
	c.set(func() { c.err = errors.New("away") })
	known := passedOn(a.certify("front-proxy", x509.ExtKeyUsageClientAuth), "X-Remote-User", "ann")
	if _, err := p.authenticate(known, now.Add(10*time.Minute)); err != nil || p.failed.Load() == nil {
		t.Errorf("the API server is away: %v", err)
	}
	fresh := &frontProxy{cli: c, log: slog.New(slog.DiscardHandler)}
	if _, err := fresh.authenticate(known, now); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("nothing is known: %v", err)
	}
	c.set(func() { c.err, c.data = nil, map[string]string{"requestheader-username-headers": `["X-Remote-User"]`} })
	if _, err := fresh.authenticate(known, now.Add(trustPause)); err == nil || !strings.Contains(err.Error(), "names no authority") {
		t.Errorf("no authority: %v", err)
	}
	c.set(func() { c.data["requestheader-client-ca-file"] = "junk" })
	if _, err := fresh.authenticate(known, now.Add(10*trustMemory)); err == nil {
		t.Errorf("a broken configmap: %v", err)
	}
}

func TestReviewsAreRemembered(t *testing.T) {
	c := newCluster(newAuthority(t))
	v := &reviewer{cli: c}
	now := time.Now()
	ask := func(user string, now time.Time, groups ...string) bool {
		t.Helper()
		ok, _, err := v.allows(context.Background(), authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups}, now)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for range 5 {
		if !ask("reader", now) || ask("ann", now) {
			t.Fatal("wrong answers")
		}
	}
	if len(c.reviews) != 2 {
		t.Errorf("%d calls for 2 questions", len(c.reviews))
	}
	ask("reader", now.Add(reviewMemory))
	if len(c.reviews) != 3 {
		t.Error("an answer is believed for ever")
	}
	if !ask("anybody", now, "system:masters") || len(c.reviews) != 3 {
		t.Error("a superuser is asked for")
	}
	for i := range 3 * answersMost {
		ask(fmt.Sprint("user ", i), now)
	}
	ask(strings.Repeat("x", questionMost), now)
	if len(v.answers) > answersMost {
		t.Errorf("%d answers are kept", len(v.answers))
	}
	c.set(func() { c.err = errors.New("away") })
	if ok, _, err := v.allows(context.Background(), authorizationv1.SubjectAccessReviewSpec{User: "reader"}, now.Add(time.Hour)); ok || err == nil {
		t.Error("whoever cannot be asked for may")
	}
}
