//! The full simulator: the real driver over simulated hosts, links, disks and clocks, on tokio's paused time.
//!
//! | file | what |
//! | --- | --- |
//! | `scenario` | all of a seed as data: a plan and a list of faults |
//! | `draw` | a scenario from a seed |
//! | `text` | a scenario as a text that people read, and back: regression cases are such texts |
//! | `hosts`, `host_world` | a transport whose hosts reboot, vanish, fill up, and lose their links at chosen moments |
//! | `disk` | a store whose appends fail, and on which controllers die or are succeeded |
//! | `clock` | a wall clock that is set forwards and back |
//! | `live` | controllers one after the other, and an operator, until nothing more is to be done |
//! | `truth` | laws that compare what was recorded with what really happened |
//! | `shrink` | the smallest scenario that still breaks a law |
//!
//! A run is a function of its scenario alone: every fault is tied to an attempt, an append or a moment, never drawn while
//! the run goes on, so that taking one fault away does not move the others.

mod clock;
mod disk;
mod draw;
mod evaluate;
mod host_world;
mod hosts;
mod live;
mod scenario;
mod shrink;
mod text;
mod truth;

pub use draw::draw;
pub use live::{Lived, live};
pub use scenario::{Deed, Fault, Mishap, Scenario};
pub use shrink::shrink;
pub use truth::{Wonder, broken_laws};
