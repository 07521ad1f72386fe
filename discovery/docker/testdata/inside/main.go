// Inside runs a source in a container, for the tests: it prints what OwnProject says and the first
// set and notes of the query, as JSON, and ends.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/discovery/docker"
)

func main() {
	service := flag.String("service", "", "service to find in the own project")
	port := flag.Int("port", 8000, "port")
	flag.Parse()
	if err := run(*service, *port); err != nil {
		slog.Error("inside", "error", err)
		os.Exit(1)
	}
}

func run(service string, port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cli, err := docker.NewClient("")
	if err != nil {
		return err
	}
	var out struct {
		Project string
		Inside  bool
		Servers []balancer.ServerSpec
		Notes   []discovery.Note
	}
	if out.Project, out.Inside, err = docker.OwnProject(ctx, cli); err != nil {
		return err
	}
	source := docker.NewSource(cli, docker.Query{Project: out.Project, Service: service, Port: port}, slog.Default())
	sets := make(chan []balancer.ServerSpec)
	go source.Run(ctx, sets)
	select {
	case out.Servers = <-sets:
	case <-ctx.Done():
		return ctx.Err()
	}
	out.Notes = source.Notes()
	return json.NewEncoder(os.Stdout).Encode(out)
}
