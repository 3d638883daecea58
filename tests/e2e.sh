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

# Runs a command for at most so many minutes; what fails is named at the end.
run() {
    local minutes=$1
    shift
    printf '\n-- %s\n' "$*"
    timeout "${minutes}m" "$@" </dev/null 2>&1 | tee -a "$log" || failed+=("$*")
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

# A Python with what a folder's requirements.txt lists, once for each set of versions; it is found by a variable, and there
# when it knows a module: `python tests/django DJANGO_PYTHON oauth2_provider`.
python() {
    local folder key requirements=$1/requirements.txt
    python3 -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; } </dev/null >&2
    key=$({ python3 --version && cat "$requirements"; } | sha256sum | cut -c1-16)
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/etl-oauth-e2e/$(basename "$1")-$key
    export "$2=$folder/bin/python"
    [ -e "$folder/ready" ] && return
    rm -rf "$folder" && python3 -m venv "$folder" &&
        run 5 "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$requirements" &&
        "$folder/bin/python" -c "import $3" && touch "$folder/ready"
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

install npm nodejs npm
run 5 npm ci --prefix tests/oidc --silent --no-audit --no-fund
python tests/django DJANGO_PYTHON oauth2_provider
components 15 providers
python tests/sinks SINKS_PYTHON moto.server
components 10 sinks
# A real browser; what it saw is in target/debug/screenshots.
install chromium chromium
run 5 npm ci --prefix tests/browser --silent --no-audit --no-fund
run 15 cargo build --workspace --features tests/components --example pages
components 15 chromium
install promtool --no-install-recommends prometheus
run 5 tests/promtool.sh
components 30 contexts
found FAAS_CLI faas-cli faas_cli && components 10 faas_cli
found CRON_CONNECTOR cron-connector cron_connector && components 10 cron_connector
run 15 tests/faas_cli.sh

# Servers that the stores speak to.
install go golang-go
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || install initdb postgresql
run 25 tests/stores.sh
# Eight processes over each store, killed at random.
export PROCESSES_SECONDS=${PROCESSES_SECONDS:-40}
run 20 tests/servers.sh cargo test --workspace --features tests/components --test processes -- --test-threads 1 --nocapture
run 30 tests/image.sh

printf '\n'
[ ${#failed[@]} -eq 0 ] || printf 'failed: %s\n' "${failed[@]}"
awk -v skipped="$skipped" '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    # Scripts close with a line of their own, some with their name before it.
    /^([a-z-]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
        sub(/^[a-z-]+: /, "")
        passed += $1; failed += $3; skipped += $5
    }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
[ ${#failed[@]} -eq 0 ]
