#!/bin/sh
# Builds images for real, as faas-cli has docker build them, and runs them as the platform does: as a stranger, with a root
# file system that is read-only and nothing in it but the function.
#
# The builder starts with an empty cargo home and has this machine's network: proxies of the environment, roots of
# certificates, and nothing else. Needs root on a Debian with Rust; installs buildah, runc, debootstrap and openssl when
# they are missing. The stand-in for the base image, this Debian with this machine's own toolchain, is kept in IMAGE_CACHE.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD

cache=${IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rust-hyper-image}
# Below /var/tmp: buildah keeps what it mounts as caches there, too, and gives it up with this folder.
work=$(mktemp -d /var/tmp/image.XXXXXX)
passed=0
processes=

finish() {
    code=$?
    for process in $processes; do kill "$process" 2>/dev/null || true; done
    for process in $processes; do wait "$process" 2>/dev/null || true; done
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
for tool in buildah runc debootstrap openssl python3 curl git; do
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
    TMPDIR=$work buildah --root "$cache/storage" --runroot "$work/storage" --storage-driver vfs "$command" "$@"
}

# The base: what the Dockerfile asks of it is a Debian with gcc, Rust and CA certificates. A root of our own is among
# those, to have something to speak TLS with.
if [ ! -f "$cache/ca.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=image test root' \
        -keyout "$cache/ca.key" -out "$cache/ca.pem" 2>/dev/null
fi
base=localhost/rust-for-functions:$(rustc -vV | sed -n 's/^release: //p')
if ! images inspect --type image "$base" >/dev/null 2>&1; then
    echo "making the base image $base"
    site=$(apt-get indextargets --format '$(SITE)' | head -n 1)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates "$suite" "$work/base" "$site" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; fail "debootstrap"; }
    cat "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$cache/ca.pem" >"$work/base/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$work/base/var/cache/apt" "$work/base/var/lib/apt/lists"
    toolchain=$(rustc --print sysroot)
    for part in bin lib; do
        (cd "$toolchain" && tar -cf - --exclude=rustlib/src --exclude='rustlib/*/analysis' "$part") | tar -xf - -C "$work/base/usr/local"
    done
    container=$(images from scratch)
    images copy -q "$container" "$work/base" / >/dev/null
    images config --env PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$container"
    images commit -q --rm "$container" "$base" >/dev/null
    rm -rf "$work/base"
fi

# build NAME FOLDER [ARGUMENT...]: the context as faas-cli lays it out, the image as docker builds it.
build() {
    name=$1 folder=$2
    shift 2
    mkdir -p "$work/build/$name" "$work/$name/rootfs"
    # What git has: no build output of this machine.
    git archive "$tree" template/rust-hyper | tar -xf - -C "$work/build/$name" --strip-components=2
    git archive "$tree" "$folder" | tar -xf - -C "$work/build/$name/function" --strip-components="$(echo "$folder" | tr / '\n' | wc -l)"
    images build --isolation chroot --network host --build-arg "RUST_IMAGE=$base" --build-arg ADDITIONAL_PACKAGE= "$@" \
        --tag "localhost/$name" "$work/build/$name" >"$work/$name.log" 2>&1 ||
        { tail -n 60 "$work/$name.log" >&2; fail "the image of $name builds"; }
    ! grep -q 'in no lock file' "$work/$name.log" || [ "$name" = outlook ] ||
        { grep 'in no lock file' "$work/$name.log" >&2; fail "the image of $name is built of what its lock files name"; }
    container=$(images from "localhost/$name")
    cp -a "$(images mount "$container")/." "$work/$name/rootfs"
    images rm "$container" >/dev/null
    pass "the image of $name builds"
    sed -n 's/^ *Finished .*`\(.*\)` profile .* in \(.*\)/  \1 profile: \2/p' "$work/$name.log"
    echo "  the image of $name has $(find "$work/$name/rootfs" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }') bytes"
}
# This checkout as it is, committed or not.
tree=$(GIT_INDEX_FILE=$work/index sh -c 'git read-tree HEAD && git add -A && git write-tree')

