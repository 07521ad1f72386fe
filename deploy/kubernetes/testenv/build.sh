#!/usr/bin/env bash
# Builds a real Kubernetes control plane from the Go module proxy, for the tests: etcd and kube-apiserver, static,
# one after the other. What was built already stays; a cold build takes some 10 minutes of two cores.
#
#   build.sh [PROGRAM...]        default: etcd kube-apiserver; also kube-controller-manager, kube-scheduler
#
# KUBERNETES_VERSION (v1.37.2), ETCD_VERSION (v3.7.3) and GO (go) may be set. The programs go
# to $SLUICE_KUBERNETES_BIN, default ${XDG_CACHE_HOME:-~/.cache}/sluice/kubernetes/$KUBERNETES_VERSION, where the
# tests look for them too.
set -euo pipefail
version=${KUBERNETES_VERSION:-v1.37.2}
etcd=${ETCD_VERSION:-v3.7.3}
go=${GO:-go}
bin=${SLUICE_KUBERNETES_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/kubernetes/$version}
[ $# -gt 0 ] || set -- etcd kube-apiserver

missing=()
for program in "$@"; do [ -x "$bin/$program" ] || missing+=("$program"); done
if [ ${#missing[@]} -eq 0 ]; then
	echo "$bin has $*"
	exit 0
fi
mkdir -p "$bin"
module=$(mktemp -d)
trap 'rm -rf "$module"' EXIT
cd "$module"

# k8s.io/kubernetes is no module that others can require as it stands: its go.mod replaces every k8s.io module by a
# folder of its own tree. The same versions of those are published, with v0 in place of v1.
required=$("$go" mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
{
	echo "module sluice.test/kubernetes"
	grep '^go ' "$required"
	echo "require k8s.io/kubernetes $version"
	echo "require go.etcd.io/etcd/server/v3 $etcd"
	echo "tool ("
	for program in "${missing[@]}"; do
		case $program in
		etcd) echo "	go.etcd.io/etcd/server/v3" ;;
		*) echo "	k8s.io/kubernetes/cmd/$program" ;;
		esac
	done
	echo ")"
	echo "replace ("
	sed -n "s#^\s*\(k8s.io/[a-z-]*\) => ./staging/.*#\t\1 => \1 v0${version#v1}#p" "$required"
	echo ")"
} >go.mod
"$go" mod tidy

# Without a version the server refuses to start: it compares it with that of its feature gates.
stamp=k8s.io/component-base/version
minor=${version#v1.}
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*} -X $stamp.gitTreeState=clean -X $stamp.buildDate=1970-01-01T00:00:00Z"
for program in "${missing[@]}"; do
	case $program in
	etcd) package=go.etcd.io/etcd/server/v3 ;;
	*) package=k8s.io/kubernetes/cmd/$program ;;
	esac
	CGO_ENABLED=0 GOFLAGS=-buildvcs=false "$go" build -trimpath -ldflags "$flags" -o "$bin/$program.new" "$package"
	mv "$bin/$program.new" "$bin/$program"
	echo "built $bin/$program"
done
