#!/bin/sh
# Measures the route `/proxy` of etl-oauth beside a direct call of the same upstream and beside a
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
cargo build --release --quiet --package tests --bin etl-oauth-function
target=${CARGO_TARGET_DIR:-$PWD/../target}
cargo build --release --quiet --manifest-path tools/Cargo.toml --target-dir "$target/bench"
python3 proxy.py --tools "$target/bench/release" --function "$target/release/etl-oauth-function" --results results "$@"