# start NAME: waits until it is healthy on $port.
start() {
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    env -i PATH="$PATH" port="$port" metrics_port=0 healthcheck_interval=0s \
        python3 tests/image/run.py "$work/$1" >"$work/$1.out" 2>&1 &
    runner=$!
    processes="$processes $runner"
    tries=0
    until [ "$(curl -s "http://127.0.0.1:$port/_/health")" = OK ]; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] && kill -0 $runner 2>/dev/null || { cat "$work/$1.out" >&2; fail "$1 is healthy"; }
        sleep 0.1
    done
    pass "$1 serves as user 12000 from a read-only root"
}

stop() {
    kill -TERM "$runner"
    wait "$runner" || fail "$1 ends with 0 when it is told to stop"
    pass "$1 ends with 0 when it is told to stop"
}

build starter template/rust-hyper/function
# What follows the last copy of everything is what a change in the handler alone costs: the layers before it are kept.
awk '/COPY \. \./ { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$work/starter.log" >"$work/late"
compiled=$(sed -n 's/^ *Compiling \([^ ]*\) .*/\1/p' "$work/late" | sort -u | tr '\n' ' ')
[ "$compiled" = "handler watchdog " ] || fail "a change in the handler compiles nothing else, not: $compiled"
pass "a change in the handler compiles nothing else"
size=$(stat -c %s "$work/starter/rootfs/function")
[ "$size" -le 5000000 ] || fail "the starter is 5 MB at most, not $size bytes"
pass "the starter is 5 MB at most"
readelf -h "$work/starter/rootfs/function" | grep -q 'Type: *DYN' || fail "the program is position-independent"
! readelf -l "$work/starter/rootfs/function" | grep -q INTERP || fail "the program needs no loader"
pass "the program is a static one that the kernel can lay anywhere"
start starter
[ "$(curl -s "http://127.0.0.1:$port/")" = hello ] || fail "starter answers"
pass "starter answers"
stop starter

printf '127.0.0.1 by-hosts.test\n' >"$work/hosts"
printf 'nameserver 127.0.0.77\noptions timeout:2 attempts:1\n' >"$work/resolv.conf"
# As quick as it can be built: what counts is glibc's resolver and the roots, not the speed.
build outlook tests/image/function --build-arg PROFILE=dev --build-arg TEST=false
cp "$work/hosts" "$work/resolv.conf" "$work/outlook/"
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
[ "$(curl -s "http://127.0.0.1:$port/note")" = kept ] || fail "the function finds its folder of static files"
pass "the function finds its folder of static files"
answer=$(curl -s "http://127.0.0.1:$port/?url=https://unknown.test/")
[ "$answer" != 204 ] || fail "an unknown name is an error"
pass "an unknown name is an error"
stop outlook

build etl-oauth etl-oauth --build-arg TEST=false
cat >"$work/function" <<WRAPPER
#!/bin/sh
exec python3 "$repository/tests/image/run.py" "$work/etl-oauth"
WRAPPER
chmod +x "$work/function"
IMAGE_FUNCTION=$work/function cargo test --quiet --workspace --features tests/components --test image >"$work/walk.log" 2>&1 ||
    { tail -n 60 "$work/walk.log" >&2; fail "the image of etl-oauth is authorised, runs its job and renews"; }
pass "the image of etl-oauth is authorised, runs its job and renews"

# The builder's cargo home began empty: all that it holds was downloaded while the images were built.
home=$(find "$work" -type d -path '*/registry/cache/*' -prune | head -n 1)
[ -n "$home" ] || fail "the builder has a cargo home of its own"
find "$home" -name '*.crate' -printf '%f\n' | sort >"$work/kept"
sed -n 's/^ *Downloaded \([^ ]*\) v\([^ ]*\).*/\1-\2.crate/p' "$work"/*.log | sort -u >"$work/downloaded"
foreign=$(comm -23 "$work/kept" "$work/downloaded" | tr '\n' ' ')
[ -z "$foreign" ] || fail "the builder's cargo home holds what it has not downloaded: $foreign"
pass "the builder has downloaded all $(wc -l <"$work/kept") crates that it used"
host=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd)
for name in starter outlook etl-oauth; do
    grep -q /cargo/registry/src/ "$work/$name/rootfs/function" || fail "$name says where its crates lay"
    ! grep -rqF "$host/" "$work/$name/rootfs" || fail "nothing of $host is in the image of $name"
done
pass "nothing of this machine's cargo home is in the images"
