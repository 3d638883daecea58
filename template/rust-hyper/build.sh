#!/bin/sh
# Builds the function in a build context: a copy of this folder whose `function` holds the handler, as faas-cli lays it out.
#
#   sh build.sh                 builds the function; the last line printed is the path of the binary
#   sh build.sh test            runs the function's tests
#   sh build.sh dependencies    builds all dependencies from the manifests alone, for a layer that stays when code changes
#   sh build.sh fetch           of that step only the first part: settles the versions and downloads them
#   sh build.sh manifests       writes to `manifests` what that step needs: manifests, and sources that hold nothing
#
# PROFILE    release (default), fat-lto (slower to build, smaller), dev, or a profile of the function's own
# FEATURES   features of the watchdog, and the function's as handler/NAME, separated by commas; default: none
# BACKTRACE  true: keeps what backtraces need; default: false
# TARGET     what to build for; default: this machine
# BUILD_ENV  lines NAME=VALUE: variables for build scripts and `env!`
# CARGO_TARGET_DIR is honoured, and may be shared by several contexts.
#
# The function is the root of the cargo workspace, and the template a member of it. So its lock file, [patch], [profile],
# [workspace], .cargo/config.toml and rust-toolchain.toml mean here what they mean in its own folder.
# shellcheck disable=SC2046,SC2086 # manifests and targets have no spaces in their names
set -eu

context=$PWD
binary=function-$(basename "$context" | tr -c 'A-Za-z0-9_\n' '-')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}"
case $CARGO_TARGET_DIR in /*) ;; *) CARGO_TARGET_DIR=$context/$CARGO_TARGET_DIR ;; esac

fail() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# The manifests of the function and of the crates in its folder, the function's own first.
crates() {
    find function -mindepth 1 -name target -prune -o -name Cargo.toml -print | awk '{ print gsub("/", "/"), $0 }' |
        sort -n | cut -d ' ' -f 2-
}

# What is in [package]; `value name` of stdin.
value() {
    sed -n '/^ *\[package\]/,/^ *\[[^p]/s/^ *'"$1"' *= *["'\'']\([^"'\'']*\).*/\1/p' | head -n 1
}

