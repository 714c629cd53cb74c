//! The run as a deterministic state machine.
//!
//! [`Run::input`] takes a fact and says what was decided; [`Run::replay`] folds what was decided earlier; after either,
//! [`Run::outstanding`] says what is to be done in the world. It is derived from the state alone, so running and
//! recovering are the same code. No IO, no clock, no randomness: time comes with each input.

use std::collections::BTreeSet;
use std::sync::Arc;

use runbook_model::command::Subject;
use runbook_model::event::RunHeader;
use runbook_model::host::Facts;
use runbook_model::{Cell, Command, Event, HostName, Input, Plan, RunOutcome, Sha256};

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    outstanding: BTreeSet<Command>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Something is outstanding.
    Running,
    /// It waits for an operator.
    Suspended(RunOutcome),
    /// It has ended.
    Ended(RunOutcome),
}

/// How [`Run::outstanding`] has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Commands that are outstanding now and were not before.
    pub started: Vec<Command>,
    /// Commands that were outstanding and are not any more.
    pub withdrawn: Vec<Command>,
}

impl Run {
    /// A run that has not begun.
    pub fn new(_plan: Arc<Plan>, _header: Arc<RunHeader>) -> Self {
        Self { outstanding: BTreeSet::new() }
    }

    /// A run that takes `finished` back, with its own header. `finished` must have ended or be suspended.
    pub fn taking_back(_header: Arc<RunHeader>, finished: Run) -> Self {
        finished
    }

    /// Takes a fact; the events are already folded into the state when this returns.
    pub fn input(&mut self, _now_ms: u64, _input: Input) -> Vec<Event> {
        Vec::new()
    }

    /// Folds an event that was decided earlier.
    pub fn replay(&mut self, _event: &Event) {}

    /// What is to be done in the world now.
    pub fn outstanding(&self) -> &BTreeSet<Command> {
        &self.outstanding
    }

    /// How that has changed since this was last called (or since the run was made).
    pub fn delta(&mut self) -> Delta {
        Delta::default()
    }

    /// Where the run stands.
    pub fn status(&self) -> Status {
        Status::Running
    }

    /// A host's facts, once it was connected.
    pub fn facts(&self, _host: &HostName) -> Option<&Facts> {
        None
    }

    /// The reference of the snapshot that the cell took.
    pub fn snapshot(&self, _cell: &Cell) -> Option<&str> {
        None
    }

    /// The manifest that was measured.
    pub fn measured(&self, _host: &HostName, _subject: &Subject) -> Option<Sha256> {
        None
    }

    /// The host on which a `once` step that this cell shares was really done.
    pub fn done_on(&self, _cell: &Cell) -> Option<&HostName> {
        None
    }
}
