#!/bin/sh
# HTTP/2 conformance of the template's server: h2spec against the mirrored function, which reads bodies on /echo. h2spec comes from
# the Go module registry and is kept beside the other programs of the end-to-end tests.
set -eu
cd "$(dirname "$0")/.."

version=2.2.1
GOBIN=${XDG_CACHE_HOME:-$HOME/.cache}/etl-oauth-e2e/h2spec-$version
export GOBIN
[ -x "$GOBIN/h2spec" ] || (cd / && go install "github.com/summerwind/h2spec/cmd/h2spec@v$version+incompatible")

cargo build --quiet -p watchdog --example mirror
work=$(mktemp -d)
mirror=
trap 'kill $mirror 2>/dev/null || true; rm -rf "$work"' EXIT
port=0 metrics_port=0 healthcheck_interval=0s TMPDIR=$work "${CARGO_TARGET_DIR:-target}/debug/examples/mirror" 2>"$work/log" &
mirror=$!
until port=$(sed -n 's/.*Listening on port: //p' "$work/log") && [ -n "$port" ]; do
    kill -0 $mirror
    sleep 0.1
done

"$GOBIN/h2spec" -h 127.0.0.1 -p "$port" -P /echo -o 5 >"$work/report" || true
# On a port that speaks HTTP/1 as well, a first line that is no HTTP/2 preface is HTTP/1, and its refusal an answer.
sed -n '/^Failures/,$p' "$work/report" | grep '^ *×' | grep -v 'Sends invalid connection preface$' >"$work/failed" || true
cat "$work/failed"
awk -v failed="$(wc -l <"$work/failed")" '/ tests, .* passed/ { seen = 1; total = $1 }
    END { if (!seen) { print "h2spec: no report"; exit 1 } printf "conformance: %d passed, %d failed\n", total - 1 - failed, failed
          exit failed > 0 }' "$work/report"
