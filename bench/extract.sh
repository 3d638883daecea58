#!/bin/sh
# Measures the job `extract` beside a tap made with singer-sdk, on the same list of the sandbox provider, and writes
# results/extract.md. Needs Rust and Python 3 with venv; RECORDS says how many records (1000000).
set -eu
cd "$(dirname "$0")/.."
# A Python with what peers/requirements.txt lists, once for each set of versions.
key=$({ python3 --version && cat bench/peers/requirements.txt; } | sha256sum | cut -c1-16)
python=${XDG_CACHE_HOME:-$HOME/.cache}/etl-oauth-e2e/peers-$key
if [ ! -e "$python/ready" ]; then
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement bench/peers/requirements.txt
    "$python/bin/python" -c 'import singer_sdk'
    touch "$python/ready"
fi
export SINGER_PYTHON="$python/bin/python" RESULTS="$PWD/bench/results/extract.md"
exec cargo bench --quiet --package tests --bench extract
