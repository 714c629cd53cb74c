//! What attempts have left on a host.

use std::time::Duration;

use runbook_model::RunId;
use runbook_model::id::AttemptId;
use runbook_model::outcome::Exit;

/// The record of a claimed attempt that is still on its host: the attempt goes on, or its controller has not fetched how it
/// ended, or did not live to remove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What the session calls it. Safe in a shell.
    pub name: String,
    /// Whose run. Other controllers leave things on hosts too.
    pub run: RunId,
    /// Which attempt; `None` where its name was too long to tell.
    pub attempt: Option<AttemptId>,
    /// What became of it.
    pub state: LeftoverState,
    /// The account that its step became.
    pub account: Option<String>,
    /// How long ago anything of it was written last, by the host's clock; `None` where the host cannot tell.
    pub age: Option<Duration>,
    /// What it takes on the host, its outputs above all.
    pub bytes: u64,
}

/// What became of an attempt that left something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftoverState {
    /// It runs.
    Running {
        /// Its process group.
        group: String,
    },
    /// It ended by itself.
    Exited(Exit),
    /// It was stopped.
    Killed,
    /// It never began, and never will.
    NeverBegan,
    /// It had begun, and nothing says how it ended. Nothing of it is left running.
    Lost(String),
    /// The same, and processes of it may be left.
    Left(String),
}

impl LeftoverState {
    /// Nothing of it runs, for sure.
    pub fn is_over(&self) -> bool {
        !matches!(self, LeftoverState::Running { .. } | LeftoverState::Left(_))
    }
}
