//! `evidence …`: each command in a file of its own.

mod pdf;
mod recording;
mod report;
mod verify;

use crate::arguments::Evidence;
use crate::failure::Failure;
use crate::output::Output;
use crate::project::Project;

/// Runs `evidence …`.
pub(crate) async fn run(project: &Project, command: &Evidence, output: Output) -> Result<u8, Failure> {
    match command {
        Evidence::Verify(arguments) => verify::run(project, arguments, output).await,
        Evidence::Export(_) => Err(later("evidence export")),
        Evidence::Report(arguments) => report::write(project, arguments).await,
        Evidence::Recording(arguments) => recording::write(project, arguments).await,
    }
}

fn later(what: &str) -> Failure {
    Failure::usage("RB0612", format!("`runbook {what}` is not in this version"))
        .next("`runbook evidence verify RUN` checks the record; `runbook show RUN --json` has all of it")
}
