//! Why: from the record alone, in sentences, why each step ran, was skipped, blocked or taken back.

use std::collections::BTreeMap;

use runbook_model::outcome::{AttemptOutcome, HostOutcome};
use runbook_model::plan::{OnFailure, Once, Place, Role, Scope};
use runbook_model::{HostName, Phase};
use serde::Serialize;

use crate::json::{attempt_reason, cell_reason, person};
use crate::matrix::{Row, rows};
use crate::style::{Palette, Tone, attempt_tone, host_tone, words};
use crate::text::{count, elapsed, escape_line, list, when, wrap};
use crate::unknown;
use crate::view::{HostView, RunState, RunView, StepView};

/// `explain/v1`.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// `explain/v1`.
    pub schema: &'static str,
    /// The run.
    pub run_id: String,
    /// Its outcome so far.
    pub outcome: Option<&'static str>,
    /// What concerns the whole run, in order.
    pub run: Vec<String>,
    /// The hosts.
    pub hosts: Vec<HostExplanation>,
}

/// A host.
#[derive(Debug, Clone, Serialize)]
pub struct HostExplanation {
    /// Its name.
    pub name: String,
    /// Its outcome.
    pub outcome: Option<&'static str>,
    /// Why it ended so.
    pub why: String,
    /// Its steps in the plan's order.
    pub steps: Vec<StepExplanation>,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
pub struct StepExplanation {
    /// The step.
    pub id: String,
    /// Its phase.
    pub phase: &'static str,
    /// Its outcome.
    pub outcome: Option<&'static str>,
    /// Why it ran, or did not; what came of it.
    pub why: String,
    /// For an outcome that nobody knows and that waits for an operator: the command that settles it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<String>,
    /// For the terminal.
    #[serde(skip)]
    tone: Option<AttemptOutcome>,
}

/// Explains a run, or one host of it.
pub fn explain(view: &RunView, host: Option<&HostName>) -> Explanation {
    let hosts = view.hosts.iter().filter(|(name, _)| host.is_none_or(|wanted| wanted == *name));
    Explanation {
        schema: "explain/v1",
        run_id: view.run().map(ToString::to_string).unwrap_or_default(),
        outcome: view.outcome.map(HostOutcome::name),
        run: run_sentences(view),
        hosts: hosts
            .map(|(name, host)| HostExplanation {
                name: name.to_string(),
                outcome: host.outcome.map(HostOutcome::name),
                why: host_sentence(view, name, host) + &access_sentences(host),
                steps: rows(view, host)
                    .iter()
                    .map(|row| StepExplanation {
                        id: row.step.id.to_string(),
                        phase: row.step.phase.name(),
                        outcome: row.outcome.map(AttemptOutcome::name),
                        why: step_sentence(view, host, row) + &question(view, name, host, row),
                        settle: open(view, host, row).map(|_| unknown::settle(view, name, &row.step.id)),
                        tone: row.outcome,
                    })
                    .collect(),
            })
            .collect(),
    }
}

impl Explanation {
    /// As text.
    pub fn text(&self, columns: usize, palette: Palette) -> String {
        let columns = columns.max(40);
        let mut out = String::new();
        let mut put = |indent: usize, text: &str| {
            for (i, line) in wrap(text, columns - indent).iter().enumerate() {
                out.push_str(&" ".repeat(if i == 0 { indent.saturating_sub(2) } else { indent }));
                out.push_str(line);
                out.push('\n');
            }
        };
        for sentence in &self.run {
            put(2, &escape_line(sentence.as_bytes()));
        }
        let mut pages = Vec::new();
        for host in &self.hosts {
            let mut page = format!("\n{}\n", palette.paint(Tone::Strong, &host.name));
            let tone = self.host_tone(host);
            for line in wrap(&escape_line(host.why.as_bytes()), columns - 2) {
                page.push_str(&format!("  {}\n", tone.map_or(line.clone(), |tone| palette.paint(tone, &line))));
            }
            let alike = host.steps.first().is_some_and(|first| host.steps.iter().all(|step| step.why == first.why));
            if alike && host.steps.len() > 1 {
                page.push_str(&format!("  none of its {} steps began\n", host.steps.len()));
                pages.push(page);
                continue;
            }
            for step in &host.steps {
                let head = format!("{} ({})", step.id, step.phase);
                let tone = step.tone.map_or(Tone::Active, attempt_tone);
                page.push_str(&format!("  {}\n", palette.paint(tone, &head)));
                for line in wrap(&escape_line(step.why.as_bytes()), columns - 6) {
                    page.push_str(&format!("      {line}\n"));
                }
                // In one piece, to be copied.
                if let Some(settle) = &step.settle {
                    page.push_str(&format!("      {settle}\n"));
                }
            }
            pages.push(page);
        }
        out + &pages.concat()
    }

