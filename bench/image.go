package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// docker runs the engine's own client program.
func docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildImage makes an image with nothing but the binary in it, under a name that nobody else has.
func buildImage(ctx context.Context, binary string) (name string, err error) {
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	name = "sluice-bench-" + hex.EncodeToString(id)
	dir := filepath.Join(filepath.Dir(binary), "image")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	file := "FROM scratch\nCOPY sluice /sluice\nENTRYPOINT [\"/sluice\"]\n"
	if err := errors.Join(os.Link(binary, filepath.Join(dir, "sluice")), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o644)); err != nil {
		return "", err
	}
	_, err = docker(ctx, "build", "-q", "-t", name, dir)
	return name, err
}

// removeImage removes what buildImage made.
func removeImage(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := docker(ctx, "rmi", "-f", name)
	return err
}

// removeContainers removes the replicas that a gateway has left, as it always does: they are for the next one.
func removeContainers(owner string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ids, err := docker(ctx, "ps", "-aq", "--filter", "label=sluice.owner="+owner)
	if err != nil || ids == "" {
		return err
	}
	_, err = docker(ctx, append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	return err
}
