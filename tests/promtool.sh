#!/usr/bin/env bash
# Prometheus's own judgement of deploy/: the rules and what they say of made-up days, and the dashboard's queries.
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0
failed=0
check() {
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "failed: $name"; fi
}

# Every query of the dashboard as a rule, which is YAML like any JSON.
queries=$(mktemp)
trap 'rm -f "$queries"' EXIT
node -e '
    const { panels } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
    // OpenFaaS scrapes all functions at once: a query without the variable would add them up.
    const all = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    const mixed = all.filter((expr) => !expr.includes(`function_name=~"$function"`));
    if (mixed.length) throw new Error(`these queries take all functions together: ${mixed}`);
    const queries = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr.replaceAll("$__rate_interval", "5m")));
    const rules = queries.map((expr, number) => ({ record: `query${number}`, expr }));
    console.log(JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
' < deploy/grafana-dashboard.json > "$queries" || failed=1

check 'the rules are sound' promtool check rules deploy/alerts.yaml
check 'the rules fire when they should' promtool test rules tests/alerts_test.yaml
check "the dashboard's queries are sound" promtool check rules "$queries"
echo "promtool: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
