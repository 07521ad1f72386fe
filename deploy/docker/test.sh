#!/usr/bin/env bash
# Runs a Compose file as a user would, in a project of its own: up, load, the replicas rise to meet the queue and
# fall after it, nothing is lost, down leaves nothing behind. Needs the image (make image), Go and Compose.
#
#   deploy/docker/test.sh [FILE]          default: compose.yaml; COMPOSE="docker compose" for version 2
set -euo pipefail
cd "$(dirname "$0")/../.."
read -r -a compose <<<"${COMPOSE:-docker-compose}"
file=deploy/docker/${1:-compose.yaml}
project=sluice-test-$$-$RANDOM
export SLUICE_PORT=0 COMPOSE_PROJECT_NAME=$project
socket=${DOCKER_SOCKET:-/var/run/docker.sock}
DOCKER_GID=${DOCKER_GID:-$(stat -L -c %g "$socket")}
export DOCKER_GID
work=$(mktemp -d)

dc() { "${compose[@]}" -f "$file" -p "$project" "$@"; }
ours() { docker ps -a -q --filter "label=com.docker.compose.project=$project" "$@"; }
replicas() { ours --filter label=com.docker.compose.service=api --filter status=running | wc -l; }
fail() {
	echo "FAIL: $*" >&2
	dc ps >&2 || true
	local id
	for id in $(ours --filter label=com.docker.compose.service=sluice) $(ours --filter label=com.docker.compose.service=scaler); do
		docker logs --tail 40 "$id" >&2 || true
	done
	exit 1
}
clean() {
	[ -z "${load:-}" ] || kill "$load" 2>/dev/null || true
	dc down -v -t 5 >/dev/null 2>&1 || true
	# shellcheck disable=SC2046 # ids hold no blanks
	[ -z "$(ours)" ] || docker rm -f -v $(ours) >/dev/null
	docker network rm "${project}_backend" >/dev/null 2>&1 || true
	docker volume rm "${project}_scaler" >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean EXIT

# within SECONDS WORDS COMMAND...: the command must succeed in that time.
within() {
	local end=$((SECONDS + $1)) words=$2
	shift 2
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || fail "$words"
		sleep 0.5
	done
}
healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$gateway")" = healthy ]; }
at_least() { [ "$(replicas)" -ge "$1" ]; }
exactly() { [ "$(replicas)" -eq "$1" ]; }

go build -o "$work/bench" ./bench
dc up -d
gateway=$(ours --filter label=com.docker.compose.service=sluice)
within 60 'the gateway is not healthy within 60 s' healthy
url=http://127.0.0.1:$(dc port sluice 8080 | sed 's/.*://')/
within 30 'no answer through the gateway within 30 s' curl -fsS -o /dev/null "$url"
echo "serving at $url with $(replicas) replica"

if [ "$file" = deploy/docker/compose.apart.yaml ]; then
	[[ $(docker inspect -f '{{range .Mounts}}{{.Source}} {{end}}' "$gateway") != *"$(basename "$socket")"* ]] || fail 'the gateway has the socket of the engine'
	scaler=$(ours --filter label=com.docker.compose.service=scaler)
	[ "$(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$scaler")" = 'none ' ] || fail 'the scaler is on a network'
	echo 'the gateway has no socket of the engine, the scaler no network'
fi

"$work/bench" load --concurrency 40 --duration 30s --json "$url" >"$work/load.json" 2>"$work/load.err" &
load=$!
within 30 'under load the replicas do not rise to 3 within 30 s' at_least 3
echo "under load: $(replicas) replicas"
wait "$load" || fail "the load generator failed: $(cat "$work/load.err")"
load=
[ "$(replicas)" -le 5 ] || fail "more replicas than max: $(replicas)"
count() { grep -o "\"$1\": *[0-9]*" "$work/load.json" | head -1 | grep -o '[0-9]*$'; }
echo "sent $(count sent), ok $(count ok), refused $(count refused), failed $(count failed)"
[ "$(count ok)" -gt 0 ] && [ "$(count failed)" -eq 0 ] && [ "$(count sent)" -eq $(($(count ok) + $(count refused))) ] ||
	fail "requests were lost: $(cat "$work/load.json")"
[[ $(dc ps) == *api* ]] || fail 'Compose does not show the service'
dc logs api >/dev/null || fail 'Compose does not show the logs of the replicas'

within 120 'the replicas do not fall back to 1 within 120 s of the load' exactly 1
curl -fsS -o /dev/null "$url" || fail 'no answer after scaling down'
echo 'after it: 1 replica'

dc down -v -t 10
[ -z "$(ours)" ] || fail 'down left containers behind'
! docker volume inspect "${project}_scaler" >/dev/null 2>&1 || fail 'down left the volume behind'
! docker network inspect "${project}_backend" >/dev/null 2>&1 || fail 'down left the network behind'
echo 'PASS'
