#!/usr/bin/env bash
# The stores on real servers: their contract, with the number of clauses that each store holds; `extract` into tables, killed at
# random EXTRACT_KILLS times (20); then several processes of the
# function over each store, killed at random for PROCESSES_SECONDS (a minute).
set -uo pipefail
cd "$(dirname "$0")/.."
[ "${1:-}" = started ] || exec tests/servers.sh tests/stores.sh started

# With the features of all the tests on real components, so that nothing is compiled again.
real() {
    cargo test --workspace --features tests/components --test "$@" --nocapture
}

status=0
real store_contract_servers -- || status=1
real tables -- || status=1
export PROCESSES_SECONDS=${PROCESSES_SECONDS:-60}
real processes -- --test-threads 1 || status=1
exit $status
