package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// workshop is a folder with a sluice built from the module, in which gateways are started.
type workshop struct {
	dir    string
	binary string // after build
}

// stopGrace is how long a gateway may take to end in order.
const stopGrace = 40 * time.Second

func newWorkshop() (*workshop, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return nil, err
	}
	return &workshop{dir: dir}, nil
}

func (w *workshop) close() { os.RemoveAll(w.dir) }

// build makes the binary. It needs nothing of the machine, so it also runs in an empty image.
func (w *workshop) build(ctx context.Context, screen io.Writer) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	fmt.Fprintln(screen, "building sluice …")
	w.binary = filepath.Join(w.dir, "sluice")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", w.binary, "./cmd/sluice")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// launch starts a gateway with a configuration file and waits until it is ready. Its log goes to the folder.
func (w *workshop) launch(ctx context.Context, configFile string, s settings) (*gateway, error) {
	g, err := startGateway(w.binary, configFile, w.dir, s)
	if err != nil {
		return nil, err
	}
	if err := g.ready(ctx); err != nil {
		return nil, errors.Join(err, g.stop(stopGrace))
	}
	return g, nil
}

// room is a folder of its own in the workshop, with a copy of the binary: what is left behind is told apart by its path.
func (w *workshop) room(name string) (*workshop, error) {
	r := &workshop{dir: filepath.Join(w.dir, name)}
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return nil, err
	}
	r.binary = filepath.Join(r.dir, "sluice")
	return r, os.Link(w.binary, r.binary)
}

// moduleRoot is the folder with the go.mod of sluice, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		b, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module sluice\n") {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside the module sluice", dir)
		}
	}
}
