#!/bin/sh
# Builds the container image from the source tree: a static binary, FROM scratch, so that neither a registry
# nor a network is needed. Then notes the group of the engine's socket for compose.yaml, in .env beside it.
#
#   deploy/docker/image.sh [TAG]          default: sluice:latest
#
# GO (go), VERSION (git describe) and DOCKER_SOCKET (/var/run/docker.sock) may be set.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
tag=${1:-sluice:latest}
go=${GO:-go}
version=${VERSION:-$(git -C "$root" describe --tags --always --dirty 2>/dev/null || echo dev)}
socket=${DOCKER_SOCKET:-/var/run/docker.sock}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cd "$root"
CGO_ENABLED=0 GOOS=linux "$go" build -trimpath -ldflags "-s -w -X main.version=$version" -o "$context/sluice" ./cmd/sluice
docker build -q -t "$tag" -f "$here/Dockerfile" "$context"

if [ ! -e "$here/.env" ]; then
	gid=$(stat -L -c %g "$socket" 2>/dev/null || stat -L -f %g "$socket" 2>/dev/null || echo 0)
	printf 'COMPOSE_PROJECT_NAME=sluice\nDOCKER_GID=%s\n' "$gid" >"$here/.env"
	echo "wrote $here/.env: the socket's group is $gid"
fi
