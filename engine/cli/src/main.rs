//! The program `runbook`: arguments, wiring, exit codes.

mod arguments;

use clap::Parser as _;

fn main() {
    let _arguments = arguments::Arguments::parse();
}
