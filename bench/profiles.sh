#!/usr/bin/env bash
# What a release profile costs and brings: the processors' time for a build from nothing, without the downloads, and for a
# change of one line in the handler; the program's size; what it serves. Prints a table for bench/results/profiles.md.
#
#   bench/profiles.sh [starter|etl-oauth] [LTO/UNITS/LEVEL]...     such as thin/16/2; without any the usual ones
#
# Processors' time says the same on a busy machine as on a quiet one, nearly; for requests a second it has to be quiet, and
# they are left out where there is no `wrk`.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
function=${1:-starter}
shift || true
[ $# -gt 0 ] || set -- fat/1/2 thin/1/2 thin/4/2 thin/16/2 false/16/2 false/16/3
case $function in
starter) handler=template/rust-hyper/function ;;
etl-oauth) handler=etl-oauth ;;
*) echo "profiles.sh: starter or etl-oauth, not $function" >&2; exit 64 ;;
esac
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
unset CARGO_TARGET_DIR

# User and system time of a command, in seconds.
seconds() {
    local TIMEFORMAT='%U %S' time
    time=$({ time "$@" >"$work/out" 2>"$work/log"; } 2>&1) || { tail -n 20 "$work/log" >&2; exit 1; }
    awk '{ printf "%.0f", $1 + $2 }' <<<"$time"
}

echo "| $function: lto, units, level | from nothing | one line changed | bytes | requests/s |"
echo "| --- | ---: | ---: | ---: | ---: |"
for variant in "$@"; do
    IFS=/ read -r lto units level <<<"$variant"
    context=$work/context
    rm -rf "$context"
    cp -R template/rust-hyper "$context"
    cp -R "$handler/." "$context/function"
    rm -rf "$context/target" "$context/function/target"
    cd "$context"
    # The function's own options win over the template's.
    [ "$lto" = false ] || lto="\"$lto\""
    printf '\n[profile.release]\nlto = %s\ncodegen-units = %s\nopt-level = %s\n' "$lto" "$units" "$level" >>function/Cargo.toml
    sh build.sh fetch >/dev/null 2>&1
    rm -rf manifests
    cold=$(seconds sh build.sh)
    echo '// One line more.' >>function/src/lib.rs
    change=$(seconds sh build.sh)
    program=$(tail -n 1 "$work/out")
    rate=-
    if [ "$function" = starter ] && command -v wrk >/dev/null; then
        port=18080 metrics_port=0 "$program" >/dev/null 2>&1 &
        server=$!
        until curl -sf http://127.0.0.1:18080/_/health >/dev/null; do sleep 0.1; done
        rate=$(wrk -t1 -c16 -d5s http://127.0.0.1:18080/ | awk '/Requests\/sec/ { printf "%.0f", $2 }')
        kill "$server" && wait "$server" 2>/dev/null || true
        server=
    fi
    echo "| $lto, $units, $level | $cold s | $change s | $(stat -c %s "$program") | $rate |"
    cd "$repository"
done
