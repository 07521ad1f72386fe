#!/usr/bin/env bash
# Ends what start.sh started, by the pids in FOLDER, which is removed.
#
#   stop.sh FOLDER
set -euo pipefail
cd "$1"
for name in watch kube-controller-manager kube-apiserver etcd; do
	[ -e "$name.pid" ] || continue
	pid=$(cat "$name.pid")
	[ "$pid" != "$$" ] || continue
	kill -CONT "$pid" 2>/dev/null || true
	kill "$pid" 2>/dev/null || continue
	for _ in $(seq 50); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$pid" 2>/dev/null || true
done
folder=$PWD
cd /
rm -rf "$folder"
