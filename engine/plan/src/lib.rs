//! A runbook, an inventory and parameters become one immutable plan.
//!
//! [`build`] makes it, [`Preview`] shows it, [`save`] and [`load`] keep it in a file, [`diff()`] compares two. Pure: what
//! lies on a disk (packaged actions, files that steps send) comes through traits of the caller.

mod batches;
mod build;
pub mod diff;
mod graph;
mod invariants;
mod order;
pub mod preview;
mod printable;
mod render;
mod request;
#[cfg(test)]
mod sample;
pub mod saved;

pub use batches::batches;
pub use build::{STEPS_MAX, build, build_rendered};
pub use diff::diff;
pub use graph::{dot, mermaid};
pub use invariants::violations;
pub use preview::Preview;
pub use render::Renderings;
pub use request::{ActionSource, Files, Local, LocalFile, PlanRequest};
pub use saved::{load, save};
