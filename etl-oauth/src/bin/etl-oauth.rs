//! The command line: see [`etl_oauth::cli`].

fn main() -> std::process::ExitCode {
    etl_oauth::cli::main()
}
