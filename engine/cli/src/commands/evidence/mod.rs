//! `evidence …`: each command in a file of its own.

mod anchor;
mod export;
pub(crate) mod heartbeat;
mod ledger;
mod pdf;
mod recording;
mod recover;
mod redact;
mod report;
mod restored;
mod rotate;
mod trust;
mod verify;

use crate::arguments::Evidence;
use crate::failure::Failure;
use crate::output::Output;
use crate::project::Project;

/// Runs `evidence …`.
/// The report of a run for somebody outside, as HTML: lines that are withheld from others are not in it.
pub(crate) async fn report_of(project: &Project, run: &str) -> Result<Vec<u8>, Failure> {
    report::redacted(project, run).await
}

pub(crate) async fn run(project: &Project, command: &Evidence, output: Output) -> Result<u8, Failure> {
    match command {
        Evidence::Verify(arguments) => verify::run(project, arguments, output).await,
        Evidence::Export(arguments) => export::run(project, arguments).await,
        Evidence::Anchor(arguments) => anchor::run(project, arguments).await,
        Evidence::Report(arguments) => report::write(project, arguments).await,
        Evidence::Recording(arguments) => recording::write(project, arguments).await,
        Evidence::Heartbeat(arguments) => heartbeat::run(project, arguments, output).await,
        Evidence::Redact(arguments) => redact::run(project, arguments, output).await,
        Evidence::Recover(arguments) => recover::run(project, arguments, output).await,
        Evidence::Restored(arguments) => restored::run(project, arguments, output).await,
        Evidence::RotateKey(arguments) => rotate::run(project, arguments, output).await,
    }
}
