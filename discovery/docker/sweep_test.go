package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	dockernet "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
)

// run names what this run of the tests puts on the engine; all of it bears the label runLabel=run
// and is removed in the end, whatever happened.
var run = "sluice-test-disc-" + strings.ToLower(rand.Text()[:10])

const runLabel = "sluice-test-disc"

func TestMain(m *testing.M) {
	code := m.Run()
	if tried.Load() {
		if err := sweep(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot clean up:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// sweep removes all that this run made.
func sweep() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cli, err := NewClient("")
	if err != nil {
		return err
	}
	defer cli.Close()
	ours := filters.NewArgs(filters.Arg("label", runLabel+"="+run))
	var errs []error
	cs, err := cli.ContainerList(ctx, container.ListOptions{All: true, Filters: ours})
	errs = append(errs, err)
	for _, c := range cs {
		errs = append(errs, gone(cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true})))
	}
	networks, err := cli.NetworkList(ctx, dockernet.ListOptions{Filters: ours})
	errs = append(errs, err)
	for _, n := range networks {
		errs = append(errs, gone(cli.NetworkRemove(ctx, n.ID)))
	}
	images, err := cli.ImageList(ctx, image.ListOptions{All: true, Filters: ours})
	errs = append(errs, err)
	for _, i := range images {
		_, err := cli.ImageRemove(ctx, i.ID, image.RemoveOptions{Force: true, PruneChildren: true})
		errs = append(errs, gone(err))
	}
	return errors.Join(errs...)
}

// gone makes it no error to remove what is not there.
func gone(err error) error {
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}

var (
	tried  atomic.Bool // something may have been put on the engine
	images sync.Map    // by program: func() (string, error)
)

// engine returns a client of the engine on this machine, or skips the test when there is none.
func engine(t *testing.T) *client.Client {
	t.Helper()
	cli, err := NewClient("")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := cli.Ping(ctx); err != nil {
		cli.Close()
		if strings.Contains(os.Getenv("SLUICE_TEST_REQUIRE"), "docker") {
			t.Fatalf("no Docker Engine, and SLUICE_TEST_REQUIRE asks for one: %v", err)
		}
		t.Skipf("no Docker Engine: %v", err)
	}
	t.Cleanup(func() { cli.Close() })
	tried.Store(true)
	return cli
}

// imageOf builds an image from scratch with the program in testdata, once per run.
func imageOf(t *testing.T, cli *client.Client, program string) string {
	t.Helper()
	made, _ := images.LoadOrStore(program, sync.OnceValues(func() (string, error) { return buildImage(cli, program) }))
	name, err := made.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func buildImage(cli *client.Client, program string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", run)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./testdata/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	var tarball bytes.Buffer
	tw := tar.NewWriter(&tarball)
	for _, f := range []struct {
		name string
		mode int64
		body []byte
	}{{"Dockerfile", 0o644, []byte("FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n")}, {"program", 0o755, content}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body))}); err != nil {
			return "", err
		}
		if _, err := tw.Write(f.body); err != nil {
			return "", err
		}
	}
	if err := tw.Close(); err != nil {
		return "", err
	}
	name := run + "-" + program + ":latest"
	built, err := cli.ImageBuild(ctx, &tarball, build.ImageBuildOptions{Tags: []string{name}, Labels: map[string]string{runLabel: run}, Remove: true, ForceRemove: true})
	if err != nil {
		return "", err
	}
	defer built.Body.Close()
	out, err := io.ReadAll(built.Body)
	if err == nil && bytes.Contains(out, []byte(`"error"`)) {
		err = fmt.Errorf("build image: %s", out)
	}
	return name, err
}
