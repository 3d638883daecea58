//! The function's process: the handler in `function/`, run by the watchdog.

fn main() -> std::process::ExitCode {
    watchdog::main(handler::handler)
}
