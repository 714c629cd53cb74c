//! `retention …`: how long evidence is kept, what holds it, and how it goes.

mod blobs;
mod hold;
mod list;
mod purge;
mod request;
mod signers;

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use runbook_model::retention::{Class, Periods, Retention};
use runbook_model::{Notice, RunId};
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_store::SqliteStore;

use crate::arguments::upkeep::Retention as Command;
use crate::failure::Failure;
use crate::output::Output;
use crate::project::Project;
use crate::record;

/// Runs `retention …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list::run(project, arguments, output).await,
        Command::Hold(arguments) => hold::place(project, arguments).await,
        Command::Lift(arguments) => hold::lift(project, arguments).await,
        Command::Request(arguments) => request::run(project, arguments).await,
        Command::Purge(arguments) => purge::run(project, arguments).await,
    }
}

/// A hold that was placed and not lifted.
pub(crate) struct Hold {
    pub(crate) name: String,
    /// Empty: all runs.
    pub(crate) runs: BTreeSet<RunId>,
    /// Until when it is in force; `None`: until it is lifted.
    pub(crate) until_ms: Option<u64>,
}

impl Hold {
    /// Whether it keeps a run at this time.
    fn keeps(&self, run: &RunId, now_ms: u64) -> bool {
        let covers = self.runs.is_empty() || self.runs.contains(run);
        covers && self.until_ms.is_none_or(|until| now_ms < until)
    }
}

/// What the record says of retention.
pub(crate) struct Kept {
    /// Holds that were not lifted; their time may be over.
    pub(crate) holds: Vec<Hold>,
    /// Runs whose contents were removed, with the request for it.
    pub(crate) purged: BTreeMap<RunId, runbook_model::Sha256>,
}

impl Kept {
    async fn read(store: &SqliteStore) -> Result<Self, Failure> {
        let mut holds: Vec<Hold> = Vec::new();
        let mut purged = BTreeMap::new();
        for (_, notice) in record::notices(store, &["hold_placed", "hold_lifted", "purged"]).await? {
            match notice {
                Notice::HoldPlaced { hold, runs, until_ms, .. } => {
                    holds.push(Hold { name: hold, runs: runs.into_iter().collect(), until_ms });
                }
                Notice::HoldLifted { hold, .. } => holds.retain(|known| known.name != hold),
                Notice::Purged { purged_run, request, .. } => {
                    purged.insert(purged_run, request);
                }
                _ => {}
            }
        }
        Ok(Self { holds, purged })
    }

    /// Names of the holds that keep a run now.
    fn holding(&self, run: &RunId, now_ms: u64) -> Vec<&str> {
        self.holds.iter().filter(|hold| hold.keeps(run, now_ms)).map(|hold| hold.name.as_str()).collect()
    }
}

/// Until when a run is kept.
pub(crate) struct Term {
    pub(crate) class: Class,
    /// Months from its end: what was promised when it was opened, or more by the settings of today.
    pub(crate) months: u32,
    /// Unix ms; `None` while the run has not ended.
    pub(crate) until_ms: Option<u64>,
}

impl Term {
    /// By what was promised and by the settings of today, whichever is later. A run of a version that promised nothing
    /// counts as of the class `cui`: what is not known is kept longest.
    pub(crate) fn of(run: &RunIndex, today: &Periods) -> Self {
        let promised = run.header.retention.unwrap_or(Retention { class: Class::Cui, months: today.cui });
        let months = promised.months.max(today.months(promised.class));
        let ended = match run.status {
            RunStatus::Ended => run.ended_ms,
            RunStatus::Running | RunStatus::Suspended => None,
        };
        // What cannot be computed never comes.
        let until_ms = ended.map(|ended| after_months(ended, months).unwrap_or(u64::MAX));
        Self { class: promised.class, months, until_ms }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until| until <= now_ms)
    }
}

/// The same day so many months later, or the last of a shorter month (UTC).
fn after_months(from_ms: u64, months: u32) -> Option<u64> {
    let from = jiff::Timestamp::from_millisecond(i64::try_from(from_ms).ok()?).ok()?.to_zoned(TimeZone::UTC);
    let then = from.checked_add(i64::from(months).months()).ok()?;
    u64::try_from(then.timestamp().as_millisecond()).ok()
}

/// The time.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let ms = |text: &str| u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap();
        assert_eq!(after_months(ms("2026-01-31T10:00:00Z"), 1), Some(ms("2026-02-28T10:00:00Z")));
        assert_eq!(after_months(ms("2024-02-29T00:00:00Z"), 36), Some(ms("2027-02-28T00:00:00Z")));
        assert_eq!(after_months(u64::MAX, 12), None);
    }

    #[test]
    fn a_hold_covers_its_runs_until_its_day() {
        let hold = |runs: &[&str], until_ms| Hold {
            name: "audit".into(),
            runs: runs.iter().map(|run| RunId::from(*run)).collect(),
            until_ms,
        };
        assert!(hold(&[], None).keeps(&"a".into(), u64::MAX));
        assert!(hold(&["a"], Some(10)).keeps(&"a".into(), 9));
        assert!(!hold(&["a"], Some(10)).keeps(&"a".into(), 10));
        assert!(!hold(&["a"], None).keeps(&"b".into(), 0));
    }
}
