//! The thin loop between the core and the world.
//!
//! [`Engine`] is built from ports. It opens runs, resumes them, takes them back, settles unknown outcomes and releases
//! snapshots; in between it does what the core says and nothing else: facts in, events to the store, and only what is
//! durable is acted upon. It makes no decision about hosts, steps or outcomes, and knows no transport, store or language.
//!
//! Promises: an attempt is on record before anything is sent for it; when something cannot be recorded, nothing further
//! is started ([`DriverError::Evidence`]); the outcome of one step and the intent of the next share one append, and so
//! do the steps of many hosts; memory does not grow with output, and connections are bounded ([`Limits`]).

mod access;
mod attempt;
mod clock;
mod closing;
mod control;
mod engine;
mod error;
mod history;
pub mod installation;
mod journal;
mod leash;
mod leftovers;
mod look;
pub mod measure;
mod memory;
mod monitoring;
pub mod output;
mod permits;
mod prepare;
mod release;
mod sealing;
mod secrets;
mod sessions;
mod work;
mod world;

pub use clock::SystemClock;
pub use control::Control;
pub use engine::{Engine, Limits, Loaded, RunRequest, RunResult, RunState};
pub use error::DriverError;
pub use monitoring::Muting;
pub use permits::Permits;
pub use secrets::LocalSecrets;
pub use world::controller;
