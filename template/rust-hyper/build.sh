#!/bin/sh
# Builds the function in a build context, the copy of this folder over whose `function` faas-cli has laid the handler.
#
#   sh build.sh                 builds the function, prints the path of the binary as the last line
#   sh build.sh test            runs the tests of the function
#   sh build.sh dependencies    builds all but the function, from the manifests alone (for a cached layer)
#
# PROFILE   release (default) or dev
# TARGET    what to build for; default: this machine
# FEATURES  features of the watchdog, separated by commas; default: none
# CARGO_TARGET_DIR is honoured, and may be shared by several contexts.
set -eu

profile=${PROFILE:-release}
# Named even when nothing is crossed: flags for a target are not those for build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}

# Several functions may share one target directory, where the binary's name must be theirs.
binary=function-$(basename "$PWD" | tr -c 'A-Za-z0-9_\n' '-')

if [ "${1:-build}" = dependencies ]; then
    # Sources that compile to nothing; the real ones come later, over these.
    library=$(sed -n '/^\[lib\]/,/^\[[^l]/s/^path *= *["'"'"']\(.*\)["'"'"'].*/\1/p' function/Cargo.toml)
    library=function/${library:-src/lib.rs}
    mkdir -p "$(dirname "$library")" src
    touch "$library" src/lib.rs
    echo 'fn main() {}' >src/main.rs
fi
# Once in a context: makes it a workspace of its own, wherever it lies, and binds the function.
if [ ! -e .bound ]; then
    # The function keeps its package name. Two packages of one name and version cannot be told apart in a lock file, so
    # if the names clash, this one gives way.
    name=watchdog
    while grep -q "name *= *[\"']$name[\"']" function/Cargo.toml; do
        name=$name-template
    done
    sed -i \
        -e "/^\[package\]/,/^$/s/^name = .*/name = \"$name\"/" \
        -e "/^\[\[bin\]\]/,/^$/s/^name = .*/name = \"$binary\"/" \
        -e '/^handler = /d' -e '/^\[dev-dependencies\]/,$d' Cargo.toml
    printf '\n[workspace]\n' >>Cargo.toml
    # A function that is a workspace itself cannot be a member.
    if grep -q '^\[workspace' function/Cargo.toml; then
        printf 'exclude = ["function"]\n' >>Cargo.toml
    fi
    # The versions are the function's, if it has settled them, else those that the template was tested with. cargo would
    # forget them while the function is not bound yet.
    cp Cargo.lock .bound
    if [ -f function/Cargo.lock ]; then
        cp function/Cargo.lock .bound
    fi
    cargo add --quiet --offline --path function --rename handler >&2
    cp .bound Cargo.lock
fi

case ${1:-build} in
dependencies)
    # Only saves time: what cannot be built from the manifest alone is built with the function.
    cargo test --quiet --no-run --profile "$profile" --target "$host" --manifest-path function/Cargo.toml >&2 || true
    cargo build --profile "$profile" --target "$target" --no-default-features --features "${FEATURES:-}" >&2 || true
    ;;
test)
    # Copied files are often older than what was built before them; cargo goes by their times.
    find src function -name target -prune -o -name '*.rs' -exec touch {} +
    cargo test --profile "$profile" --target "$host" --manifest-path function/Cargo.toml >&2
    ;;
build)
    find src function -name target -prune -o -name '*.rs' -exec touch {} +
    cargo build --profile "$profile" --target "$target" --no-default-features --features "${FEATURES:-}" --bin "$binary" >&2
    folder=$profile
    [ "$profile" != dev ] || folder=debug
    output=${CARGO_TARGET_DIR:-$PWD/target}
    case $output in /*) ;; *) output=$PWD/$output ;; esac
    echo "$output/$target/$folder/$binary"
    ;;
*)
    echo "build.sh: unknown argument $1" >&2
    exit 64
    ;;
esac
