# sluice: build, check and try. Everything here also runs in .ci/run.
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)

GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: all build image test race lint vet fuzz demo deploy undeploy verify e2e-kubernetes clean

all: lint test

build: ## the binary, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice

image: ## the container image sluice:latest, FROM scratch, and deploy/docker/.env for Compose
	VERSION=$(VERSION) GO=$(GO) deploy/docker/image.sh

test:
	$(GO) test -timeout 20m ./...

race:
	$(GO) test -race -timeout 20m ./...

vet:
	$(GO) vet ./...
	CGO_ENABLED=0 GOOS=darwin $(GO) vet ./...

lint: vet ## the linters at pinned versions, installed into bin/
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	GOBIN=$(CURDIR)/bin $(GO) install $(STATICCHECK)
	GOBIN=$(CURDIR)/bin $(GO) install $(GOLANGCI)
	bin/staticcheck ./...
	bin/golangci-lint run ./...

FUZZTIME ?= 30s
fuzz: ## every fuzz target for FUZZTIME each; the go command sometimes takes the end of that time for a failure
	@found=; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    out=$$($(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg 2>&1) || \
	      { echo "$$out" | grep -q 'context deadline exceeded' && ! echo "$$out" | grep -q 'Failing input'; } || \
	      { echo "$$pkg $$target"; echo "$$out"; found="$$found $$target"; continue; }; \
	    echo "$$pkg $$target: $$(echo "$$out" | grep 'execs:' | tail -1)"; \
	  done; done; [ -z "$$found" ] || { echo "found by$$found"; exit 1; }

demo: ## sluice with the shipped configuration under a load that rises and falls
	$(GO) run ./bench demo

PLATFORM ?= compose
deploy: ## the stack of deploy/stack on PLATFORM=compose, swarm or kubernetes
	PLATFORM=$(PLATFORM) deploy/deploy.sh autoscale

undeploy: ## all of it away again, its volumes too
	PLATFORM=$(PLATFORM) deploy/deploy.sh down

verify: ## load through it: it scales out and in again and loses nothing
	PLATFORM=$(PLATFORM) deploy/test-autoscaler.sh

e2e-kubernetes: ## a real control plane, built on first use, with sluice in front; needs root and kubectl
	deploy/kubernetes/testenv/e2e.sh

clean:
	rm -rf bin
