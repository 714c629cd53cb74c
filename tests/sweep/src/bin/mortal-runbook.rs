//! `runbook`, of the same parts as the product, but it can be told to die: see [`runbook_sweep::mortal`].

use std::process::ExitCode;

fn main() -> ExitCode {
    runbook_cli::main_with(runbook_sweep::mortal::between)
}
