//! What attempts of dead runs have left on hosts: who still needs it, what may be removed, what is told.
//!
//! The record of an attempt stays on its host until its outcome is in the record here. So nothing of a run that can still go
//! on is ever removed, and nothing that runs. What belongs to a run that this project does not know was left by another
//! controller, which may come back for it: it is removed only when it is very old, or when that is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::outcome::Exit;
use runbook_model::units::format_size;
use runbook_model::{Host, RunId};
use runbook_ports::transport::{Completion, Offsets, OutputSink, Session, Stream};
use runbook_ports::{Leftover, LeftoverState, Store as _};
use runbook_report::list::LineState;
use runbook_report::style::{Palette, Tone};
use runbook_report::text::{escape_line, fit};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::project::Project;
use crate::record;

/// What another controller left is removed without being asked for when it is so old: longer than anybody leaves a run
/// suspended, holidays included.
pub(crate) const OLD: Duration = Duration::from_secs(30 * 24 * 3600);
/// What is ended gets TERM, and KILL so long after it.
const GRACE: Duration = Duration::from_secs(10);

/// The runs of this project, and where each stands.
pub(crate) type Known = BTreeMap<RunId, (LineState, String)>;

/// What is to be done about leftovers.
pub(crate) struct Care {
    /// `None`: the record cannot be read, so nobody knows who needs what.
    known: Option<Known>,
    clean: Option<Clean>,
}

/// How they are removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clean {
    /// Those of other controllers from this age on.
    pub(crate) older_than: Duration,
    /// End what still runs for runs of this project that have ended.
    pub(crate) end_running: bool,
}

/// Whose run it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Owner {
    Running,
    Suspended,
    Interrupted,
    Ended,
    Elsewhere,
    Unreadable,
}

/// What may be done about it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Remove,
    EndAndRemove,
    Keep(String),
}

/// A leftover of a host, with what became of it now.
#[derive(Debug)]
pub(crate) struct Found {
    host: String,
    left: Leftover,
    owner: Owner,
    runbook: Option<String>,
    removable: bool,
    ended: bool,
    removed: bool,
    kept: Option<String>,
}

/// What one host had.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) found: Vec<Found>,
    /// Why it could not be listed, or not be removed.
    pub(crate) failed: Option<String>,
}

impl Care {
    /// Reads which runs this project knows.
    pub(crate) async fn new(project: &Project, clean: Option<Clean>) -> Self {
        Self { known: known(project).await, clean }
    }

    /// Lists what is on a host, and removes what is to be removed.
    pub(crate) async fn see_to(&self, host: &Host, session: &dyn Session) -> Seen {
        let list = match session.leftovers().await {
            Ok(list) => list,
            Err(obstacle) => return Seen { found: Vec::new(), failed: Some(obstacle.message) },
        };
        let mut seen = Seen::default();
        let mut doomed = Vec::new();
        for left in list {
            let known = self.known.as_ref().map(|known| known.get(&left.run));
            let (owner, runbook) = match known {
                None => (Owner::Unreadable, None),
                Some(None) => (Owner::Elsewhere, None),
                Some(Some((state, runbook))) => (Owner::of(*state), Some(runbook.clone())),
            };
            let mut found = Found {
                host: host.name.to_string(),
                left,
                owner,
                runbook,
                removable: false,
                ended: false,
                removed: false,
                kept: None,
            };
            match judge(&found.left, owner, self.clean.map_or(OLD, |clean| clean.older_than)) {
                Verdict::Remove => {
                    found.removable = true;
                    doomed.push(found.left.name.clone());
                }
                Verdict::EndAndRemove => {
                    if self.clean.is_some_and(|clean| clean.end_running) {
                        match end(session, &found.left).await {
                            Ok(()) => {
                                (found.ended, found.removable) = (true, true);
                                doomed.push(found.left.name.clone());
                            }
                            Err(why) => found.kept = Some(format!("it could not be ended: {why}")),
                        }
                    } else {
                        found.kept = Some(
                            "it still runs, though its run has ended: `runbook doctor --clean --end-running` ends it"
                                .into(),
                        );
                    }
                }
                Verdict::Keep(why) => found.kept = Some(why),
            }
            seen.found.push(found);
        }
        if self.clean.is_some() && !doomed.is_empty() {
            match session.remove_leftovers(&doomed).await {
                Ok(removed) => {
                    for found in seen.found.iter_mut().filter(|found| found.removable) {
                        found.removed = removed.contains(&found.left.name);
                        if !found.removed {
                            found.kept = Some("the host did not remove it, or it runs again".into());
                        }
                    }
                }
                Err(obstacle) => seen.failed = Some(obstacle.message),
            }
        }
        seen
    }
}

