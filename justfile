# What people do daily. `just` lists it.

[private]
default:
    @just --list

# Gateway, function and sandbox provider on this machine
up *ARGUMENTS:
    cargo run -- up {{ARGUMENTS}}

# Every test that needs only Rust
test:
    cargo test --workspace

# Format and lints, as CI wants them
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features tests/components -- -D warnings

# Every page of the function with sample data
pages:
    cargo run -p etl-oauth --example pages -- target/pages

# The book in a browser
book:
    mdbook serve --open docs

# Writes anew what tests compare with the code; review the difference
golden:
    UPDATE=1 cargo test -p token-keeper --test providers
    UPDATE=1 cargo test -p tests --test book

# The renewal simulation with so many seeds
simulate SEEDS="100000":
    SIM_SEEDS={{SEEDS}} cargo test -p token-keeper --test simulation --release

# The tests on real components
e2e:
    tests/e2e.sh

# All that CI does
ci:
    .ci/run
