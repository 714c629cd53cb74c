//! The project's own tickets of changes: what they say, which runs were for them, and that they are closed when those end.
//!
//! A ticket is a record of the ledger, like all that becomes of it; nothing is kept beside it.

use std::collections::BTreeMap;

use runbook_model::event::Person;
use runbook_model::record::Record;
use runbook_model::ticket::{Approval, Change, Conclusion, HERE, Seen, Ticket, is_key};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Notice, RunOutcome, Sha256};
use runbook_ports::Store as _;
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_store::SqliteStore;

use crate::failure::Failure;
use crate::project::Project;
use crate::{notices, output, person, record};

/// The types of the notices that are looked at.
const NOTICES: &[&str] = &["change_opened", "change_closed"];

/// A ticket of the project's own, with all that became of it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) ticket: Ticket,
    pub(crate) opened_at: String,
    pub(crate) opened_by: Person,
    /// The record that opened it.
    pub(crate) seq: u64,
    pub(crate) closed: Option<Closed>,
    /// The runs that were for it, oldest first: neither checks alone nor rehearsals.
    pub(crate) runs: Vec<RunIndex>,
}

/// That it is closed.
#[derive(Debug, Clone)]
pub(crate) struct Closed {
    pub(crate) at: String,
    pub(crate) conclusion: Conclusion,
    pub(crate) summary: String,
    /// The run that closed it, its plan, and the leaf hash of its last record; `None`: a person did.
    pub(crate) run: Option<(String, Option<Sha256>, Option<Sha256>)>,
    pub(crate) by: Person,
    pub(crate) seq: u64,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing was done yet, or nothing could be.
    Open,
    /// A run for it is not over.
    InProgress,
    /// A run for it ended, and somebody has to look at hosts.
    NeedsAttention,
    /// It is over.
    Closed,
}

impl State {
    /// The word in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::InProgress => "in_progress",
            State::NeedsAttention => "needs_attention",
            State::Closed => "closed",
        }
    }
}

impl Kept {
    pub(crate) fn state(&self) -> State {
        let attention = |outcome| matches!(outcome, RunOutcome::Failed | RunOutcome::Stuck | RunOutcome::Unknown);
        match self.runs.last() {
            _ if self.closed.is_some() => State::Closed,
            Some(run) if run.outcome.is_some_and(attention) => State::NeedsAttention,
            Some(run) if run.status != RunStatus::Ended => State::InProgress,
            // Of a ticket without a plan its end tells, once it was compared with the hosts.
            Some(run) if self.ticket.plan_sha256.is_some() && self.concluded_by(run).is_some() => State::Closed,
            _ => State::Open,
        }
    }

    /// What a run for it concludes; `None`: nothing. A run of another plan is not what was written down.
    fn concluded_by(&self, run: &RunIndex) -> Option<Conclusion> {
        let of_it = self.ticket.plan_sha256.is_none_or(|plan| plan == run.header.plan_sha256);
        let ended = run.outcome.filter(|_| of_it && run.status == RunStatus::Ended);
        ended.and_then(Conclusion::of)
    }

    /// What the authorizer is asked with. Whether it is approved is for the policy to say: it knows who signed for the plan.
    fn seen(&self, at_ms: u64) -> Seen {
        let Ticket { key, title, owner, hosts, cui, plan_sha256, starts_ms, ends_ms, .. } = self.ticket.clone();
        let change = Change {
            key,
            title,
            state: self.state().name().replace('_', " "),
            approval: Approval::Awaited,
            closed: self.state() == State::Closed,
            starts_ms,
            ends_ms,
            owner: Some(owner),
            assets: hosts.iter().map(ToString::to_string).collect(),
            cui: Some(cui),
            plan_sha256,
            version: self.closed.as_ref().map_or(self.seq, |closed| closed.seq).to_string(),
            url: None,
        };
        Seen { system: HERE.to_owned(), change, answer: None, at_ms }
    }
}

