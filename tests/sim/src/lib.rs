//! Seeded simulation of whole runs: random plans, a world that misbehaves, a controller that is killed between any two
//! records, and laws that are checked by code which shares nothing with the core's.
//!
//! A failing seed is reproduced by its number: `RUNBOOK_SIM_SEED=123 cargo test -p runbook-sim one_seed -- --nocapture`.

mod controller;
pub mod full;
mod laws;
mod plans;
mod seed;
mod windows;
mod world;

pub use controller::{Marks, Simulated, simulate};
pub use laws::check;
