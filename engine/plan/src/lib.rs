//! A runbook, an inventory and parameters become one immutable plan.
//!
//! Pure: what lies on a disk (packaged actions, files that steps send) comes through traits of the caller.

mod batches;
mod graph;
mod invariants;
mod order;
mod printable;
pub mod saved;

pub use batches::batches;
pub use graph::{dot, mermaid};
pub use invariants::violations;
pub use saved::{load, save};