impl Owner {
    fn of(state: LineState) -> Self {
        match state {
            LineState::Running => Owner::Running,
            LineState::Interrupted => Owner::Interrupted,
            LineState::Suspended => Owner::Suspended,
            LineState::Ended => Owner::Ended,
        }
    }
}

async fn known(project: &Project) -> Option<Known> {
    let Some(store) = record::open_existing(project).await.ok()? else { return Some(Known::new()) };
    let mut known = Known::new();
    let runs = store.runs().await;
    for index in runs.as_deref().unwrap_or_default() {
        let Ok(line) = record::line(&store, index.clone()).await else {
            store.close().await;
            return None;
        };
        known.insert(line.header.run.clone(), (line.state, line.header.runbook.clone()));
    }
    store.close().await;
    runs.ok().map(|_| known)
}

/// What may be done about a leftover of a run of `owner`.
fn judge(left: &Leftover, owner: Owner, older_than: Duration) -> Verdict {
    let run = &left.run;
    match owner {
        Owner::Unreadable => Verdict::Keep("the record of this project cannot be read, so it may be needed".into()),
        Owner::Running => Verdict::Keep("its run is at work".into()),
        Owner::Suspended => Verdict::Keep(format!("its run is open: `runbook resume {run}` may need it")),
        Owner::Interrupted => Verdict::Keep(format!("its run was interrupted: `runbook resume {run}` needs it")),
        Owner::Ended if left.state.is_over() => Verdict::Remove,
        Owner::Ended => Verdict::EndAndRemove,
        Owner::Elsewhere if !left.state.is_over() => {
            Verdict::Keep("it runs for another project or controller, which alone may end it".into())
        }
        Owner::Elsewhere => match left.age {
            Some(age) if age >= older_than => Verdict::Remove,
            Some(_) => Verdict::Keep(
                "another project or controller left it and may come back for it; `--clean --older-than AGE` removes it"
                    .into(),
            ),
            // Any age will do.
            None if older_than.is_zero() => Verdict::Remove,
            None => Verdict::Keep(
                "another project or controller left it, and the host cannot tell how old it is; `--clean --older-than \
                 0` removes it"
                    .into(),
            ),
        },
    }
}

/// Ends what still runs of an attempt, and proves it.
async fn end(session: &dyn Session, left: &Leftover) -> Result<(), String> {
    let Some(attempt) = &left.attempt else { return Err("its name was too long to be kept".into()) };
    let stop = CancellationToken::new();
    stop.cancel();
    match session.follow(attempt, Offsets::default(), &mut Nowhere, &stop, GRACE).await {
        Completion::Killed | Completion::Exited(_) => Ok(()),
        Completion::NotStarted(obstacle) => Err(obstacle.message),
        Completion::Lost(why) | Completion::Unknown(why) => Err(why),
    }
}

struct Nowhere;

#[async_trait]
impl OutputSink for Nowhere {
    async fn write(&mut self, _stream: Stream, _bytes: &[u8]) {}

    async fn cut_off(&mut self, _stream: Stream, _by: &str) {}
}

impl Found {
    /// Its run is over and it is still there.
    pub(crate) fn is_dead(&self) -> bool {
        !self.removed && (self.removable || (self.owner == Owner::Ended && !self.left.state.is_over()))
    }

    /// It should be gone, and is not.
    pub(crate) fn is_stuck(&self, cleaning: bool) -> bool {
        cleaning && self.removable && !self.removed
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.left.bytes
    }

    fn state(&self) -> (&'static str, String) {
        match &self.left.state {
            LeftoverState::Running { .. } => ("running", "running".into()),
            LeftoverState::Exited(Exit::Code(code)) => ("ended", format!("ended with {code}")),
            LeftoverState::Exited(Exit::Signal(signal)) => ("ended", format!("ended by signal {signal}")),
            LeftoverState::Killed => ("killed", "was stopped".into()),
            LeftoverState::NeverBegan => ("never_began", "never began".into()),
            LeftoverState::Lost(_) => ("lost", "end not known".into()),
            LeftoverState::Left(_) => ("left", "processes left".into()),
        }
    }

