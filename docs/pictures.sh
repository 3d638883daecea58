#!/usr/bin/env bash
# The pictures of the README and the book, made from the pages with sample data: `docs/pictures.sh`. Needs Chromium and pngquant
# of Debian. The browser's test (`tests/tests/chromium.rs`) walks the same pages, and leaves pictures of all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run --quiet --package etl-oauth --example pages -- "$folder" >"$folder/list"

# name height
while read -r name height; do
    for scheme in light dark; do
        setting=1
        [ "$scheme" = light ] || setting=0
        chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$folder/profile" \
            --blink-settings=preferredColorScheme=$setting --window-size="760,$height" \
            --screenshot="$folder/$name-$scheme.png" "file://$folder/$name.html" 2>/dev/null
        pngquant --force --strip --speed 1 --output "docs/src/images/$name-$scheme.png" 32 "$folder/$name-$scheme.png"
    done
done <<'EOF'
enable 560
result 900
status 900
EOF
ls -l docs/src/images
