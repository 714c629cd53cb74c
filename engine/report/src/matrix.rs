//! The matrix of a run: which cells it announced, and what became of each. Gaps are cells too.

use runbook_model::outcome::AttemptOutcome;
use runbook_model::plan::{Phase, Role, Step};

use crate::style::words;
use crate::view::{HostView, RunState, RunView, StepView};

/// A cell: a step of the plan on a host.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The step.
    pub step: &'a Step,
    /// What was recorded of it, if anything.
    pub view: Option<&'a StepView>,
    /// What became of it; `None` while that is open.
    pub outcome: Option<AttemptOutcome>,
    /// Why, for people; empty for a plain success or while it is open.
    pub reason: String,
    /// The record holds an outcome for it.
    pub recorded: bool,
}

/// The cells of one host, in the plan's order: all of the phases that the run announced, and of `rollback` and the
/// release of snapshots those that came into play.
pub fn rows<'a>(run: &'a RunView, host: &'a HostView) -> Vec<Row<'a>> {
    run.plan.steps.iter().filter_map(|step| row(run, host, step)).collect()
}

fn row<'a>(run: &'a RunView, host: &'a HostView, step: &'a Step) -> Option<Row<'a>> {
    let view = host.steps.get(&step.id);
    if view.is_none() && !announced(run, host, step) {
        return None;
    }
    let recorded = view.and_then(|view| view.outcome);
    let over = host.outcome.is_some() || run.state != RunState::Running;
    let running = view.is_some_and(|view| view.attempts.last().is_some_and(|attempt| attempt.is_running()));
    let outcome = match recorded {
        Some(outcome) => Some(outcome),
        // An attempt that began and has no outcome on record is never called not started.
        None if over && running => Some(AttemptOutcome::Unknown),
        None if over => Some(AttemptOutcome::NotStarted),
        None => None,
    };
    let reason = match (recorded, outcome) {
        (Some(_), _) => view.map(|view| view.reason.clone()).unwrap_or_default(),
        (None, Some(AttemptOutcome::Unknown)) => "it began, and the record has no end of it".to_owned(),
        (None, Some(_)) => not_reached(run, host, step),
        (None, None) => String::new(),
    };
    Some(Row { step, view, outcome, reason, recorded: recorded.is_some() })
}

/// Whether a cell of which nothing is recorded belongs to the run's matrix on this host.
fn announced(run: &RunView, host: &HostView, step: &Step) -> bool {
    let header = run.header.as_ref();
    if header.is_some_and(|header| header.check_only) {
        return step.phase == Phase::Prechecks;
    }
    let takes_back = header.is_some_and(|header| header.takes_back.is_some());
    match (&step.role, step.phase) {
        (Role::Release { .. }, _) => false,
        (_, Phase::Rollback) => host.phases.contains_key(&Phase::Rollback),
        (_, Phase::Finally) => !takes_back || host.phases.contains_key(&Phase::Finally),
        _ => !takes_back,
    }
}

/// Why a cell was not reached, from what is recorded of its host.
fn not_reached(run: &RunView, host: &HostView, step: &Step) -> String {
    if host.started_ms.is_none() {
        return match (&run.cancel, run.budget) {
            _ if !host.reason.is_empty() => host.reason.clone(),
            (Some((by, _)), _) => format!("{} cancelled the run before this host was started", by.name),
            (None, Some((spent, budget))) => {
                format!("the host was not started: {spent} failed, and the failure budget is {budget}")
            }
            (None, None) => "the host was not started".to_owned(),
        };
    }
    if host.phases.contains_key(&step.phase) {
        return match step.phase {
            Phase::Rollback => "it was not due".to_owned(),
            phase => format!("{phase} ended before this step"),
        };
    }
    match (host.outcome, host.reason.as_str()) {
        (Some(outcome), "") => format!("{} did not begin: the host {}", step.phase, became(outcome)),
        (_, reason) if !reason.is_empty() => format!("{} did not begin: {reason}", step.phase),
        _ => format!("{} did not begin", step.phase),
    }
}

fn became(outcome: runbook_model::HostOutcome) -> String {
    use runbook_model::HostOutcome as H;
    match outcome {
        H::Succeeded => "had succeeded".into(),
        H::Blocked => "was blocked".into(),
        H::RolledBack => "was rolled back".into(),
        H::Cancelled => "was cancelled".into(),
        other => format!("ended {}", words(other.name())),
    }
}

/// A step's name as people are told it: its own, else its id.
pub(crate) fn label(step: &Step) -> &str {
    if step.name.is_empty() { step.id.as_str() } else { &step.name }
}
