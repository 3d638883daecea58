#!/bin/sh
# Measures the starter function side by side with its limit, a bare hyper server, with the same answer without a router, and
# with functions of other languages behind of-watchdog where that is found (OF_WATCHDOG, else on PATH). Needs Rust, Python 3
# and wrk.
#
#   bench/run.sh [--rounds N] [--seconds N] [--target NAME=COMMAND]...
#
# A target's command gets the port to listen on as the variable `port`. Writes bench/results/README.md and .svg.
set -eu
cd "$(dirname "$0")"
command -v wrk >/dev/null || {
    echo "bench: wrk is needed (Debian: apt-get install wrk)" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo build --release --quiet --manifest-path tools/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-../target}/bench"
tools=$(cd "${CARGO_TARGET_DIR:-../target}/bench/release" && pwd)

# build NAME [FOLDER]: builds the template with its starter, or with another function; prints the binary's path.
build() {
    mkdir "$work/$1"
    cp -R ../template/rust-hyper/. "$work/$1"
    [ -z "${2:-}" ] || { rm -r "$work/$1/function" && cp -R "$2" "$work/$1/function"; }
    (cd "$work/$1" && CARGO_TARGET_DIR="$tools/../context" sh build.sh 2>"$work/log") >"$work/built" || {
        cat "$work/log" >&2
        return 1
    }
    tail -n 1 "$work/built"
}
starter=$(build starter)
plain=$(build plain plain)

set -- "$@" --target "rust-hyper=$starter" --target "rust-hyper, no router=$plain" --target "bare hyper=$tools/bare"
watchdog=${OF_WATCHDOG:-$(command -v of-watchdog || true)}
if [ -n "$watchdog" ]; then
    behind() { printf 'env mode=http upstream_url=http://127.0.0.1:18999 upstream_port=18999 fprocess="%s" %s' "$1" "$watchdog"; }
    if command -v go >/dev/null; then
        CGO_ENABLED=0 go build -o "$work/hello-go" peers/hello.go
        set -- "$@" --target "Go + of-watchdog=$(behind "$work/hello-go")"
    fi
    if command -v node >/dev/null; then
        set -- "$@" --target "Node + of-watchdog=$(behind "node $PWD/peers/hello.js")"
    fi
    if python3 -c 'import uvicorn' 2>/dev/null; then
        uvicorn="python3 -m uvicorn --app-dir $PWD/peers hello:app --port 18999 --no-access-log --log-level warning"
        set -- "$@" --target "Python + of-watchdog=$(behind "$uvicorn")"
    fi
else
    echo "bench: of-watchdog is not found, the functions behind it are left out" >&2
fi
python3 measure.py --load "$tools/load" --results results "$@"