/// All of them, by key, in the order of their opening.
pub(crate) async fn all(store: &SqliteStore) -> Result<Vec<Kept>, Failure> {
    let mut all: Vec<Kept> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (Record { seq, time, .. }, notice) in record::notices(store, NOTICES).await? {
        match notice {
            Notice::ChangeOpened { ticket, by } => {
                places.insert(ticket.key.clone(), all.len());
                let (opened_at, opened_by) = (time, by);
                all.push(Kept { ticket: *ticket, opened_at, opened_by, seq, closed: None, runs: Vec::new() });
            }
            Notice::ChangeClosed { ticket, conclusion, summary, closed_by_run, plan_sha256, last_leaf, by } => {
                let run = closed_by_run.map(|run| (run.to_string(), plan_sha256, last_leaf));
                // Two programs may close it at the same time: the first word counts.
                if let Some(kept) = places.get(&ticket).and_then(|place| all.get_mut(*place)) {
                    kept.closed.get_or_insert(Closed { at: time, conclusion, summary, run, by, seq });
                }
            }
            _ => {}
        }
    }
    if all.is_empty() {
        return Ok(all);
    }
    let mut runs = store.runs().await.map_err(|error| record::failed(&error))?;
    runs.sort_by_key(|index| index.header.started_ms);
    for index in runs {
        let header = &index.header;
        let place = header.ticket.as_ref().and_then(|ticket| places.get(ticket));
        if let Some(place) = place.filter(|_| !header.check_only && !header.rehearses) {
            all[*place].runs.push(index);
        }
    }
    Ok(all)
}

/// How the ticket stands; `None`: it is none of the project's own.
pub(crate) async fn seen(store: &SqliteStore, ticket: &str, at_ms: u64) -> Result<Option<Seen>, Failure> {
    Ok(all(store).await?.iter().find(|kept| kept.ticket.key == ticket).map(|kept| kept.seen(at_ms)))
}

/// Closes the tickets whose runs have ended so that nothing is left to do. Whoever died before that had it done is made up
/// for by the next command. That it cannot be recorded is told, and hinders nothing: the runs are on record.
pub(crate) async fn close_ended(project: &Project, store: &SqliteStore) {
    if let Err(failure) = try_close_ended(project, store).await {
        output::note(format!("that a ticket is closed could not be put on record yet: {}", failure.message));
    }
}

async fn try_close_ended(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    // Where nobody uses them, nothing more is read.
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    if !runs.iter().any(|run| run.header.ticket.as_deref().is_some_and(is_key)) {
        return Ok(());
    }
    let mut closing = Vec::new();
    for kept in all(store).await? {
        let Some(run) = kept.runs.last().filter(|_| kept.closed.is_none()) else { continue };
        let Some(conclusion) = kept.concluded_by(run) else { continue };
        let view = record::view(store, run).await?;
        // A part of the hosts is not the change.
        if !kept.ticket.hosts.iter().all(|host| view.plan.hosts.contains_key(host)) {
            continue;
        }
        let last = store.records(&run.header.run, view.records.saturating_sub(1), 1).await;
        let last = last.map_err(|error| record::failed(&error))?;
        closing.push(Notice::ChangeClosed {
            ticket: kept.ticket.key,
            conclusion,
            summary: runbook_report::summary::in_a_line(&view),
            closed_by_run: Some(run.header.run.clone()),
            plan_sha256: Some(run.header.plan_sha256),
            last_leaf: last.first().map(|sealed| sealed.leaf),
            by: person::operator(),
        });
    }
    if !closing.is_empty() {
        notices::append(project, store, closing, Vec::new()).await?;
    }
    Ok(())
}

/// Of when a run was, for people and programs.
pub(crate) fn times(run: &RunIndex) -> (String, Option<String>) {
    (rfc3339_ms(run.header.started_ms), run.ended_ms.map(rfc3339_ms))
}
