#!/bin/sh
# Builds the template's images for real, as faas-cli would have docker do it, and runs them as the platform does: as a
# stranger, with a root file system that is read-only and nothing in it but the function.
#
# Needs root on a Debian with Rust and network; installs buildah, runc, debootstrap and openssl when they are missing.
# The stand-in for the base image, this Debian with this machine's own toolchain, is kept in IMAGE_CACHE.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD

cache=${IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rust-hyper-image}
work=$(mktemp -d)
passed=0
processes=

finish() {
    code=$?
    for process in $processes; do kill "$process" 2>/dev/null || true; done
    runc --root "$work/runc" delete --force function >/dev/null 2>&1 || true
    rm -rf "$work"
    [ $code -eq 0 ] && echo "$passed passed, 0 failed" || echo "image: $passed passed, 1 failed" >&2
    exit $code
}
trap finish EXIT
pass() {
    passed=$((passed + 1))
    echo "ok - $1"
}
fail() {
    echo "not ok - $1" >&2
    exit 1
}

missing=
for tool in buildah runc debootstrap openssl python3 curl; do
    command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $missing >/dev/null
fi

mkdir -p "$cache"
images() {
    command=$1
    shift
    buildah --root "$cache/storage" --runroot "$work/storage" --storage-driver vfs "$command" "$@"
}

# The base: what the Dockerfile asks of it is a Debian with gcc, Rust and CA certificates. A root of our own is among
# those, to have something to speak TLS with.
if [ ! -f "$cache/ca.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=image test root' \
        -keyout "$cache/ca.key" -out "$cache/ca.pem" 2>/dev/null
fi
base=localhost/rust-stand-in:$(rustc -vV | sed -n 's/^release: //p')
if ! images inspect --type image "$base" >/dev/null 2>&1; then
    echo "making the base image $base"
    site=$(apt-get indextargets --format '$(SITE)' | head -n 1)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$work/base" "$site" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; fail "debootstrap"; }
    mkdir -p "$work/base/usr/local/share/ca-certificates"
    cp "$cache/ca.pem" "$work/base/usr/local/share/ca-certificates/test.crt"
    chroot "$work/base" update-ca-certificates >/dev/null 2>&1
    rm -rf "$work/base/var/cache/apt" "$work/base/var/lib/apt/lists"
    toolchain=$(rustc --print sysroot)
    for part in bin lib; do
        (cd "$toolchain" && tar -cf - --exclude=rustlib/src --exclude='rustlib/*/analysis' "$part") | tar -xf - -C "$work/base/usr/local"
    done
    container=$(images from scratch)
    images copy -q "$container" "$work/base" / >/dev/null
    images config --env PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin --env CARGO_HOME=/usr/local/cargo "$container"
    images commit -q --rm "$container" "$base" >/dev/null
    rm -rf "$work/base"
fi

# build NAME FOLDER [ARGUMENT...]: the context as faas-cli lays it out, the image as docker builds it.
build() {
    name=$1 folder=$2
    shift 2
    mkdir -p "$work/build/$name"
    cp -R "$repository/template/rust-hyper/." "$work/build/$name"
    cp -R "$folder/." "$work/build/$name/function"
    # The crates that this machine has need not be fetched once more.
    images build --isolation chroot --network host --build-arg "RUST_IMAGE=$base" --build-arg ADDITIONAL_PACKAGE= "$@" \
        --volume "${CARGO_HOME:-$HOME/.cargo}/registry:/usr/local/cargo/registry" \
        --tag "localhost/$name" "$work/build/$name" >"$work/log" 2>&1 ||
        { tail -n 60 "$work/log" >&2; fail "the image of $name builds"; }
    rm -rf "$work/$name"
    mkdir -p "$work/$name/rootfs"
    container=$(images from "localhost/$name")
    cp -a "$(images mount "$container")/." "$work/$name/rootfs"
    images rm "$container" >/dev/null
    pass "the image of $name builds, its tests pass on the way"
}

# start NAME: as user 12000, nothing writable; waits until it is healthy on $port.
start() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >"$work/$1/config.json" <<CONFIG
{
  "ociVersion": "1.0.2",
  "process": {
    "user": {"uid": 12000, "gid": 12000},
    "args": ["/function"],
    "env": ["port=$port", "metrics_port=0", "healthcheck_interval=0s"],
    "cwd": "/",
    "noNewPrivileges": true
  },
  "root": {"path": "rootfs", "readonly": true},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/etc/hosts", "type": "bind", "source": "$work/hosts", "options": ["bind", "ro"]},
    {"destination": "/etc/resolv.conf", "type": "bind", "source": "$work/resolv.conf", "options": ["bind", "ro"]}
  ],
  "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}
}
CONFIG
    touch "$work/$1/rootfs/etc/hosts" "$work/$1/rootfs/etc/resolv.conf"
    runc --root "$work/runc" run --bundle "$work/$1" function >"$work/$1.log" 2>&1 &
    runner=$!
    processes="$processes $runner"
    tries=0
    until [ "$(curl -s "http://127.0.0.1:$port/_/health")" = OK ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] && kill -0 $runner 2>/dev/null || { cat "$work/$1.log" >&2; fail "$1 is healthy"; }
        sleep 0.1
    done
    pass "$1 serves as user 12000 from a read-only root"
}

