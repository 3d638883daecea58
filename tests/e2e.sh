#!/usr/bin/env bash
# The end-to-end tests on real components. Installs what they need, starts and stops it, and closes with a count.
#
# FAAS_CLI, CRON_CONNECTOR   the real programs; looked for on PATH otherwise, and their tests skipped where there are none
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
skipped=0

# Runs test binaries of the package `tests`: those that are compiled for real components alone.
components() {
    local minutes=$1
    shift
    timeout "${minutes}m" cargo test --package tests --features components --no-fail-fast "${@/#/--test=}" </dev/null 2>&1 |
        tee -a "$log" || failed+=("$*")
}

# A program by its variable or its name; counts its tests as skipped where there is none.
found() {
    local variable=$1 name=$2 tests=tests/tests/$3.rs count
    if [ -z "${!variable:-}" ]; then
        printf -v "$variable" '%s' "$(command -v "$name")"
    fi
    if [ -n "${!variable}" ]; then
        export "${variable?}"
        return
    fi
    count=$(grep -c '^#\[tokio::test' "$tests")
    skipped=$((skipped + count))
    echo "skipped: $name was not found, neither by $variable nor on PATH; $count tests of it"
    return 1
}

if ! command -v npm >/dev/null; then
    apt-get update -qq && apt-get install -y -qq nodejs npm
fi </dev/null >&2
if timeout 5m npm ci --prefix tests/oidc --silent --no-audit --no-fund </dev/null; then
    components 15 oidc_provider
else
    failed+=('npm ci')
fi
components 30 contexts
found FAAS_CLI faas-cli faas_cli && components 15 faas_cli
found CRON_CONNECTOR cron-connector cron_connector && components 10 cron_connector

# Scripts of their own, for servers that a test cannot start by itself. Each closes with a count as this one does.
for script in tests/stores.sh tests/image.sh; do
    [ ! -e "$script" ] || bash "$script" </dev/null 2>&1 | tee -a "$log" || failed+=("$script")
done

[ ${#failed[@]} -eq 0 ] || printf 'failed: %s\n' "${failed[@]}"
awk -v skipped="$skipped" '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { passed += $1; failed += $3; skipped += $5 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
[ ${#failed[@]} -eq 0 ]
