#!/usr/bin/env bash
# Drives load through the stack that deploy.sh brought up, at the backend from outside and at ollama from inside, and
# checks that both scale out and in again, that nothing is lost and that the metrics are there. Needs Go.
#
#   PLATFORM=compose|swarm|kubernetes deploy/test-autoscaler.sh
#
# The variables are those of deploy.sh, and DURATION (25s) of the load, RATE (80) of the backend's requests a second,
# CONCURRENCY (16) of ollama's. On Kubernetes kubectl forwards ports, unless FRONT_URL, INSIDE_URL (of ollama) and
# METRICS_URL say where sluice is to be reached from here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stack=$here/stack
# shellcheck source=deploy/stack/platform.sh
. "$stack/platform.sh"

work=$(mktemp -d)
caller=$project-caller-$$
children=()
clean() {
	[ ${#children[@]} -eq 0 ] || kill "${children[@]}" 2>/dev/null || true
	[ "$platform" = kubernetes ] || docker ps -aq --filter "name=^/$caller" | xargs -r docker rm -f >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap clean EXIT
trap 'exit 1' INT TERM

fail() {
	echo "FAIL: $*" >&2
	{ listing; in_gateway status; } >&2 || true
	exit 1
}

# inside NAME PROGRAM ARGUMENTS...: runs a program in the stack's network; the image it is copied into has none.
inside() {
	local name=$caller-$1 program=$2
	shift 2
	docker create --name "$name" --network "${project}_app" --entrypoint /program "$SLUICE_IMAGE" "$@" >/dev/null
	docker cp -q "$work/$program" "$name:/program" 2>/dev/null || docker cp "$work/$program" "$name:/program" >/dev/null
	docker start -a "$name"
}

# forward SERVICE PORT: prints where kubectl has made it reachable.
forward() {
	kubectl -n "$namespace" port-forward "service/$1" ":$2" >"$work/forward-$1-$2" 2>&1 &
	children+=($!)
	within 30 "kubectl forwards nothing to $1" grep -q '^Forwarding from 127' "$work/forward-$1-$2"
	url=http://127.0.0.1:$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$work/forward-$1-$2" | head -1)
}

# bound SERVICE KEY: a number of its scale table.
bound() { awk -v table="[upstream.$1.scale]" -v key="$2" '$0 == table {on = 1; next} /^\[/ {on = 0} on && $1 == key {print $3}' "$stack/config.toml"; }

# from_outside and from_inside print the ledger of a load, metrics what Prometheus would read.
from_outside() { "$work/bench" load --quiet --json --rate "${RATE:-80}" --duration "${DURATION:-25s}" "${front}api/work"; }
from_inside() {
	local arguments=(load --quiet --json --concurrency "${CONCURRENCY:-16}" --timeout 5m --duration "${DURATION:-25s}")
	if [ "$platform" = kubernetes ]; then
		"$work/bench" "${arguments[@]}" -H 'Host: ollama' "$ollama/api/generate"
	else
		inside load bench-inside "${arguments[@]}" http://ollama:11434/api/generate
	fi
}
metrics() {
	if [ "$platform" = kubernetes ]; then
		curl -fsS "$metrics_url/metrics"
	else
		inside "metrics-$SECONDS" get http://sluice:9902/metrics
	fi
}

more() { [ "$(replicas sutazai-backend)" -gt "$backend" ] && [ "$(replicas sutazai-ollama)" -gt "$ollamas" ]; }
least() { [ "$(replicas sutazai-backend)" -eq "$backend" ] && [ "$(replicas sutazai-ollama)" -eq "$ollamas" ]; }
count() { sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" "$1" | head -1; }

# ledger FILE: every request was answered or refused with a reason.
ledger() {
	local name
	name=$(basename "$1" .json)
	echo "$name: sent $(count "$1" sent), ok $(count "$1" ok), refused $(count "$1" refused), failed $(count "$1" failed)"
	[ "$(count "$1" ok)" -gt 0 ] && [ "$(count "$1" failed)" -eq 0 ] &&
		[ "$(count "$1" sent)" -eq $(($(count "$1" ok) + $(count "$1" refused))) ] || fail "$name: requests were lost: $(cat "$1")"
}

[ "$platform" = kubernetes ] || [ -n "$(gateway)" ] || die "no $project with sluice runs here: deploy/deploy.sh autoscale"
cd "$here/.."
go build -o "$work/bench" ./bench
front=$(front_url)
if [ "$platform" = kubernetes ]; then
	[ -n "${FRONT_URL:-}" ] || { forward sluice 80 && FRONT_URL=$url/; }
	[ -n "${INSIDE_URL:-}" ] || { forward ollama 11434 && INSIDE_URL=$url; }
	[ -n "${METRICS_URL:-}" ] || { forward sluice 9902 && METRICS_URL=$url; }
	front=${FRONT_URL%/}/ ollama=${INSIDE_URL%/} metrics_url=${METRICS_URL%/}
else
	export CGO_ENABLED=0 GOOS=linux
	GOARCH=$(docker version --format '{{.Server.Arch}}')
	export GOARCH
	go build -o "$work/bench-inside" ./bench
	go build -o "$work/get" ./deploy/stack/get
fi
backend=$(bound sutazai-backend min) ollamas=$(bound sutazai-ollama min)

within "$WAIT" 'the stack is not at its smallest' least
within 30 "no answer at $front" curl -fsS -o /dev/null "${front}api/"
echo "at rest: $backend of sutazai-backend, $ollamas of sutazai-ollama"

from_outside >"$work/backend.json" 2>"$work/backend.err" &
outer=$!
from_inside >"$work/ollama.json" 2>"$work/ollama.err" &
inner=$!
children+=("$outer" "$inner")
end=$((SECONDS + 60))
until more; do
	[ "$SECONDS" -lt "$end" ] || fail 'not scaled out within 60 s of load'
	sleep 0.5
done
wait "$outer" || fail "the load from outside: $(tail -5 "$work/backend.err")"
wait "$inner" || fail "the load from inside: $(tail -5 "$work/ollama.err")"
backends=$(replicas sutazai-backend) models=$(replicas sutazai-ollama)
echo "scaled out: $backends of sutazai-backend, $models of sutazai-ollama"
[ "$backends" -le "$(bound sutazai-backend max)" ] && [ "$models" -le "$(bound sutazai-ollama max)" ] || fail 'more than max'
ledger "$work/backend.json"
ledger "$work/ollama.json"

metrics >"$work/metrics" || fail 'the metrics are not there'
for service in sutazai-backend sutazai-ollama; do
	grep -q "^sluice_scale_decisions_total{.*direction=\"up\".*upstream=\"$service\".*} [1-9]" "$work/metrics" ||
		fail "the metrics know of no step up of $service: $(grep "^sluice_scale.*$service" "$work/metrics")"
done
for service in "${services[@]}"; do
	grep -q "^sluice_upstream_.*upstream=\"$service\"" "$work/metrics" || fail "the metrics know nothing of $service"
done
echo "metrics: $(grep -c '^sluice_' "$work/metrics") series"

end=$((SECONDS + 240))
until least; do
	[ "$SECONDS" -lt "$end" ] || fail 'not scaled in within 240 s of the load'
	sleep 1
done
curl -fsS -o /dev/null "${front}api/" || fail 'no answer after scaling in'
echo "scaled in: $backend of sutazai-backend, $ollamas of sutazai-ollama"
echo PASS
