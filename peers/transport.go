package peers

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// A gateway asks another with a nonce of its own and a proof that it has the token, and is answered with the report
// and a proof over nonce and report (HMAC, RFC 2104). The token itself is not sent, as an address may
// by now be somebody else's; and what somebody listened to is of no use for another nonce.
const (
	reportPath  = "/peers/v1/report"
	headerNonce = "Sluice-Nonce"
	headerProof = "Sluice-Proof"
	nonceBytes  = 16
)

// proof is what only those who have the key can make of the parts.
func proof(key []byte, role, nonce string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, role+" "+nonce+"\n")
	_, _ = mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// proven compares in a time that does not depend on where they differ.
func proven(got, want string) bool { return hmac.Equal([]byte(got), []byte(want)) }

// serveReports answers at listen until the server is closed.
func serveReports(listen string, key []byte, report func() []byte, ended *sync.WaitGroup) (*http.Server, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+reportPath, func(w http.ResponseWriter, r *http.Request) {
		nonce := r.Header.Get(headerNonce)
		if len(nonce) != 2*nonceBytes || !proven(r.Header.Get(headerProof), proof(key, "ask", nonce, nil)) {
			http.Error(w, "this is for the other gateways, who have the token of [peers]", http.StatusUnauthorized)
			return
		}
		body := report()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(headerProof, proof(key, "report", nonce, body))
		_, _ = w.Write(body)
	})
	server := &http.Server{
		Handler: mux, MaxHeaderBytes: 4 << 10,
		ReadHeaderTimeout: sendTimeout, ReadTimeout: sendTimeout, WriteTimeout: sendTimeout, IdleTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // what strangers send is no news
	}
	ended.Go(func() { _ = server.Serve(ln) })
	return server, nil
}

// answer is what an address said, and who was there.
type answer struct {
	id   string
	body []byte
}

// newClient goes to the other gateways and nowhere else.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableCompression: true, MaxResponseHeaderBytes: 4 << 10, MaxIdleConnsPerHost: 1, IdleConnTimeout: 5 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask asks the gateway at address for its report.
func ask(ctx context.Context, client *http.Client, key []byte, address string) (answer, error) {
	random := make([]byte, nonceBytes)
	_, _ = rand.Read(random) // it never fails
	nonce := hex.EncodeToString(random)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+reportPath, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set(headerNonce, nonce)
	req.Header.Set(headerProof, proof(key, "ask", nonce, nil))
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answer{}, fmt.Errorf("%s answers %s", address, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, reportMost))
	switch {
	case err != nil:
		return answer{}, err
	case len(body) == reportMost:
		return answer{}, fmt.Errorf("the report of %s has more than %d bytes", address, reportMost)
	case !proven(resp.Header.Get(headerProof), proof(key, "report", nonce, body)):
		return answer{}, fmt.Errorf("%s has another token", address)
	}
	var who struct {
		Gateway string `json:"gateway"`
	}
	if err := json.Unmarshal(body, &who); err != nil {
		return answer{}, err
	}
	if who.Gateway == "" {
		return answer{}, errors.New("a report without a name")
	}
	return answer{who.Gateway, body}, nil
}
