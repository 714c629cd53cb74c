//! The program `runbook`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runbook_cli::main()
}