    fn host_tone(&self, host: &HostExplanation) -> Option<Tone> {
        let all = [
            HostOutcome::Succeeded,
            HostOutcome::Blocked,
            HostOutcome::Failed,
            HostOutcome::RolledBack,
            HostOutcome::Stuck,
            HostOutcome::Unknown,
            HostOutcome::Cancelled,
        ];
        all.into_iter().find(|outcome| Some(outcome.name()) == host.outcome).map(host_tone)
    }
}

/// The cell, when its outcome waits for an operator.
fn open<'a>(view: &'a RunView, host: &'a HostView, row: &Row<'_>) -> Option<&'a StepView> {
    unknown::open(view, host).find(|(step, _)| step.id == row.step.id).map(|(_, cell)| cell)
}

/// What an operator is asked about the cell; empty when nothing.
fn question(view: &RunView, name: &HostName, host: &HostView, row: &Row<'_>) -> String {
    let Some(cell) = open(view, host, row) else { return String::new() };
    let look = unknown::look_at(view, name, row.step, cell);
    format!(
        " An operator has to settle it: {look}. `runbook resume` asks the host once more; what you know yourself is put on record by"
    )
}

fn run_sentences(view: &RunView) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(header) = &view.header {
        let why = header.ticket.as_ref().map(|ticket| format!(" for {ticket}")).unwrap_or_default();
        let what = match (&header.takes_back, header.check_only) {
            (Some(run), _) => format!("took run {run} back"),
            (None, true) => format!("ran the prechecks of {} alone", header.runbook),
            (None, false) if header.rehearses => format!("rehearsed {}", header.runbook),
            (None, false) => format!("ran {}", header.runbook),
        };
        out.push(format!(
            "{} {what}{why} on {} from {} on.",
            person(&header.operator),
            count(view.hosts.len(), "host"),
            when(header.started_ms)
        ));
    }
    for why in &view.break_glass {
        out.push(format!("Windows, blackouts and freezes were set aside (break glass): {why}."));
    }
    for (_, at, _) in &view.permits {
        out.push(format!(
            "The windows were changed while it went on, and counted as they were then from {} on.",
            when(*at)
        ));
    }
    for done in &view.monitoring {
        let mut what = done.what.clone();
        if let Some(first) = what.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        out.push(format!("{what} ({}).", when(done.at_ms)));
    }
    out.extend(crate::monitoring::still_muted(view, false).into_iter().map(|line| format!("STILL MUTED: {line}.")));
    for (by, at) in &view.resumed {
        out.push(format!("{} took the run up again {}.", person(by), when(*at)));
    }
    if let Some((by, at)) = &view.cancel {
        out.push(format!(
            "{} cancelled it {}: no step began after that but those that take hosts back.",
            person(by),
            when(*at)
        ));
    }
    if let Some((spent, budget)) = view.budget {
        out.push(format!("{spent} of the hosts failed and {budget} were allowed to, so no further host was started."));
    }
    match (view.state, view.outcome) {
        (RunState::Ended, Some(outcome)) => {
            let mut classes: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
            for (name, host) in &view.hosts {
                if let Some(outcome) = host.outcome {
                    classes.entry(outcome.exit_code()).or_default().push(name.as_str());
                }
            }
            let worst = classes.get(&outcome.exit_code()).map(|names| list(names, 5)).unwrap_or_default();
            let because = if worst.is_empty() || view.hosts.len() == 1 || outcome == HostOutcome::Succeeded {
                String::new()
            } else {
                format!(", because the worst host decides ({worst})")
            };
            out.push(format!("It ended {}, exit code {}{because}.", words(outcome.name()), outcome.exit_code()));
        }
        (RunState::Suspended, Some(outcome)) => {
            out.push(format!("It is {} and open: nothing more can be done without an operator.", words(outcome.name())))
        }
        _ => out.push("It has no end on record.".into()),
    }
    out
}

/// What access the host was given, and how that ended.
fn access_sentences(host: &HostView) -> String {
    let mut said = String::new();
    for granted in &host.access {
        said.push_str(&format!(" For the run it was given: {}.", crate::access::given(granted).join("; ")));
    }
    for withdrawal in host.closed.iter().filter_map(|closed| closed.close.access.as_deref()) {
        let ends: Vec<String> = crate::access::ended(withdrawal).into_iter().map(|(what, _)| what).collect();
        said.push_str(&format!(" In the end: {}.", ends.join("; ")));
    }
    said
}

