#!/usr/bin/env bash
# The end-to-end tests on real components. Installs what they need, starts and stops it, and closes with a count.
#
# FAAS_CLI, CRON_CONNECTOR, OF_WATCHDOG   the real programs; looked for on PATH otherwise, and their tests skipped where
#                                         there are none
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

work=$(mktemp -d)
log=$work/log failed=$work/failed
touch "$log" "$failed"
trap 'rm -rf "$work"' EXIT
skipped=0

# Runs a command for at most so many minutes; what fails is named at the end.
run() {
    local minutes=$1 TIMEFORMAT='-- %0R s, and %0U + %0S s of the processors'
    shift
    printf '\n-- %s\n' "$*"
    { time timeout "${minutes}m" "$@" </dev/null; } 2>&1 | tee -a "$log" || echo "$*" >>"$failed"
}

# Runs two functions at the same time; what the second one prints follows the first one's.
beside() {
    local second=$work/second.out
    (log=$log.second && "$2") >"$second" 2>&1 &
    local pid=$!
    "$1"
    wait "$pid"
    cat "$second"
}

# A binary of the package `tests` that is compiled for real components alone. Of the whole workspace, so that nothing is
# compiled again with other features.
components() {
    run "$1" cargo test --workspace --features tests/components --test "$2"
}

install() {
    command -v "$1" >/dev/null && return
    shift
    { apt-get update -qq && apt-get install -y -qq "$@"; } </dev/null >&2
}

# The tests of a binary.
count() {
    grep -c '^#\[tokio::test' "tests/tests/$1.rs"
}

# A Python with what tests/NAME/requirements.txt lists, once for each set of versions; `python` is its folder.
venv() {
    local name=$1 module=$2 key
    python3 -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; } </dev/null >&2
    key=$({ python3 --version && cat "tests/$name/requirements.txt"; } | sha256sum | cut -c1-16)
    python=${XDG_CACHE_HOME:-$HOME/.cache}/etl-oauth-e2e/$name-$key
    [ -e "$python/ready" ] && return
    rm -rf "$python" && python3 -m venv "$python" &&
        run 5 "$python/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
            --requirement "tests/$name/requirements.txt" &&
        "$python/bin/python" -c "import $module" && touch "$python/ready"
}

# A program by its variable or its name; counts its tests as skipped where there is none.
found() {
    local variable=$1 name=$2 count=$3
    if [ -z "${!variable:-}" ]; then
        printf -v "$variable" '%s' "$(command -v "$name")"
    fi
    if [ -n "${!variable}" ]; then
        export "${variable?}"
        return
    fi
    skipped=$((skipped + count))
    echo "skipped: $name was not found, neither by $variable nor on PATH; $count tests of it"
    return 1
}

install npm nodejs npm
run 5 npm ci --prefix tests/oidc --silent --no-audit --no-fund
run 5 npm ci --prefix tests/mcp --silent --no-audit --no-fund
venv django oauth2_provider
export DJANGO_PYTHON=$python/bin/python
components 15 providers
venv schemathesis schemathesis
export SCHEMATHESIS=$python/bin/schemathesis
components 10 schemathesis
venv sinks moto.server
export SINKS_PYTHON=$python/bin/python
components 10 sinks
# A real browser; what it saw is in target/debug/screenshots.
install chromium chromium
run 5 npm ci --prefix tests/browser --silent --no-audit --no-fund
run 15 cargo build --workspace --features tests/components --example pages
components 15 chromium
install promtool --no-install-recommends prometheus
run 5 tests/promtool.sh
found FAAS_CLI faas-cli "$(count faas_cli)" && components 10 faas_cli
found CRON_CONNECTOR cron-connector "$(count cron_connector)" && components 10 cron_connector
run 15 tests/faas_cli.sh
# The record of of-watchdog, replayed against the real one: what our own server is measured by still holds.
found OF_WATCHDOG of-watchdog "$(grep -c '^ *{"id":' template/rust-hyper/tests/of-watchdog.json)" &&
    REPLAY_SUBJECT=$OF_WATCHDOG components 15 replay

# Servers that the stores speak to, and eight processes over each store, killed at random.
servers() {
    run 40 tests/stores.sh
}

# Builds in release mode.
builds() {
    components 40 contexts
    run 40 tests/image.sh
}

# What images are built by.
install shellcheck shellcheck
run 1 shellcheck --severity warning template/rust-hyper/build.sh tests/image.sh tests/locks.sh
venv hadolint pip
run 1 "$python/bin/hadolint" template/rust-hyper/Dockerfile

install go golang-go
run 10 tests/h2spec.sh
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install initdb postgresql
# The fleets mostly wait, the builds mostly compile on one processor.
beside builds servers

printf '\n'
sed 's/^/failed: /' "$failed"
awk -v skipped="$skipped" '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    # Scripts close with a line of their own, some with their name before it.
    /^([a-z-]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
        sub(/^[a-z-]+: /, "")
        passed += $1; failed += $3; skipped += $5
    }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"*
[ ! -s "$failed" ]
