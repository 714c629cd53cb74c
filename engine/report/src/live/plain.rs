//! The live view for a file or a CI log: a line per notable event.

use runbook_model::access::Withdrawal;
use runbook_model::event::Event;
use runbook_model::outcome::AttemptOutcome;
use runbook_model::record::Record;

use crate::json::{attempt_reason, person};
use crate::rehearsal;
use crate::style::words;
use crate::text::{clock, count, elapsed, escape_line, parse_time, time_of_day};
use crate::view::RunView;

/// Beyond so many hosts, steps that succeed are not told one by one.
const HOSTS_STEP_BY_STEP: usize = 20;

/// The line that says what `record` means; `None` when it is not notable. `view` is the run with the record already
/// folded in.
pub fn line(view: &RunView, record: &Record) -> Option<String> {
    let now = parse_time(&record.time).unwrap_or(view.last_ms);
    let text = sentence(view, &record.event, now)?;
    Some(format!("{}  {}", time_of_day(now), escape_line(text.as_bytes())))
}

fn sentence(view: &RunView, event: &Event, now: u64) -> Option<String> {
    let step_by_step = view.hosts.len() <= HOSTS_STEP_BY_STEP;
    Some(match event {
        Event::RunOpened(header) => {
            format!("run {} of {} on {}", header.run, header.runbook, count(view.hosts.len(), "host"))
        }
        Event::RunResumed { by, .. } => format!("taken up again by {}", person(by)),
        Event::PermitChanged { .. } => {
            "the windows have changed: hosts that have not begun go by them from now on".to_owned()
        }
        Event::HostCutOff { host, reason, .. } => format!("{host}: {reason}"),
        Event::CancelAsked { by } => {
            format!("cancelled by {}: running steps are ended, hosts that changed are rolled back", person(by))
        }
        Event::BatchStarted { batch } if view.plan.batches.len() > 1 => {
            let hosts = view.plan.batches.get(*batch).map_or(0, Vec::len);
            format!("batch {} of {}: {}", batch + 1, view.plan.batches.len(), count(hosts, "host"))
        }
        Event::BatchEnded { batch, soak_until_ms: Some(until) } => {
            format!("batch {} ended; the next may begin in {}", batch + 1, clock(until.saturating_sub(now)))
        }
        Event::BudgetSpent { spent, budget } => {
            format!("failure budget spent ({spent} failed, {budget} allowed): no further host is started")
        }
        Event::AccessInstalled { host, .. } => format!("{host}: has its access for this run"),
        Event::SessionClosed { host, closed } => {
            let left = closed.left().map(|left| format!("a session stays OPEN: {left}"));
            let access = closed.access.as_deref();
            let kept =
                access.and_then(Withdrawal::left).map(|left| format!("ACCESS is not shown to be withdrawn: {left}"));
            let lapses = access.and_then(Withdrawal::lapses);
            let gone = (access.is_some() && kept.is_none() && lapses.is_none())
                .then(|| "its access is withdrawn, and that was tried".to_owned());
            let said: Vec<String> = [left, kept, lapses, gone].into_iter().flatten().collect();
            if said.is_empty() {
                return None;
            }
            format!("{host}: {}", said.join("; "))
        }
        Event::SessionFailed { host, obstacle } => format!("{host}: {}", obstacle.message),
        Event::PhaseStarted { host, phase, reason: Some(reason), .. } => format!("{host}: {phase} begins: {reason}"),
        Event::PhaseStarted { host, phase, .. } if step_by_step => format!("{host}: {phase}"),
        Event::AttemptLost { attempt, reason, deadline_ms, not_begun } => {
            let until = time_of_day(*deadline_ms);
            let what = if *not_begun { "waiting for the host" } else { "asking after it" };
            format!("{}: {} lost, {what} until {until} UTC: {reason}", attempt.host, attempt.step)
        }
        Event::RetryScheduled { attempt, at_ms, reason } => {
            let delay = elapsed(at_ms.saturating_sub(now));
            format!("{}: {} again in {delay} (attempt {}): {reason}", attempt.host, attempt.step, attempt.attempt)
        }
        Event::StepEnded { cell, outcome, reason, .. } => {
            let known = view.hosts.get(&cell.host).and_then(|host| host.steps.get(&cell.step));
            let attempt = known.and_then(|known| known.attempts.last());
            let good = matches!(outcome, AttemptOutcome::Succeeded | AttemptOutcome::Skipped);
            // What never began is told once, by its host.
            if (good && !step_by_step) || (*outcome == AttemptOutcome::NotStarted && attempt.is_none()) {
                return None;
            }
            let took = attempt.and_then(|attempt| attempt.report.as_ref()).map(|r| elapsed(r.duration_ms));
            let took = took.map(|took| format!(" in {took}")).unwrap_or_default();
            let why = if reason.is_empty() { attempt.and_then(attempt_reason) } else { Some(reason.clone()) };
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("{}: {} {}{took}{why}", cell.host, cell.step, words(outcome.name()))
        }
        Event::StepResolved { cell, succeeded, why, by } => {
            let said = if *succeeded { "succeeded" } else { "failed" };
            format!("{}: {} settled as {said} by {}: {why}", cell.host, cell.step, person(by))
        }
        Event::HostReopened { host, .. } => format!("{host}: tried again"),
        Event::HostEnded { host, outcome, reason } => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("{host}: {}{why}", words(outcome.name()).to_uppercase())
        }
        Event::RunSuspended { outcome } => format!("suspended: {}; it waits for an operator", words(outcome.name())),
        Event::RunEnded { outcome, .. } => {
            let code = rehearsal::exit_code(view, outcome.exit_code());
            format!("ended: {} (exit code {code})", words(outcome.name()))
        }
        Event::MonitoringMuted { .. } | Event::MonitoringUnmuted { .. } | Event::MonitoringFailed { .. } => {
            crate::monitoring::sentence(event)?.1
        }
        Event::SnapshotReleased { cell, reference, .. } => format!("{}: snapshot {reference} released", cell.host),
        _ => return None,
    })
}
