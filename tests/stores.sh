#!/usr/bin/env bash
# Runs the contract of stores on the real servers; prints how many clauses each store holds.
set -euo pipefail
cd "$(dirname "$0")/.."
exec tests/servers.sh cargo test --package etl-oauth --features nats,postgres --test store_contract_servers -- --nocapture
