//! `evidence …`: each command in a file of its own.

mod export;
mod pdf;
mod recording;
mod report;
mod rotate;
mod verify;

use crate::arguments::Evidence;
use crate::failure::Failure;
use crate::output::Output;
use crate::project::Project;

/// Runs `evidence …`.
pub(crate) async fn run(project: &Project, command: &Evidence, output: Output) -> Result<u8, Failure> {
    match command {
        Evidence::Verify(arguments) => verify::run(project, arguments, output).await,
        Evidence::Export(arguments) => export::run(project, arguments).await,
        Evidence::Report(arguments) => report::write(project, arguments).await,
        Evidence::Recording(arguments) => recording::write(project, arguments).await,
        Evidence::RotateKey(arguments) => rotate::run(project, arguments, output).await,
    }
}