fn host_sentence(view: &RunView, name: &HostName, host: &HostView) -> String {
    let because = if host.reason.is_empty() { String::new() } else { format!(": {}", host.reason) };
    match host.outcome {
        Some(HostOutcome::Succeeded) => format!("{name} succeeded{because}."),
        Some(HostOutcome::Blocked) => format!("{name} was blocked before its first change{because}."),
        Some(HostOutcome::Failed) => format!("{name} failed, and changes may remain{because}."),
        Some(HostOutcome::RolledBack) => {
            let cause = host.rollback_reason.as_deref().unwrap_or(&host.reason);
            let peers =
                if view.plan.rollback.scope == Scope::Host { "" } else { " (the plan takes its peers back too)" };
            format!("{name} was taken back and that was verified, because {cause}{peers}.")
        }
        Some(HostOutcome::Stuck) => {
            format!("{name} is stuck: taking it back failed or could not be verified{because}.")
        }
        Some(HostOutcome::Unknown) => format!("Nobody knows in what state {name} is{because}."),
        Some(HostOutcome::Cancelled) => {
            format!("{name} was cancelled; what had begun was taken back and verified{because}.")
        }
        None if host.started_ms.is_none() => match view.budget {
            Some((spent, budget)) => {
                format!("{name} was not started: {spent} failed, and the failure budget is {budget}.")
            }
            None => format!("{name} was not started{because}."),
        },
        None => format!("{name} is open{}.", host.phase.map(|phase| format!(", in {phase}")).unwrap_or_default()),
    }
}

fn step_sentence(view: &RunView, host: &HostView, row: &Row<'_>) -> String {
    let attempts = row.view.map_or(0, |cell| cell.attempts.len());
    let mut text = match row.outcome {
        Some(AttemptOutcome::Skipped) => {
            let why = cell_reason(row).unwrap_or_else(|| match row.view.and_then(|cell| cell.unless_done) {
                Some(true) => "its `unless` said that it is already done".into(),
                _ => "the record gives no reason".into(),
            });
            let elsewhere = row.view.and_then(|cell| cell.done_on.as_ref());
            return match elsewhere {
                Some(done_on) => format!("Skipped here: it is done once, and was done on {done_on}."),
                None => format!("Skipped: {why}."),
            };
        }
        Some(AttemptOutcome::NotStarted) if attempts == 0 => {
            let why = cell_reason(row).unwrap_or_else(|| "the record gives no reason".into());
            let phase = format!("{} did not begin: ", row.step.phase);
            return match why.strip_prefix(&phase) {
                Some(why) => format!("Did not begin, as its phase did not: {why}."),
                None => format!("Did not begin: {why}."),
            };
        }
        None if attempts == 0 => return "Has not begun.".into(),
        _ => format!("Ran because {}.", why_it_ran(view, host, row)),
    };
    if let Some(cell) = row.view {
        if cell.unless_done == Some(false) {
            text.push_str(" Its `unless` said that it was not done yet.");
        }
        for attempt in &cell.attempts {
            let which = if cell.attempts.len() > 1 { format!("Attempt {}", attempt.attempt) } else { "It".into() };
            if let Some(lost) = &attempt.lost {
                let (since, until) = (when(lost.since_ms), when(lost.until_ms));
                let what = match (lost.not_begun, attempt.outcome) {
                    (true, None) => "waits for its host",
                    (true, Some(_)) => "waited for its host",
                    (false, None) => "is asked after",
                    (false, Some(_)) => "was asked after",
                };
                text.push_str(&format!(
                    " {which} was lost {since} ({}) and {what}, until {until} at most.",
                    lost.reason
                ));
            }
            let after = attempt.report.as_ref().map(|report| format!(" after {}", elapsed(report.duration_ms)));
            let after = after.unwrap_or_default();
            match attempt.outcome {
                Some(AttemptOutcome::Succeeded) => text.push_str(&format!(" {which} succeeded{after}.")),
                Some(outcome) => {
                    let what = match outcome {
                        AttemptOutcome::TimedOut => "took longer than its timeout",
                        AttemptOutcome::Unknown => "ended in a way that nobody knows",
                        AttemptOutcome::NotStarted => "did not begin, and that is proved",
                        _ => "failed",
                    };
                    let why = attempt_reason(attempt).map(|why| format!(": {why}")).unwrap_or_default();
                    text.push_str(&format!(" {which} {what}{after}{why}."));
                }
                None => text.push_str(&format!(" {which} has no end on record.")),
            }
            if let Some(why) = &attempt.retried {
                text.push_str(&format!(" It was tried again: {why}."));
            }
        }
        if let Some(resolved) = &cell.resolved {
            let said = if resolved.succeeded { "succeeded" } else { "failed" };
            text.push_str(&format!(" {} settled it as {said}: {}.", person(&resolved.by), resolved.why));
        }
        if cell.resolved.is_none()
            && cell.outcome != cell.attempts.last().and_then(|attempt| attempt.outcome)
            && !cell.reason.is_empty()
        {
            text.push_str(&format!(
                " It counts as {}: {}.",
                cell.outcome.map_or("open".into(), |o| words(o.name())),
                cell.reason
            ));
        }
        if let Some(reference) = &cell.snapshot {
            text.push_str(&format!(" The snapshot is `{reference}`."));
        }
        if let Some((by, at)) = &cell.released {
            text.push_str(&format!(" {} had it removed {}.", person(by), when(*at)));
        }
    }
    if matches!(row.outcome, Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown)) {
        text.push_str(match (row.step.phase, row.step.on_failure) {
            (Phase::Rollback, _) => " A step of a rollback that fails leaves the host stuck.",
            (Phase::Finally, _) => " A failure in `finally` is recorded; the run is at best failed.",
            (_, OnFailure::Rollback) => " The plan takes the host back when it fails.",
            (_, OnFailure::Block) => " The plan blocks the host when it fails; nothing was changed.",
            (_, OnFailure::Halt) => " The plan halts the host when it fails, for an operator.",
            (_, OnFailure::Continue) => " The plan goes on when it fails.",
        });
    }
    text
}