stop() {
    runc --root "$work/runc" kill function TERM
    wait $runner || fail "$1 ends with 0 when it is told to stop"
    pass "$1 ends with 0 when it is told to stop"
}

printf '127.0.0.1 by-hosts.test\n' >"$work/hosts"
printf 'nameserver 127.0.0.77\noptions timeout:2 attempts:1\n' >"$work/resolv.conf"

build starter "$repository/template/rust-hyper/function"
# What comes behind the copy of the handler is what a change in the handler alone costs: the layers before are kept.
sed -n '/COPY function function/,$p' "$work/log" >"$work/late"
compiled=$(sed -n 's/^ *Compiling \([^ ]*\) .*/\1/p' "$work/late" | sort -u | tr '\n' ' ')
[ "$compiled" = "handler watchdog " ] || fail "a change in the handler compiles nothing else, not: $compiled"
pass "a change in the handler compiles nothing else"
sed -n 's/^ *Finished .* in \(.*\)/that takes \1/p' "$work/late"
size=$(find "$work/starter/rootfs" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
echo "the starter's image is $size bytes"
[ "$size" -le 3000000 ] || fail "the starter's image is 3 MB at most"
pass "the starter's image is 3 MB at most"
start starter
[ "$(curl -s "http://127.0.0.1:$port/")" = hello ] || fail "starter answers"
pass "starter answers"
stop starter

build outlook "$repository/tests/image/function"
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -keyout "$work/key" -out "$work/request" 2>/dev/null
printf 'subjectAltName=DNS:by-hosts.test,DNS:by-dns.test\n' >"$work/names"
openssl x509 -req -in "$work/request" -CA "$cache/ca.pem" -CAkey "$cache/ca.key" -CAcreateserial -CAserial "$work/serial" -days 2 \
    -extfile "$work/names" -out "$work/certificate" 2>/dev/null
python3 tests/image/tls.py "$work/certificate" "$work/key" >"$work/tls.port" &
processes="$processes $!"
python3 tests/image/names.py 127.0.0.77 by-dns.test 127.0.0.1 >"$work/names.ready" &
processes="$processes $!"
until [ -s "$work/tls.port" ] && [ -s "$work/names.ready" ]; do sleep 0.1; done
start outlook
for host in by-hosts by-dns; do
    answer=$(curl -s "http://127.0.0.1:$port/?url=https://$host.test:$(cat "$work/tls.port")/")
    [ "$answer" = 204 ] || { echo "$answer" >&2; fail "the function speaks TLS with $host.test"; }
    pass "the function finds $host.test and speaks TLS with it by the roots of the image"
done
answer=$(curl -s "http://127.0.0.1:$port/?url=https://unknown.test/")
[ "$answer" != 204 ] || fail "an unknown name is an error"
pass "an unknown name is an error"
stop outlook
