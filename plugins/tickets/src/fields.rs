//! What the states and fields of a system mean.

use runbook_model::ticket::Approval;
use runbook_ports::tickets::End;

/// Which fields and states mean what: every system of this kind has its own. Names of states are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// States in which the work may be done.
    pub approved: Vec<String>,
    /// States that say no.
    pub rejected: Vec<String>,
    /// States of work that is over, beside those that Jira itself counts as done.
    pub closed: Vec<String>,
    /// The field with the beginning (`customfield_10010`).
    pub starts: Option<String>,
    /// The field with the end.
    pub ends: Option<String>,
    /// The field with the hosts (`labels`, or a custom one).
    pub assets: Option<String>,
    /// The field that says whether CUI is concerned.
    pub cui: Option<String>,
    /// To where it is moved.
    pub moves: Moves,
}

/// The states to which a ticket is moved; without one it stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moves {
    /// When the work begins.
    pub begun: Option<String>,
    /// When it was done.
    pub done: Option<String>,
    /// When it was not done, or taken back.
    pub failed: Option<String>,
}

impl Fields {
    /// Whether a change in that state is approved.
    pub(crate) fn approval(&self, state: &str) -> Approval {
        match (is_one(&self.rejected, state), is_one(&self.approved, state)) {
            (true, _) => Approval::Rejected,
            (false, true) => Approval::Approved,
            (false, false) => Approval::Awaited,
        }
    }

    /// Whether it is over.
    pub(crate) fn is_closed(&self, state: &str) -> bool {
        is_one(&self.closed, state)
    }
}

impl Moves {
    /// To where a ticket is moved by the entry. Where somebody still has to look, it stays where it is.
    pub(crate) fn of(&self, end: Option<&End<'_>>) -> Option<&str> {
        let state = match end {
            None => &self.begun,
            Some(end) if end.succeeded => &self.done,
            Some(end) if end.settled => &self.failed,
            Some(_) => &None,
        };
        state.as_deref()
    }
}

fn is_one(states: &[String], state: &str) -> bool {
    states.iter().any(|one| one.eq_ignore_ascii_case(state))
}
