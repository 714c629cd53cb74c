//! The keeper as a program of its own, for the tests. In the product it is a part of `runbook`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runbook_local::keep(std::env::args_os().skip(2))
}
