# What deploy.sh and test-autoscaler.sh ask of the platforms; they source it.
# shellcheck shell=bash disable=SC2034 # used there

platform=${PLATFORM:-compose}
project=${PROJECT:-sutazai}
namespace=sutazai
keep=${KEEP_DATA:-no}
services=(sutazai-backend sutazai-ollama sutazai-frontend sutazai-autogpt sutazai-crewai sutazai-chromadb sutazai-qdrant)
export SLUICE_IMAGE=${SLUICE_IMAGE:-sluice:latest} DEMO_TAG=${DEMO_TAG:-demo} SLUICE_PORT=${SLUICE_PORT:-8080} WAIT=${WAIT:-180}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

case $platform in
compose | swarm | kubernetes) ;;
*) die "PLATFORM is compose, swarm or kubernetes, not $platform" ;;
esac

# within SECONDS WORDS COMMAND...: the command must succeed in that time.
within() {
	local end=$((SECONDS + $1)) words=$2
	shift 2
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || die "$words"
		sleep 0.5
	done
}

empty() { [ -z "$("$@")" ]; }

# compose runs Compose, version 2 where docker has it.
compose() {
	if [ -z "${COMPOSE:-}" ]; then
		COMPOSE=docker-compose
		! docker compose version >/dev/null 2>&1 || COMPOSE='docker compose'
	fi
	$COMPOSE -f "$stack/compose.yaml" -p "$project" "$@"
}

# socket sets how sluice reaches the engine from its container.
socket() {
	case ${DOCKER_HOST:-} in
	unix://*) DOCKER_SOCKET=${DOCKER_SOCKET:-${DOCKER_HOST#unix://}} ;;
	esac
	export DOCKER_SOCKET=${DOCKER_SOCKET:-/var/run/docker.sock}
	if [ -z "${DOCKER_GID:-}" ]; then
		DOCKER_GID=$(stat -L -c %g "$DOCKER_SOCKET" 2>/dev/null || stat -L -f %g "$DOCKER_SOCKET" 2>/dev/null) ||
			die "$DOCKER_SOCKET is not on this machine: say its group there in DOCKER_GID"
	fi
	export DOCKER_GID
}

# gateway is the ID of sluice's container.
gateway() {
	case $platform in
	compose) docker ps -q --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.service=sluice ;;
	swarm) docker ps -q --filter "label=com.docker.swarm.service.name=${project}_sluice" ;;
	esac | head -1
}

# in_gateway runs a sluice command beside the running one.
in_gateway() {
	local id
	if [ "$platform" = kubernetes ]; then
		kubectl -n "$namespace" exec deployment/sluice -- /sluice "$@"
		return
	fi
	id=$(gateway)
	if [ -z "$id" ]; then
		echo 'sluice does not run on this node' >&2
		return 1
	fi
	docker exec "$id" /sluice "$@"
}

# replicas is how many of a service the platform itself says are asked for, on Compose how many run.
replicas() {
	case $platform in
	compose) docker ps -q --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1" | wc -l ;;
	swarm) docker service inspect --format '{{.Spec.Mode.Replicated.Replicas}}' "${project}_$1" ;;
	kubernetes) kubectl -n "$namespace" get deployment "$1" -o 'jsonpath={.spec.replicas}' ;;
	esac
}

# listing is the platform's own view.
listing() {
	case $platform in
	compose) docker ps --filter "label=com.docker.compose.project=$project" --format 'table {{.Names}}\t{{.Image}}\t{{.Status}}' ;;
	swarm) docker stack services "$project" ;;
	kubernetes) kubectl -n "$namespace" get deployments ;;
	esac
}

# front_url is where callers from outside come in.
front_url() {
	local port=$SLUICE_PORT
	if [ "$platform" = compose ] && [ -n "$(gateway)" ]; then
		port=$(docker port "$(gateway)" 8888/tcp | head -1 | sed 's/.*://')
	fi
	[ "$platform" != kubernetes ] || port=8080
	echo "http://127.0.0.1:$port/"
}
