//! The command line of `etl-oauth`, as `cargo install --features cli` builds it.

fn main() -> std::process::ExitCode {
    etl_oauth::cli::main()
}
