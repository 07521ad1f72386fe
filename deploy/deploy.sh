#!/usr/bin/env bash
# Brings the stack of deploy/stack up on one of three platforms, with sluice before it, and takes it down again:
#
#   PLATFORM=compose|swarm|kubernetes deploy/deploy.sh autoscale    again: what changed in the files
#   PLATFORM=…                        deploy/deploy.sh status
#   PLATFORM=…                        deploy/deploy.sh down         all of it, with the volumes and what is in them
#
# KEEP_DATA=yes makes `down` leave the volumes. PROJECT (sutazai) names the Compose project or Swarm stack; on Kubernetes
# deploy/stack/kustomization.yaml names the namespace. SLUICE_PORT (8080) is the front's on this machine, WAIT (180) how
# many seconds the stack may take to be ready. DOCKER_HOST, COMPOSE ("docker compose") and KUBECONFIG are honoured;
# DOCKER_SOCKET and DOCKER_GID are the path of the engine's socket on its own machine and the group it belongs to.
#
# Images named SERVICE:demo in the stack's files stand in for yours and are built here, without a registry (SLUICE_IMAGE
# and DEMO_TAG name others). Every node of a swarm needs them; so do those of Kubernetes, for which LOAD_IMAGE is the
# command to take one there, such as "kind load docker-image" or "minikube image load".
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stack=$here/stack
# shellcheck source=deploy/stack/platform.sh
. "$stack/platform.sh"

# images builds what stands in for images that the file names.
images() {
	local service said
	if ! docker image inspect "$SLUICE_IMAGE" >/dev/null 2>&1; then
		"$here/docker/image.sh" "$SLUICE_IMAGE"
	fi
	for service in "${services[@]}"; do
		if grep -q "image: \"*$service:\(demo\|\${DEMO_TAG\)" "$1"; then
			# Nothing of the folder is needed: it is a small one.
			said=$(docker build -q --build-arg "SLUICE_IMAGE=$SLUICE_IMAGE" --target "$service" -t "$service:$DEMO_TAG" -f "$stack/Dockerfile" "$stack/get" 2>&1) || die "$said"
		fi
	done
}

up_compose() {
	images "$stack/compose.yaml"
	socket
	# Without --scale Compose would take away what sluice has added.
	local scale=() service n
	for service in "${services[@]}"; do
		n=$(replicas "$service")
		[ "$n" -lt 2 ] || scale+=(--scale "$service=$n")
	done
	compose up -d ${scale[@]+"${scale[@]}"}
}

up_swarm() {
	[ "$(docker info --format '{{.Swarm.ControlAvailable}}')" = true ] || die "the engine is no Swarm manager: docker swarm init"
	images "$stack/swarm.yml"
	socket
	# A config never changes: a new content needs a new name.
	SLUICE_CONFIG_NAME=$project-config-$(cksum <"$stack/config.toml" | cut -d ' ' -f 1)
	export SLUICE_CONFIG_NAME
	docker stack deploy --resolve-image never -c "$stack/swarm.yml" "$project"
}

up_kubernetes() {
	if [ -n "${LOAD_IMAGE:-}" ]; then
		images "$stack/kubernetes/services.yaml"
		local image
		for image in "$SLUICE_IMAGE" "${services[@]/%/:$DEMO_TAG}"; do
			docker image inspect "$image" >/dev/null 2>&1 || continue
			$LOAD_IMAGE "$image"
		done
	fi
	kubectl apply -k "$stack"
	if kubectl get crd servicemonitors.monitoring.coreos.com >/dev/null 2>&1; then
		kubectl -n "$namespace" apply -f "$stack/kubernetes/monitoring/servicemonitor.yaml"
	fi
}

down_compose() {
	export DOCKER_GID=${DOCKER_GID:-0} # nothing is started
	local ours=label=com.docker.compose.project=$project
	# What Compose did not see or could not take away yet, as a clone that was being made, follows it; what somebody is
	# already removing, as sluice a replica that it stopped in its last moment, is waited for.
	compose down --remove-orphans || echo 'taking away the rest' >&2
	within 60 'the containers of the project do not go' swept "$ours"
	[ "$keep" = yes ] || within 30 'the volumes of the project do not go' gone volume "$ours"
	within 30 'the network of the project does not go' gone network "$ours"
}

# swept takes away the containers with a label, and fails while one of them is being removed by somebody else.
swept() { docker ps -aq --filter "$1" | xargs -r docker rm -f -v >/dev/null 2>&1; }

# gone takes away the networks or volumes with a label; the engine may need a moment until nothing uses them.
gone() { docker "$1" ls -q --filter "$2" | xargs -r docker "$1" rm >/dev/null 2>&1; }

down_swarm() {
	docker stack rm "$project"
	within 120 'the tasks of the stack do not end' empty docker ps -aq --filter "label=com.docker.stack.namespace=$project"
	within 60 'the network of the stack does not go' empty docker network ls -q --filter "label=com.docker.stack.namespace=$project"
	# Volumes are each node's own: those of others stay there.
	[ "$keep" = yes ] || within 30 'the volumes of the stack do not go' gone volume "label=com.docker.stack.namespace=$project"
}

down_kubernetes() {
	if [ "$keep" = yes ]; then
		kubectl kustomize "$stack" | kubectl delete --ignore-not-found -l '!sutazai/data' -f -
	else
		kubectl delete --ignore-not-found -k "$stack"
	fi
}

# ready: sluice answers and every upstream has a server that it uses; on Kubernetes as its probes say.
ready() {
	local status service
	if [ "$platform" = kubernetes ]; then
		for service in sluice "${services[@]}"; do
			kubectl -n "$namespace" rollout status "deployment/$service" --timeout=5s >/dev/null 2>&1 || return 1
		done
		return
	fi
	status=$(in_gateway status --json 2>/dev/null) || return 1
	[ "$(grep -c '"ready": [1-9]' <<<"$status")" -ge ${#services[@]} ]
}

# explain shows why sluice itself does not answer.
explain() {
	case $platform in
	compose) docker ps -aq --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.service=sluice | xargs -r docker logs --tail 20 2>&1 ;;
	swarm)
		docker service ps --no-trunc "${project}_sluice"
		docker service logs --tail 20 "${project}_sluice" 2>&1
		;;
	kubernetes)
		kubectl -n "$namespace" describe pods -l app.kubernetes.io/name=sluice | tail -30
		kubectl -n "$namespace" logs deployment/sluice --tail 20
		;;
	esac
}

# urls says where everything is.
urls() {
	local front
	front=$(front_url)
	echo "front     $front"
	echo "backend   ${front}api"
	echo 'inside    http://backend:8000 http://ollama:11434 http://frontend:8501 http://autogpt:8080 http://crewai:8080 http://chromadb:8000 http://qdrant:6333'
	echo 'metrics   http://sluice:9902/metrics, inside'
	[ "$platform" != kubernetes ] || echo "these are of: kubectl -n $namespace port-forward service/sluice 8080:80"
}

case ${1:-} in
autoscale)
	"up_$platform"
	end=$((SECONDS + WAIT))
	until ready; do
		if [ "$SECONDS" -ge "$end" ]; then
			{ listing; in_gateway status; } >&2 || explain >&2
			die "the stack is not ready within $WAIT s"
		fi
		sleep 0.5
	done
	urls
	;;
status)
	listing
	in_gateway status
	urls
	;;
down)
	"down_$platform"
	;;
*)
	sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
