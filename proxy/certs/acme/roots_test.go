package acme

import (
	"crypto/x509"
	"os"
	"os/exec"
	"testing"
)

// Without roots of the system there are others: a process of its own has none.
func TestRootsWithoutASystem(t *testing.T) {
	if os.Getenv("SLUICE_TEST_ROOTS") == "none" {
		pool, err := x509.SystemCertPool()
		if err != nil || pool.Equal(x509.NewCertPool()) {
			t.Fatalf("no roots: %v", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRootsWithoutASystem$")
	cmd.Env = append(os.Environ(), "SLUICE_TEST_ROOTS=none", "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
