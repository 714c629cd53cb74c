//! Outcomes that nobody knows: which they are, what to look at, and what settles them.

use runbook_model::outcome::{AttemptOutcome, HostOutcome};
use runbook_model::plan::{Phase, Step};
use runbook_model::{HostName, StepId};

use crate::list::short;
use crate::text::list;
use crate::view::{HostView, RunView, StepView};

/// Paths that are named.
const PATHS_NAMED: usize = 4;

/// The steps of a host whose outcome an operator has to settle, in the order of the plan.
pub(crate) fn open<'a>(view: &'a RunView, host: &'a HostView) -> impl Iterator<Item = (&'a Step, &'a StepView)> {
    let waits = host.outcome == Some(HostOutcome::Unknown);
    view.plan.steps.iter().filter(move |_| waits).filter_map(move |step| {
        let cell = host.steps.get(&step.id)?;
        let changes = matches!(step.phase, Phase::Execute | Phase::Rollback) && !step.read_only;
        let open = cell.outcome == Some(AttemptOutcome::Unknown) && cell.resolved.is_none();
        (open && changes).then_some((step, cell))
    })
}

/// What to look at before it is settled.
pub(crate) fn look_at(view: &RunView, host: &HostName, step: &Step, cell: &StepView) -> String {
    let mut text = format!("look on {host} whether it happened");
    if !step.changes.is_empty() {
        let paths: Vec<&str> = step.changes.iter().map(|path| path.0.as_str()).collect();
        text.push_str(&format!(" (it may change {})", list(&paths, PATHS_NAMED)));
    }
    let report = cell.attempts.last().and_then(|attempt| attempt.report.as_ref());
    if report.is_some_and(|report| report.stdout.bytes + report.stderr.bytes > 0) {
        let (run, id) = (run(view), &step.id);
        text.push_str(&format!("; what it printed until then: `runbook logs {run} --host {host} --step {id}`"));
    }
    text
}

/// The command that settles it.
pub(crate) fn settle(view: &RunView, host: &HostName, step: &StepId) -> String {
    format!("runbook resolve {} {host} {step} --as succeeded|failed --why \"…\"", run(view))
}

fn run(view: &RunView) -> String {
    view.run().map(|run| short(run.as_str()).to_owned()).unwrap_or_default()
}