    /// As in `doctor/v1`.
    pub(crate) fn json(&self) -> Value {
        let (exit_code, signal) = match &self.left.state {
            LeftoverState::Exited(Exit::Code(code)) => (Some(*code), None),
            LeftoverState::Exited(Exit::Signal(signal)) => (None, Some(*signal)),
            _ => (None, None),
        };
        let reason = match &self.left.state {
            LeftoverState::Lost(why) | LeftoverState::Left(why) => Some(why),
            _ => None,
        };
        let attempt = self.left.attempt.as_ref();
        json!({
            "host": self.host,
            "name": self.left.name,
            "run_id": self.left.run,
            "run": self.owner,
            "runbook": self.runbook,
            "step": attempt.map(|attempt| attempt.step.as_str()),
            "for_host": attempt.map(|attempt| attempt.host.as_str()),
            "attempt": attempt.map(|attempt| attempt.attempt),
            "state": self.state().0,
            "exit_code": exit_code,
            "signal": signal,
            "reason": reason,
            "account": self.left.account,
            "age_s": self.left.age.map(|age| age.as_secs()),
            "bytes": self.left.bytes,
            "removable": self.removable,
            "ended": self.ended,
            "removed": self.removed,
            "kept_because": self.kept,
        })
    }
}

/// The list as text.
pub(crate) fn text(all: &[&Found], palette: Palette) -> String {
    let mut out = String::new();
    if all.is_empty() {
        return out;
    }
    let hosts = all.iter().map(|found| found.host.chars().count()).max().unwrap_or(4).clamp(4, 24);
    let total = all.iter().map(|found| found.left.bytes).sum();
    let title = format!("attempts' records on hosts: {}, {}", all.len(), format_size(total));
    let _ = writeln!(out, "\n{}", palette.paint(Tone::Dim, &title));
    for found in all {
        let what = match &found.left.attempt {
            Some(attempt) => format!("{} for {}, attempt {}", attempt.step, attempt.host, attempt.attempt),
            None => found.left.name.clone(),
        };
        let age = found.left.age.map_or_else(|| "age not known".to_owned(), |age| format!("{} old", days(age)));
        let run = runbook_report::list::short(found.left.run.as_str());
        let fate = if found.removed && found.ended {
            "ended and removed".to_owned()
        } else if found.removed {
            "removed".to_owned()
        } else if let Some(why) = &found.kept {
            format!("kept: {why}")
        } else {
            "may be removed: `runbook doctor --clean`".to_owned()
        };
        let line = format!(
            "{}  run {run}  {what}: {}, {age}, {}",
            fit(&found.host, hosts),
            found.state().1,
            format_size(found.left.bytes)
        );
        let _ = writeln!(out, "{}\n  {}", escape_line(line.as_bytes()), escape_line(fate.as_bytes()));
    }
    out
}

/// An age in its largest unit.
fn days(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(state: LeftoverState, age: Option<u64>) -> Leftover {
        Leftover {
            name: "r/s@h.1".into(),
            run: "r".into(),
            attempt: None,
            state,
            account: None,
            age: age.map(|days| Duration::from_secs(days * 86_400)),
            bytes: 0,
        }
    }

    #[test]
    fn nothing_that_may_be_needed_is_removed() {
        let running = || LeftoverState::Running { group: "7".into() };
        let over = [
            LeftoverState::Exited(Exit::Code(0)),
            LeftoverState::Killed,
            LeftoverState::NeverBegan,
            LeftoverState::Lost("it was restarted".into()),
        ];
        let not_over = [running(), LeftoverState::Left("processes are left".into())];
        for age in [None, Some(0), Some(400)] {
            for state in over.iter().chain(&not_over) {
                for owner in [Owner::Running, Owner::Suspended, Owner::Interrupted, Owner::Unreadable] {
                    let verdict = judge(&left(state.clone(), age), owner, Duration::ZERO);
                    assert!(matches!(verdict, Verdict::Keep(_)), "{owner:?} {state:?} {verdict:?}");
                }
            }
            for state in &over {
                assert_eq!(judge(&left(state.clone(), age), Owner::Ended, OLD), Verdict::Remove);
                let elsewhere = judge(&left(state.clone(), age), Owner::Elsewhere, OLD);
                assert_eq!(elsewhere == Verdict::Remove, age == Some(400), "{state:?} {age:?}");
                assert_eq!(judge(&left(state.clone(), age), Owner::Elsewhere, Duration::ZERO), Verdict::Remove);
            }
            for state in &not_over {
                assert_eq!(judge(&left(state.clone(), age), Owner::Ended, OLD), Verdict::EndAndRemove);
                let elsewhere = judge(&left(state.clone(), age), Owner::Elsewhere, Duration::ZERO);
                assert!(matches!(elsewhere, Verdict::Keep(_)));
            }
        }
    }
}
