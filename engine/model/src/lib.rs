//! Plain data of the engine: ids, plans, events, commands, outcomes, digests.
//!
//! Everything that two crates tell each other, or that is stored, is defined here and nowhere else. No IO, no
//! async, no clock, no randomness: time and identity always arrive as values. Every type that is stored or hashed is
//! a versioned serde type; its JSON is written by [`canonical`], whose bytes do not depend on platform, locale or the
//! order in which keys were given.

pub mod access;
pub mod approval;
pub mod canonical;
pub mod command;
pub mod digest;
pub mod evaluate;
pub mod event;
pub mod host;
pub mod id;
pub mod input;
pub mod manifest;
pub mod monitoring;
pub mod news;
pub mod notice;
pub mod origin;
pub mod outcome;
pub mod people;
pub mod permit;
pub mod plan;
pub mod record;
pub mod rehearsal;
pub mod retention;
pub mod review;
pub mod rules;
pub mod schedule;
pub mod session;
pub mod shell;
pub mod ticket;
pub mod timing;
pub mod units;
pub mod windows;

pub use command::{Command, Timer};
pub use digest::Sha256;
pub use event::Event;
pub use host::{Host, Os};
pub use id::{AttemptId, Cell, HostName, RunId, StepId};
pub use input::{Input, Stamp};
pub use news::{News, NewsKind};
pub use notice::Notice;
pub use outcome::{AttemptOutcome, HostOutcome, OutputRef, RunOutcome};
pub use plan::{Phase, Plan, Step};
