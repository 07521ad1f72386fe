package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"sluice/scaler"
)

// run names all that one run of these tests makes on the engine.
var run = "sluice-test-drv-" + randomHex()

// testLabel is on everything that the tests make themselves; what the driver makes bears the test's owner.
const testLabel = "sluice-test-drv"

var testImage = sync.OnceValues(buildImage)

func TestMain(m *testing.M) {
	code := m.Run()
	if cli, err := newClient(""); err == nil {
		_, _ = cli.ImageRemove(context.Background(), run, image.RemoveOptions{Force: true, PruneChildren: true})
	}
	os.Exit(code)
}

func randomHex() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// newClient is as cmd makes it.
func newClient(host string) (*client.Client, error) {
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	return client.NewClientWithOpts(opts...)
}

// realEngine returns a client of the engine of this machine, with the test image on it.
func realEngine(t *testing.T) *client.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("a real engine takes its time")
	}
	cli, err := newClient("")
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err = cli.Ping(ctx); err == nil {
			cli.NegotiateAPIVersion(ctx) // tests share it
		}
	}
	if err != nil {
		absent(t, "no Docker Engine: %v", err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	if _, err := testImage(); err != nil {
		t.Fatal(err)
	}
	return cli
}

// absent skips the test, or fails it where the engine is required.
func absent(t *testing.T, format string, args ...any) {
	t.Helper()
	if strings.Contains(os.Getenv("SLUICE_TEST_REQUIRE"), "docker") {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// buildImage puts the server of testdata into an image of its own, from nothing.
func buildImage() (string, error) {
	dir, err := os.MkdirTemp("", run)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "server")
	cmd := exec.Command("go", "build", "-o", binary, "./testdata/server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the test server: %w: %s", err, out)
	}
	return run, putImage(run, binary, "1")
}

// putImage builds an image with a label of its own, so that two versions have two ids.
func putImage(tag, binary, version string) error {
	body, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	file := "FROM scratch\nCOPY server /server\nEXPOSE 8000\nLABEL version=" + version + "\nENTRYPOINT [\"/server\"]\n"
	for name, b := range map[string][]byte{"server": body, "Dockerfile": []byte(file)} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	cli, err := newClient("")
	if err != nil {
		return err
	}
	defer cli.Close()
	res, err := cli.ImageBuild(context.Background(), &buf, build.ImageBuildOptions{Tags: []string{tag}, Labels: map[string]string{testLabel: run}, Remove: true, ForceRemove: true})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err == nil && bytes.Contains(out, []byte(`"error"`)) {
		err = fmt.Errorf("building the image: %s", out)
	}
	return err
}

// bench is one test's corner of the engine.
type bench struct {
	*testing.T
	cli   *client.Client
	owner string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel() // each has its corner, and most of the time goes by in the engine
	b := &bench{T: t, cli: realEngine(t), owner: "test-drv-" + randomHex()}
	t.Cleanup(func() {
		for _, label := range []string{LabelOwner + "=" + b.owner, testLabel + "=" + b.owner} {
			b.wipe(label)
		}
	})
	return b
}

// wipe removes every container of a label.
func (b *bench) wipe(label string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := b.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		b.Errorf("cleaning up: %v", err)
	}
	for _, c := range list {
		if err := b.cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}); err != nil {
			b.Logf("cleaning up: %v", err)
		}
	}
}

func (b *bench) network(suffix string) string {
	b.Helper()
	name := "sluice-" + b.owner + "-" + suffix
	if _, err := b.cli.NetworkCreate(b.Context(), name, network.CreateOptions{Labels: map[string]string{testLabel: b.owner}}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		b.wipe(LabelOwner + "=" + b.owner)
		if err := b.cli.NetworkRemove(context.Background(), name); err != nil {
			b.Errorf("cleaning up: %v", err)
		}
	})
	return name
}

// options of an upstream "api" of the test image.
func (b *bench) options() Options {
	return Options{Owner: b.owner, Upstream: "api", Max: 5, Log: slog.New(slog.NewTextHandler(b.Output(), nil)),
		Container: &scaler.ContainerConfig{Image: run, StopGrace: 5 * time.Second}}
}

func (b *bench) driver(o Options) *Driver {
	d := New(b.cli, o)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			b.Error(err)
		}
	})
	return d
}

func (b *bench) scale(d *Driver, n int, victims ...string) {
	b.Helper()
	if err := d.Scale(b.Context(), n, victims); err != nil {
		b.Fatalf("Scale(%d): %v", n, err)
	}
}

// list is what the driver lists, by ordinal.
func (b *bench) list(d *Driver) []scaler.Replica {
	b.Helper()
	rs, err := d.List(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	slices.SortFunc(rs, func(x, y scaler.Replica) int { return x.Index - y.Index })
	return rs
}

// settle waits for the stops under way.
func (b *bench) settle(d *Driver) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := d.Close(ctx); err != nil {
		b.Fatal(err)
	}
}

// names lists what the engine has under the test's owner, running or not.
func (b *bench) names() []string {
	b.Helper()
	list, err := b.cli.ContainerList(b.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", LabelOwner+"="+b.owner))})
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, nameOf(c.Names)+" "+c.State)
	}
	slices.Sort(names)
	return names
}

func (b *bench) wantNames(want ...string) {
	b.Helper()
	for i, w := range want {
		want[i] = strings.Replace(w, "N-", "sluice-"+b.owner+"-api-", 1)
	}
	if got := b.names(); !slices.Equal(got, want) {
		b.Fatalf("the engine has %v, want %v", got, want)
	}
}

// stranger makes a container that the driver has no business with.
func (b *bench) stranger(name string, labels map[string]string, start bool) string {
	b.Helper()
	all := map[string]string{testLabel: b.owner}
	for k, v := range labels {
		all[k] = v
	}
	c, err := b.cli.ContainerCreate(b.Context(), &container.Config{Image: run, Labels: all}, nil, nil, nil, name)
	if err != nil {
		b.Fatal(err)
	}
	if start {
		if err := b.cli.ContainerStart(b.Context(), c.ID, container.StartOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	return c.ID
}

func (b *bench) state(id string) string {
	b.Helper()
	c, err := b.cli.ContainerInspect(b.Context(), id)
	if err != nil {
		return "gone"
	}
	return c.State.Status
}
