#!/bin/sh
# Measures the route `/proxy` of etl-oauth, built as its image is, beside a direct call of the same upstream and beside a
# reverse proxy of hyper alone; then how long its start takes with a built-in definition and without. Writes results/proxy.md.
# Needs Rust, Python 3 and wrk.
#
#   bench/proxy.sh [--rounds N] [--seconds N]
set -eu
cd "$(dirname "$0")"
command -v wrk >/dev/null || {
    echo "bench: wrk is needed (Debian: apt-get install wrk)" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=${CARGO_TARGET_DIR:-$PWD/../target}
cargo build --release --quiet --manifest-path tools/Cargo.toml --target-dir "$target/bench"
cp -R ../template/rust-hyper "$work/etl-oauth"
rm -r "$work/etl-oauth/function"
cp -R ../etl-oauth "$work/etl-oauth/function"
# The file store in place of those that need a server.
(cd "$work/etl-oauth" && FEATURES=handler/file CARGO_TARGET_DIR="$target/context" sh build.sh 2>"$work/log") >"$work/built" || {
    cat "$work/log" >&2
    exit 1
}
python3 proxy.py --tools "$target/bench/release" --function "$(tail -n 1 "$work/built")" --results results "$@"