# What no image can be built from, because it lies outside the handler folder: one sentence, and the way out.
check() {
    [ -f function/Cargo.toml ] || fail "the handler folder has no Cargo.toml; \`faas-cli new --lang rust-hyper NAME\` makes one"
    grep -q '^ *\[package\]' function/Cargo.toml ||
        fail "function/Cargo.toml has no [package]: name as handler the folder of one crate, not that of a whole workspace"
    crates | while read -r manifest; do
        awk -v file="$manifest" '
            BEGIN { depth = gsub("/", "/", file) - 1 }
            { sub(/(^| )#.*/, "") }
            /^ *\[/ { section = $0 }
            section !~ /metadata/ && match($0, /(^|[ {,.])path *= *["\047][^"\047]*/) {
                path = substr($0, RSTART, RLENGTH); sub(/^.?path *= *./, "", path)
                rest = path; up = gsub(/\.\.\//, "", rest) + (rest == "..")
                if (path ~ /^\// || up > depth) { print path; exit }
            }' "$manifest" >outside
        [ ! -s outside ] || fail "$manifest: path = \"$(cat outside)\" lies outside the handler folder, and only that folder" \
            "is copied into the image. Link it into the folder (\`ln -s\`; faas-cli copies what a link points to), or list it" \
            "under configuration.copy of the stack file, and name the path inside; or take the crate from a registry or git."
    done
    rm -f outside
    if ! grep -q '^ *\[workspace' $(crates) && inherited=$(grep -n '^[^#]*workspace *= *true' $(crates) /dev/null | head -n 1) &&
        [ -n "$inherited" ]; then
        fail "$inherited: the workspace that this is inherited from lies outside the handler folder, and only that folder is" \
            "copied into the image. Write the value itself here."
    fi
}

# Once in a context: binds the function to the template.
bind() {
    ! grep -q '^workspace = "function"' Cargo.toml || return 0
    check
    name=$(value name <function/Cargo.toml)
    # Two packages of one name cannot be members of one workspace: the template gives way.
    own=watchdog
    while grep -q "^ *name *= *[\"']${own}[\"']" $(crates); do own=$own-template; done
    sed -i -e '/^\[dev-dependencies\]/,$d' -e '/^handler = /d' Cargo.toml
    sed -i -e "/^\[package\]/,/^$/s/^name = .*/name = \"$own\"\nworkspace = \"function\"/" \
        -e "/^\[\[bin\]\]/,/^$/s/^name = .*/name = \"$binary\"/" \
        -e "s/^\[dependencies\]/&\nhandler = { path = \"function\", package = \"$name\" }/" Cargo.toml

    if ! grep -q '^ *\[workspace\]' function/Cargo.toml; then
        # A crate of the folder that is the root of a workspace stays one.
        roots=$(grep -l '^ *\[workspace' $(crates) | sed -n 's|^function/\(..*\)/Cargo.toml$|"\1", |p' | tr -d '\n')
        printf '\n[workspace]\nmembers = [".."]\nexclude = [%s]\n' "$roots" >>function/Cargo.toml
    elif sed -n '/^ *\[workspace\]/,/^ *\[[^w]/p' function/Cargo.toml | grep -q '^ *members *='; then
        sed -i '/^ *\[workspace\]/,/^ *\[[^w]/s/^ *members *= *\[/&"..", /' function/Cargo.toml
    else
        sed -i 's/^ *\[workspace\]/&\nmembers = [".."]/' function/Cargo.toml
    fi

    # The versions are the function's, and for what its lock file does not name those that the template was tested with. What
    # the function patches is not held to the version that the registry has.
    patched=$(awk '/^ *\[/ { section = $1; split(section, part, /[].]/); if (section ~ /^\[patch\./ && part[3] != "") print part[3] }
        section ~ /^\[patch\.[^.]*\]/ && match($0, /^ *[A-Za-z0-9_-]+ *[.=]/) { gsub(/[ .=]*/, "", $1); print $1 }' function/Cargo.toml |
        tr '\n' ' ')
    [ -f function/Cargo.lock ] || cp Cargo.lock function/Cargo.lock
    sed -i 's/\r$//' Cargo.lock function/Cargo.lock
    awk -v patched=" $patched" '
         function compatible(version) {
             split(version, part, ".")
             return part[1] != "0" ? part[1] : part[2] != "0" ? "0." part[2] : version
         }
         BEGIN { RS = ""; ORS = "\n\n" }
         { split($0, field, "\""); package = field[2] " " compatible(field[4]) }
         /\nsource = "registry/ && index(patched, " " field[2] " ") { next }
         FNR == NR { locked[package] = 1; print; next }
         /\nsource = / && !(package in locked)' function/Cargo.lock Cargo.lock >function/merged
    mv function/merged function/Cargo.lock
    ! [ -f manifests/function/Cargo.lock ] || cp manifests/function/Cargo.lock function/Cargo.lock
}

# The template with a program that does nothing; of the function and its crates, manifests without the targets whose
# sources are not there, and libraries that hold nothing.
manifests() {
    bind
    rm -rf manifests
    mkdir -p manifests/src
    cp Cargo.toml manifests/
    stub='//! Stands for the real source.
#![allow(missing_docs, unused_crate_dependencies, warnings)]'
    echo "$stub" >manifests/src/lib.rs
    # A program, as it will be: what link-time optimisation takes from the dependencies is not what a library does.
    printf '%s\nfn main() {}\n' "$stub" >manifests/src/main.rs
    for manifest in $(crates); do
        folder=manifests/$(dirname "$manifest")
        mkdir -p "$folder/src"
        awk '{ sub("\r$", "") }
             /^ *\[/ { section = $1 }
             section ~ /^\[\[(bin|example|test|bench)\]\]/ { next }
             section == "[lib]" && /^ *path *=/ { next }
             section == "[package]" && /^ *(build|default-run|links) *=/ { next }
             { print }' "$manifest" >"manifests/$manifest"
        echo "$stub" >"$folder/src/lib.rs"
        ! grep -q '^ *\[.*build-dependencies' "$manifest" || cp manifests/src/main.rs "$folder/build.rs"
    done
    cp function/Cargo.lock manifests/function/
    for settings in .cargo rust-toolchain rust-toolchain.toml; do
        [ ! -e function/$settings ] || cp -R function/$settings manifests/function/
    done
    # The same bytes are the same layer, whenever they were written.
    find manifests -exec touch -d @0 {} +
}

packages() {
    awk 'BEGIN { RS = ""; FS = "\"" } /\nsource = / { print $2, $4 }' "$1" | sort
}

# Completes the lock file and downloads what it names.
fetch() {
    # The same manifests and lock file as the last time: nothing to complete. Saves a fifth of a build after a save.
    if [ -e .fetched ] && [ -z "$(find . -name target -prune -o -name 'Cargo.*' -newer .fetched -print)" ]; then
        return 0
    fi
    packages Cargo.lock >"$context/locked"
    cargo fetch --target "${target:-$host}" >&2 || {
        name=$(value name <Cargo.toml)
        [ "$(cd .. && grep -l "^ *name *= *[\"']${name}[\"']" $(crates) | wc -l)" -lt 2 ] ||
            fail "two packages are called $name. Give each function a name of its own in its Cargo.toml: any will do."
        exit 1
    }
    packages Cargo.lock | comm -13 "$context/locked" - >"$context/new"
    if [ -s "$context/new" ]; then
        echo "build.sh: in no lock file, so the newest of today: $(tr '\n' ',' <"$context/new" | sed 's/,$//; s/,/, /g')" >&2
    fi
    : >.fetched
}

# Sets a profile's option, unless the function says what it wants.
option() {
    if ! cat Cargo.toml .cargo/config.toml 2>/dev/null | awk -v profile="[profile.$1]" -v key="$2" '
        { sub("\r$", "") } /^ *\[/ { section = $1 } section == profile && $1 ~ "^" key "(=|$)" { found = 1 } END { exit !found }'
    then
        export "CARGO_PROFILE_$(echo "$1_$2" | tr 'a-z-' 'A-Z_')=$3"
    fi
}

settings() {
    profile=${PROFILE:-release} folder=$profile
    host=$(rustc -vV | sed -n 's/^host: //p')
    target=${TARGET:-}
    case $profile in
    dev)
        folder=debug
        option dev debug line-tables-only
        ;;
    *)
        # Named even when nothing is crossed: flags for a target are not those for build scripts and macros.
        target=${target:-$host}
        # Chosen by bench/results/profiles.md: a change of the handler is compiled in half the time that it takes when the
        # whole program is optimised again, for a twentieth more bytes.
        option release opt-level 2
        option release lto false
        if [ "${BACKTRACE:-false}" = true ]; then
            option release debug line-tables-only
            option release strip none
        else
            option release strip symbols
        fi
        ;;
    esac
    if [ "$profile" = fat-lto ]; then
        profile=release folder=release
        export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
    fi
    # glibc in the binary, at any address: it runs in an empty root, and still resolves names as glibc does. Joins the flags
    # that the function's .cargo/config.toml has for the target.
    targets='' tests=''
    if [ -n "$target" ]; then
        targets="--target $target" tests="--target $host"
        flags=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
        eval "export $flags=\"\${$flags:-} -C target-feature=+crt-static\""
    fi
    while IFS= read -r line; do
        case $line in *=*) export "${line%%=*}=${line#*=}" ;; esac
    done <<LINES
${BUILD_ENV:-}
LINES
    # What the function's folder says about the toolchain counts, not which one called this script.
    if [ -e rust-toolchain.toml ] || [ -e rust-toolchain ]; then unset RUSTUP_TOOLCHAIN; fi
    if [ "${target:-$host}" != "$host" ] && command -v rustup >/dev/null; then rustup target add "$target" >&2; fi
    # With git at hand, git's own settings count for dependencies from repositories: credentials, keys, proxies.
    if command -v git >/dev/null; then export CARGO_NET_GIT_FETCH_WITH_CLI="${CARGO_NET_GIT_FETCH_WITH_CLI:-true}"; fi
    # Tokens of registries stand in $CARGO_HOME/credentials.toml, unless the function's settings name another place.
    grep -q credential-provider .cargo/config.toml 2>/dev/null ||
        export CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS="${CARGO_REGISTRY_GLOBAL_CREDENTIAL_PROVIDERS:-cargo:token}"
}

# Sources that are copied here may be older than the empty ones that stood for them, and cargo goes by times.
freshen() {
    [ ! -e manifests/built ] || find src function -type f ! -newer manifests/built -exec touch {} +
}

case ${1:-build} in
manifests)
    manifests
    ;;
fetch | dependencies)
    [ -d manifests ] || manifests
    cd manifests/function
    settings
    fetch
    [ "$1" = dependencies ] || exit 0
    # Only saves time: what cannot be built without its sources is built with the function.
    cargo build --locked --profile "$profile" $targets --manifest-path ../Cargo.toml --bins \
        --no-default-features --features "${FEATURES:-}" >&2 || true
    [ "${TEST:-true}" != true ] || cargo test --locked $tests --quiet --no-run >&2 || true
    : >../built
    ;;
test)
    bind
    freshen
    cd function
    settings
    fetch
    cargo test --locked $tests >&2
    ;;
build)
    bind
    freshen
    cd function
    settings
    fetch
    cargo build --locked --profile "$profile" $targets --manifest-path ../Cargo.toml --bin "$binary" \
        --no-default-features --features "${FEATURES:-}" >&2
    echo "$CARGO_TARGET_DIR/${target:+$target/}$folder/$binary"
    ;;
*)
    echo "build.sh: unknown argument $1" >&2
    exit 64
    ;;
esac
