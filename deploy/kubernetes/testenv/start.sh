#!/usr/bin/env bash
# Starts a real Kubernetes API server on 127.0.0.1 (etcd + kube-apiserver, no nodes), from programs that build.sh
# built; with CONTROLLERS=1 also the controllers that make pods and endpoints (kube-controller-manager). Called again with the same folder it starts what does not run any more, with the same data.
#
#   start.sh FOLDER              then: export KUBECONFIG=FOLDER/kubeconfig
#   stop.sh FOLDER
#
# PORT (16443), ETCD_PORT (12379), ETCD_PEER_PORT (12380) and SLUICE_KUBERNETES_BIN may be set. With OWNER_PID all ends
# when that process is gone. Everything lies in FOLDER: NAME.pid, NAME.log, kubeconfig (of an administrator),
# front.crt and front.key (what the API server shows to aggregated ones).
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
bin=${SLUICE_KUBERNETES_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/kubernetes/${KUBERNETES_VERSION:-v1.37.2}}
here=$(cd "$(dirname "$0")" && pwd)
cd "$folder"
umask 077

if [ ! -e ports ]; then
	echo "port=${PORT:-16443} etcd=${ETCD_PORT:-12379} peer=${ETCD_PEER_PORT:-12380}" >ports
fi
# shellcheck disable=SC1091 # written above
. ./ports

if [ ! -e kubeconfig ]; then
	openssl genrsa -out sa.key 2048 2>/dev/null
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=sluice-test 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout api.key -out api.csr -subj /CN=kube-apiserver 2>/dev/null
	openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out api.crt -days 30 2>/dev/null \
		-extfile <(printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n')
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout front-ca.key -out front-ca.crt -days 30 -subj /CN=sluice-test-front 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout front.key -out front.csr -subj /CN=front-proxy-client 2>/dev/null
	openssl x509 -req -in front.csr -CA front-ca.crt -CAkey front-ca.key -CAcreateserial -out front.crt -days 30 2>/dev/null \
		-extfile <(printf 'extendedKeyUsage=clientAuth\n')
	token=$(openssl rand -hex 16)
	echo "$token,admin,admin,system:masters" >tokens.csv
	cat >kubeconfig.new <<-END
		apiVersion: v1
		kind: Config
		clusters: [{name: test, cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$folder/ca.crt"}}]
		users: [{name: admin, user: {token: $token}}]
		contexts: [{name: test, context: {cluster: test, user: admin}}]
		current-context: test
	END
	mv kubeconfig.new kubeconfig
fi

runs() { [ -e "$1.pid" ] && kill -0 "$(cat "$1.pid")" 2>/dev/null; }
run() {
	local name=$1
	shift
	runs "$name" && return
	setsid "$bin/$name" "$@" >>"$name.log" 2>&1 </dev/null &
	echo $! >"$name.pid"
}
# Aggregated API servers are called by their endpoints where there are controllers that keep them, as there is no
# kube-proxy; else by the name in a Service of the type ExternalName.
routing=false
[ -z "${CONTROLLERS:-}" ] || routing=true
run etcd --data-dir data --unsafe-no-fsync --log-level warn \
	--listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
	--listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
	--initial-cluster "default=http://127.0.0.1:$peer"
run kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 --secure-port "$port" \
	--advertise-address 127.0.0.1 --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/16,fd00:96::/112 \
	--tls-cert-file api.crt --tls-private-key-file api.key --client-ca-file ca.crt --authorization-mode RBAC \
	--token-auth-file tokens.csv --service-account-issuer https://kubernetes.default.svc \
	--service-account-key-file sa.key --service-account-signing-key-file sa.key --disable-admission-plugins ServiceAccount \
	--requestheader-client-ca-file front-ca.crt --requestheader-allowed-names front-proxy-client --requestheader-username-headers X-Remote-User \
	--requestheader-group-headers X-Remote-Group --requestheader-extra-headers-prefix X-Remote-Extra- \
	--proxy-client-cert-file front.crt --proxy-client-key-file front.key --enable-aggregator-routing="$routing"

controllers() {
	[ -n "${CONTROLLERS:-}" ] || return 0
	# Nobody asks it anything, and a port next to a free one may be taken.
	run kube-controller-manager --kubeconfig kubeconfig --leader-elect=false --secure-port 0 \
		--horizontal-pod-autoscaler-sync-period 2s \
		--controllers deployment-controller,replicaset-controller,statefulset-controller,endpointslice-controller,horizontal-pod-autoscaler-controller,disruption-controller,namespace-controller,persistentvolumeclaim-protection-controller
}

if [ -n "${OWNER_PID:-}" ] && ! runs watch; then
	setsid bash -c 'while kill -0 "$1" 2>/dev/null; do sleep 1; done; exec "$2/stop.sh" "$3"' watch "$OWNER_PID" "$here" "$folder" >/dev/null 2>&1 </dev/null &
	echo $! >watch.pid
fi

for _ in $(seq 600); do
	[ "$(curl -s --cacert ca.crt -H "Authorization: Bearer $(cut -d, -f1 tokens.csv)" "https://127.0.0.1:$port/readyz" || true)" = ok ] && controllers && exit 0
	for name in etcd kube-apiserver; do
		runs "$name" || {
			echo "$name ended:" >&2
			tail -5 "$name.log" >&2
			exit 1
		}
	done
	sleep 0.1
done
echo "the API server is not ready within 60 s" >&2
exit 1
