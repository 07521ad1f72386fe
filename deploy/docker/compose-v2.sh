#!/usr/bin/env bash
# Builds Docker Compose v2 from the Go module proxy, where it is no package: the tests then try clones with both versions.
# What was built stays. Cold it takes some 4 minutes of one core and 67 MB.
#
#   compose-v2.sh                prints the path of the program
#
# COMPOSE_VERSION (v2.40.3) and GO (go) may be set. The program goes to $SLUICE_COMPOSE_V2, default
# ${XDG_CACHE_HOME:-~/.cache}/sluice/compose/$COMPOSE_VERSION/docker-compose, where the tests look for it too.
set -euo pipefail
version=${COMPOSE_VERSION:-v2.40.3}
go=${GO:-go}
program=${SLUICE_COMPOSE_V2:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/compose/$version/docker-compose}
if [ ! -x "$program" ]; then
	mkdir -p "$(dirname "$program")"
	module=$(mktemp -d)
	trap 'rm -rf "$module"' EXIT
	cd "$module"
	# `go install …@version` refuses a module with exclude directives; as a requirement of another it is built all the same.
	cat >go.mod <<-END
		module sluice.test/compose

		go 1.24.9

		require github.com/docker/compose/v2 $version

		tool github.com/docker/compose/v2/cmd
	END
	"$go" mod tidy >&2
	CGO_ENABLED=0 GOFLAGS=-buildvcs=false "$go" build -trimpath -ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$version" \
		-o "$program.new" github.com/docker/compose/v2/cmd
	mv "$program.new" "$program"
fi
echo "$program"
