//! The function as the template builds it.

fn main() -> std::process::ExitCode {
    watchdog::main(etl_oauth::handler)
}
