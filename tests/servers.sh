#!/usr/bin/env bash
# Starts a Kubernetes API server with its etcd, a NATS server and PostgreSQL on loopback, runs a command, and stops them:
#
#   tests/servers.sh COMMAND...
#
# The command finds them by KUBECONFIG (an administrator's), NATS_URL and POSTGRES_URL. PostgreSQL speaks TLS to whoever wants
# it, a second NATS server, at NATS_TLS_URL, to everybody: by a private authority, which SSL_CERT_FILE names. The first three
# servers are built from the Go modules of tests/tools, once for each set of versions; PostgreSQL is Debian's.
set -euo pipefail
tools=$(cd "$(dirname "$0")/tools" && pwd)

build() {
	local key
	key=$(cat "$tools/go.mod" "$tools/go.sum" | sha256sum | cut -c1-16)
	bin=${XDG_CACHE_HOME:-$HOME/.cache}/etl-oauth-e2e/$key
	local package
	for package in go.etcd.io/etcd/server/v3:etcd github.com/nats-io/nats-server/v2:nats-server \
		k8s.io/kubernetes/cmd/kube-apiserver:kube-apiserver; do
		local name=${package##*:}
		[ -x "$bin/$name" ] && continue
		echo "building $name, once" >&2
		mkdir -p "$bin"
		(cd "$tools" && CGO_ENABLED=0 go build -trimpath -ldflags=-s -o "$bin/$name.new" "${package%:*}")
		# By its final name only when it is whole.
		mv "$bin/$name.new" "$bin/$name"
	done
}

postgres_bin() {
	local found
	found=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1) || true
	if [ -z "$found" ]; then
		echo "tests/servers.sh: PostgreSQL is not installed: apt-get install postgresql" >&2
		exit 1
	fi
	dirname "$found"
}

# A port below those that the kernel hands out by itself, where nobody listens.
free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		[[ " ${ports:-} " == *" $port "* ]] && continue
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	ports="${ports:-} $port"
	REPLY=$port
}

wait_until() {
	local what=$1 pid=$2 tries=600
	shift 2
	until "$@" >/dev/null 2>&1; do
		if ! kill -0 "$pid" 2>/dev/null || ((--tries == 0)); then
			echo "tests/servers.sh: $what does not start" >&2
			tail -n 20 "$dir/$what.log" >&2
			exit 1
		fi
		sleep 0.1
	done
}

stop() {
	local pid
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	rm -rf "$dir"
}

# PostgreSQL refuses to run as root; its package brings a user.
as_postgres() {
	if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}

start_etcd() {
	free_port && local client=$REPLY
	free_port && local peer=$REPLY
	etcd=http://127.0.0.1:$client
	"$bin/etcd" --data-dir "$dir/etcd" --log-level error --unsafe-no-fsync \
		--listen-client-urls "$etcd" --advertise-client-urls "$etcd" --listen-peer-urls "http://127.0.0.1:$peer" \
		--initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
		>"$dir/etcd.log" 2>&1 &
	pids+=($!)
	wait_until etcd $! curl -fsS "$etcd/health"
}

start_kubernetes() {
	free_port && local port=$REPLY
	local token
	token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
	echo "$token,admin,admin,system:masters" >"$dir/tokens.csv"
	openssl genrsa -out "$dir/accounts.key" 2048 2>/dev/null
	"$bin/kube-apiserver" --etcd-servers "$etcd" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 \
		--secure-port "$port" --endpoint-reconciler-type none --cert-dir "$dir/kubernetes" --anonymous-auth=false \
		--authorization-mode RBAC --token-auth-file "$dir/tokens.csv" --service-cluster-ip-range 10.0.0.0/24 \
		--service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/accounts.key" \
		--service-account-signing-key-file "$dir/accounts.key" >"$dir/kube-apiserver.log" 2>&1 &
	pids+=($!)
	# The server signs its certificate itself, and leaves the authority beside it in the same file.
	wait_until kube-apiserver $! curl -fsS --cacert "$dir/kubernetes/apiserver.crt" \
		-H "Authorization: Bearer $token" "https://127.0.0.1:$port/readyz"
	export KUBECONFIG=$dir/kubeconfig
	cat >"$KUBECONFIG" <<-EOF
		apiVersion: v1
		kind: Config
		current-context: test
		contexts: [{name: test, context: {cluster: test, user: admin}}]
		clusters: [{name: test, cluster: {server: "https://127.0.0.1:$port", certificate-authority: $dir/kubernetes/apiserver.crt}}]
		users: [{name: admin, user: {token: "$token"}}]
	EOF
}

# An authority, and a certificate of it for 127.0.0.1 and for no name.
make_certificates() {
	local new=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
	openssl req -x509 "${new[@]}" -days 2 -subj /CN=authority -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
	openssl req "${new[@]}" -subj /CN=server -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
	openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=IP:127.0.0.1) -out "$dir/server.crt" 2>/dev/null
	# As the README has it: this authority, and all public ones.
	export SSL_CERT_FILE=$dir/ca.crt SSL_CERT_DIR=/etc/ssl/certs
}

# Sets REPLY to the address of a NATS server with these arguments besides.
start_nats() {
	free_port && local port=$REPLY
	free_port && local monitor=$REPLY
	"$bin/nats-server" --addr 127.0.0.1 --port "$port" --http_port "$monitor" --jetstream --store_dir "$dir/nats-$port" \
		"$@" >"$dir/nats-server.log" 2>&1 &
	pids+=($!)
	wait_until nats-server $! curl -fsS "http://127.0.0.1:$monitor/healthz"
	REPLY=127.0.0.1:$port
}

start_postgres() {
	local pg
	pg=$(postgres_bin)
	free_port && local port=$REPLY
	mkdir "$dir/pg"
	install -m 600 "$dir/server.key" "$dir/pg/server.key"
	if [ "$(id -u)" = 0 ]; then chmod 711 "$dir" && chown postgres "$dir/pg" "$dir/pg/server.key"; fi
	head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/pg/password"
	local password
	password=$(cat "$dir/pg/password")
	(cd "$dir/pg" && as_postgres "$pg/initdb" -D "$dir/pg/data" -U etl --auth scram-sha-256 --pwfile "$dir/pg/password" \
		--no-sync >"$dir/initdb.log" 2>&1) || { cat "$dir/initdb.log" >&2; exit 1; }
	(cd "$dir/pg" && exec_as_postgres "$pg/postgres" -D "$dir/pg/data" -c "listen_addresses=127.0.0.1" -c "port=$port" \
		-c "unix_socket_directories=" -c fsync=off -c ssl=on -c "ssl_cert_file=$dir/server.crt" \
		-c "ssl_key_file=$dir/pg/server.key") >"$dir/postgres.log" 2>&1 &
	pids+=($!)
	wait_until postgres $! "$pg/pg_isready" -h 127.0.0.1 -p "$port"
	export POSTGRES_URL=postgres://etl:$password@127.0.0.1:$port/postgres
}

# In the place of this shell, so that its id is the server's.
exec_as_postgres() {
	if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else exec "$@"; fi
}

if [ $# = 0 ]; then
	echo "usage: tests/servers.sh COMMAND..." >&2
	exit 64
fi
build
dir=$(mktemp -d)
pids=()
trap stop EXIT
trap 'exit 130' INT TERM
make_certificates
start_etcd
start_nats && export NATS_URL=nats://$REPLY
start_nats --tls --tlscert "$dir/server.crt" --tlskey "$dir/server.key" && export NATS_TLS_URL=tls://$REPLY
start_postgres
start_kubernetes
"$@"
