#!/bin/sh
# Writes the lock files that are copied out of this workspace when an image is built. They hold what the workspace's lock
# file holds, so that images are built of what the tests ran with. tests/tests/locks.rs says when this is due.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for crate in template/rust-hyper template/rust-hyper/function etl-oauth; do
    rm -rf "$work/crate"
    # Away from the workspace, where cargo drops what this crate does not need.
    cp -R "$crate" "$work/crate"
    cp Cargo.lock "$work/crate/"
    # A crate of its own for cargo, whatever lies above.
    grep -q '^\[workspace\]' "$work/crate/Cargo.toml" || printf '\n[workspace]\n' >>"$work/crate/Cargo.toml"
    cargo update --quiet --offline --workspace --manifest-path "$work/crate/Cargo.toml"
    cp "$work/crate/Cargo.lock" "$crate/Cargo.lock"
done
