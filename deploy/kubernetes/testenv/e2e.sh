#!/usr/bin/env bash
# The tests of a whole cluster: a real control plane with its controllers (build.sh), pods that are processes, and
# sluice in front, in a network namespace of their own. Needs root, kubectl and, the first time, some minutes to build.
#
#   e2e.sh [go test arguments]
set -euo pipefail
cd "$(dirname "$0")"
./build.sh etcd kube-apiserver kube-controller-manager
go mod download # there is no network inside
export SLUICE_TEST_REQUIRE="${SLUICE_TEST_REQUIRE:-} kubernetes-api kubernetes"
exec unshare --net -- bash -c 'ip link set lo up && ip route add local 10.123.0.0/24 dev lo && exec "$@"' - \
	go test -count=1 -timeout 20m -run 'TestCluster' "$@" sluice/deploy/kubernetes
