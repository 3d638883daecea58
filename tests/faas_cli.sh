#!/bin/sh
# Drives the real faas-cli and cron-connector against `local`, where they are found: $FAAS_CLI and $CRON_CONNECTOR, or
# else on PATH. Prints each command that did something else than expected, and a closing count.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
cli=${FAAS_CLI:-$(command -v faas-cli || true)}
cron=${CRON_CONNECTOR:-$(command -v cron-connector || true)}
passed=0 failed=0 skipped=0

if [ -z "$cli" ]; then
    echo "faas-cli: not found (FAAS_CLI, PATH), its commands are skipped"
    echo "faas-cli: 0 passed, 0 failed, 1 skipped"
    exit 0
fi

cd "$root" && cargo build --quiet --bin local || exit 1
local=${CARGO_TARGET_DIR:-$root/target}/debug/local
# The functions of this script share the workspace's folder of built functions: nothing is compiled twice.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"

work=$(mktemp -d)
up='' fired=''
cleanup() {
    [ -z "$fired" ] || kill "$fired" 2>/dev/null
    if [ -n "$up" ]; then
        kill "$up" 2>/dev/null
        wait "$up"
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Logins of whoever runs this stay untouched.
export OPENFAAS_CONFIG="$work/config"
mkdir "$work/config" "$work/project" "$work/empty" "$work/cron" && cd "$work/project" || exit 1

# expect STATUS PATTERN COMMAND…: its exit status, and a pattern that its output has (empty: any output).
expect() {
    status=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>&1 </dev/stdin
    got=$?
    if [ "$got" = "$status" ] && { [ -z "$pattern" ] || grep -q -e "$pattern" "$work/out"; }; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "FAILED: $*"
    echo "  exit $got, expected $status; expected to see: $pattern"
    sed 's/^/  | /' "$work/out"
}

expect 0 'rust-hyper' "$cli" template pull "$root" </dev/null
expect 0 'Function created' "$cli" new walk --lang rust-hyper </dev/null
cat >>stack.yaml <<'YAML'
    secrets: [oauth2-access-token]
    environment:
      read_timeout: 5s
    labels:
      team: a
    annotations:
      topic: cron-function
      schedule: "@every 1s"
YAML
expect 0 'shrink-wrapped' "$cli" build --shrinkwrap </dev/null
mv build shrinkwrapped

"$local" up --gateway 127.0.0.1:0 --provider 127.0.0.1:0 --json >"$work/ready" 2>"$work/log" &
up=$!
while [ ! -s "$work/ready" ]; do
    if ! kill -0 "$up" 2>/dev/null; then
        cat "$work/log"
        exit 1
    fi
    sleep 1
done
gateway=$(sed 's/.*"gateway":"\([^"]*\)".*/\1/' "$work/ready")
password=.secrets/basic-auth-password
export OPENFAAS_URL="$gateway"
sed -i "s#gateway: .*#gateway: $gateway#" stack.yaml

# The same context; the build itself writes into it.
different() { diff -rq shrinkwrapped/walk .local/build/walk | grep -v -e '^Only in .local/build/walk' -e 'Cargo\.[a-z]* differ$'; }
expect 1 '' different </dev/null
# faas-cli builds in the same folder while `local` runs: neither touches the other's files.
expect 1 '' test -e build </dev/null
expect 0 'shrink-wrapped' "$cli" build --shrinkwrap </dev/null
expect 0 '' diff -r shrinkwrapped build </dev/null
expect 1 '' different </dev/null

expect 0 'gateway is ready' "$cli" ready --attempts 5 --interval 200ms </dev/null
echo wrong | expect 1 'username or password is incorrect' "$cli" login -u admin --password-stdin
expect 1 'Unauthorized access' "$cli" list </dev/null
expect 0 'credentials saved' "$cli" login -u admin --password-stdin <"$password"
expect 0 'faas-netes' "$cli" version --warn-update=false </dev/null
expect 0 'openfaas-fn' "$cli" namespace list </dev/null
expect 0 'oauth2-access-token' "$cli" secret list </dev/null
expect 0 'Created: 202' "$cli" secret create one --from-literal 1 </dev/null
expect 0 'already exists' "$cli" secret create one --from-literal 2 </dev/null
expect 0 'Updated: 202' "$cli" secret create one --from-literal 2 --replace </dev/null
expect 0 'Updated: 202' "$cli" secret update one --from-literal 3 </dev/null
expect 0 '^3$' cat .secrets/one </dev/null
expect 0 'unable to find' "$cli" secret update two --from-literal 3 </dev/null
expect 0 'unexpected status code: 400' "$cli" secret create two --from-literal 3 -n elsewhere </dev/null
expect 0 'Removed' "$cli" secret remove one </dev/null
expect 1 'Unable to find' "$cli" secret remove one </dev/null
expect 0 'walk.*walk:latest' "$cli" list -v </dev/null
expect 0 'Status: *Ready' "$cli" describe walk </dev/null
expect 0 'team: a' "$cli" describe walk </dev/null
expect 1 'No such function' "$cli" describe nope </dev/null
# The provider puts one label on every function, which the CLI shows as a difference; there is no other.
expect 1 '| + label.faas_function: walk' "$cli" diff </dev/null
differences() { "$cli" diff | grep -c '| [-+~] '; }
expect 0 '^1$' differences </dev/null
expect 0 'hello' "$cli" invoke walk -m GET </dev/null
expect 1 'error finding function nope' "$cli" invoke nope </dev/null
expect 0 'submitted asynchronously' "$cli" invoke walk --async </dev/null
expect 0 'GET / - 200' "$cli" logs walk --tail=false </dev/null
expect 1 '404' "$cli" logs nope --tail=false </dev/null
expect 0 'Deployed. 202' "$cli" deploy -f stack.yaml </dev/null
expect 0 'is ready' "$cli" ready walk --attempts 100 --interval 1s </dev/null

# Away from the stack file, which the CLI otherwise takes in place of the flags.
cd "$work/empty" || exit 1
expect 0 'Deployed. 202' "$cli" deploy --image walk:latest --name other </dev/null
expect 1 'status code: 409' "$cli" deploy --image walk:latest --name other --update=false </dev/null
expect 0 'Removing old function' "$cli" deploy --image walk:latest --name other --update=false --replace </dev/null
expect 0 'is ready' "$cli" ready other --attempts 600 --interval 1s </dev/null
expect 0 'hello' "$cli" invoke other -m GET </dev/null
expect 1 'images are not pulled' "$cli" deploy --image elsewhere/thing --name third </dev/null
expect 0 'Removing old function' "$cli" remove other </dev/null
expect 1 'No existing function' "$cli" remove other </dev/null
cd "$work/project" || exit 1

if [ -n "$cron" ]; then
    cp "$password" "$work/cron/" && printf admin >"$work/cron/basic-auth-user"
    gateway_url=$gateway basic_auth=true secret_mount_path=$work/cron rebuild_interval=1s "$cron" >"$work/fired" 2>&1 &
    fired=$!
    # The effect, not the connector's word for it: calls appear in the function's own log.
    calls() { "$cli" logs walk --tail=false 2>/dev/null | grep -c 'POST / - '; }
    before=$(calls) attempt=0
    until [ "$(calls)" -gt "$before" ] || [ "$attempt" = 30 ]; do
        attempt=$((attempt + 1))
        sleep 1
    done
    expect 0 '' test "$attempt" -lt 30 </dev/null
    expect 0 'Added: walk.openfaas-fn' cat "$work/fired" </dev/null
else
    echo "cron-connector: not found (CRON_CONNECTOR, PATH), its run is skipped"
    skipped=$((skipped + 1))
fi

expect 0 'Removing old function' "$cli" remove -f stack.yaml </dev/null
kill "$up"
expect 0 '^$' sh -c 'while kill -0 "$0" 2>/dev/null; do sleep 0.1; done; echo' "$up" </dev/null
wait "$up"
expect 0 '^0$' echo "$?" </dev/null
up=''
expect 0 'credentials removed' "$cli" logout </dev/null

echo "faas-cli: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
