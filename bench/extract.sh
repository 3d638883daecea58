#!/bin/sh
# Measures the job `extract` beside a tap made with singer-sdk, on the same list of the sandbox provider. Needs Rust and
# Python 3; RECORDS says how many records (1000000).
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check singer-sdk==0.54.9
SINGER_PYTHON=$work/python/bin/python cargo bench --quiet --package tests --bench extract
