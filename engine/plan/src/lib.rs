//! A runbook, an inventory and parameters become one immutable plan.
//!
//! Pure: what lies on a disk (packaged actions, files that steps send) comes through traits of the caller.

mod batches;
pub mod diff;
mod graph;
mod invariants;
mod order;
pub mod preview;
mod printable;
mod render;
pub mod saved;

pub use batches::batches;
pub use diff::diff;
pub use graph::{dot, mermaid};
pub use invariants::violations;
pub use preview::Preview;
pub use saved::{load, save};