fn why_it_ran(view: &RunView, host: &HostView, row: &Row<'_>) -> String {
    let step = row.step;
    let outcome_of = |id| host.steps.get(id).and_then(|cell| cell.outcome);
    let may_have = |outcome| match outcome {
        Some(AttemptOutcome::Succeeded) => "it succeeded".to_owned(),
        Some(AttemptOutcome::Unknown) | None => "nobody knows".to_owned(),
        Some(other) => format!("it {}", words(other.name())),
    };
    let mut why = match (&step.role, step.phase) {
        (Role::Take, _) => "the way back is secured before the change".to_owned(),
        (Role::Probe { of }, Phase::Snapshot) => format!("`{of}` must be proved whole before anything is changed"),
        (Role::Probe { of }, _) => format!("`{of}` must be proved whole before it is restored"),
        (Role::Restore { of }, _) => format!("execute had begun and the snapshot `{of}` was taken"),
        (Role::Release { of }, _) => format!("the snapshot `{of}` was no longer needed"),
        (Role::Undo { of }, _) => format!("`{of}` may have happened ({})", may_have(outcome_of(of))),
        (Role::Again { of }, _) => format!("the precheck `{of}` proves after the rollback that the host is as it was"),
        (Role::Baseline, _) => "what was measured before the change must be found again".to_owned(),
        (Role::Undeclared, _) => "the watched roots are compared at the end of verify".to_owned(),
        (Role::Plain, Phase::Prechecks) => "every host is looked at before anything is changed".to_owned(),
        (Role::Plain, Phase::Snapshot) => "all prechecks had passed".to_owned(),
        (Role::Plain, Phase::Execute) => {
            let has = |phase| view.plan.phase(phase).next().is_some();
            match (has(Phase::Prechecks), has(Phase::Snapshot)) {
                (true, true) => "the prechecks had passed and the way back was proved".to_owned(),
                (true, false) => "the prechecks had passed".to_owned(),
                (false, true) => "the way back was proved".to_owned(),
                (false, false) => "the host was reached, and the runbook has no prechecks".to_owned(),
            }
        }
        (Role::Plain, Phase::Verify) => "execute had ended well and must be proved good".to_owned(),
        (Role::Plain, Phase::Rollback) => "the host is taken back, and the runbook gives this step for it".to_owned(),
        (Role::Plain, Phase::Finally) => "snapshot or execute had begun on the host".to_owned(),
    };
    if !step.needs.is_empty() {
        let needs: Vec<String> = step.needs.iter().map(|id| format!("`{id}`")).collect();
        let had = if needs.len() == 1 { "had ended" } else { "had all ended" };
        why.push_str(&format!(", after {} {had}", list(&needs, 6)));
    }
    if let Some(condition) = &step.when {
        why.push_str(&format!("; its condition `{}` held", condition.0));
    }
    match step.once {
        Some(Once::Run) => why.push_str("; it runs once in the run"),
        Some(Once::Batch) => why.push_str("; it runs once in each batch"),
        None => {}
    }
    match &step.on {
        Place::Host => {}
        Place::Controller => why.push_str("; it ran on the controller on behalf of the host"),
        Place::Named(named) => why.push_str(&format!("; it ran on {} on behalf of the host", named.name)),
    }
    why
}
