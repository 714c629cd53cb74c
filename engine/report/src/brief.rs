//! A plan in a dozen lines: what a person must see before they say yes.

use runbook_model::plan::{Action, AtEnd, OnFailure, Phase, Plan, Role, RollbackVerify, Scope, Step, Strategy, Work};
use runbook_model::units::format_duration_ms;

use crate::matrix::label;
use crate::style::{Palette, Tone};
use crate::text::{count, cut, escape_line, fit, list, wrap};

/// Steps of a phase that are named.
const STEPS_NAMED: usize = 8;
/// Hosts that are named.
const HOSTS_NAMED: usize = 8;

/// The plan in brief, one text per line.
pub fn lines(plan: &Plan, check_only: bool, columns: usize, palette: Palette) -> Vec<String> {
    let columns = columns.clamp(40, 120);
    let mut out = Vec::new();
    let title = match plan.runbook.title.as_str() {
        "" => plan.runbook.name.clone(),
        title => format!("{}: {}", plan.runbook.name, escape_line(title.as_bytes())),
    };
    out.push(palette.paint(Tone::Strong, &cut(&title, columns)));
    let mut pair = |key: &str, tone: Option<Tone>, text: &str| {
        let mut key = fit(key, 11);
        for line in wrap(text, columns - 13) {
            let line = tone.map_or(line.clone(), |tone| palette.paint(tone, &line));
            out.push(format!("  {}{line}", palette.paint(Tone::Dim, &key)));
            key = " ".repeat(11);
        }
    };
    let hosts: Vec<&str> = plan.hosts.keys().map(|name| name.as_str()).collect();
    let cui = plan.hosts.values().filter(|host| host.cui).count();
    let cui = if cui == 0 { String::new() } else { format!("; {cui} with CUI") };
    pair("hosts", None, &format!("{}: {}{cui}", count(hosts.len(), "host"), list(&hosts, HOSTS_NAMED)));
    if plan.batches.len() > 1 {
        let sizes: Vec<String> = plan.batches.iter().map(|batch| batch.len().to_string()).collect();
        let soak =
            if plan.soak_ms == 0 { String::new() } else { format!(", {} apart", format_duration_ms(plan.soak_ms)) };
        pair("batches", None, &format!("{} ({} hosts{soak})", plan.batches.len(), list(&sizes, 8)));
    }
    let budget = match plan.failure_budget {
        0 => "the first host that fails stops the run".to_owned(),
        n => format!("the run goes on while at most {n} fail"),
    };
    pair("failures", None, &budget);
    let phases: &[Phase] = if check_only {
        &[Phase::Prechecks]
    } else {
        &[Phase::Prechecks, Phase::Snapshot, Phase::Execute, Phase::Verify, Phase::Finally]
    };
    for phase in phases {
        let written = |step: &&Step| matches!(step.role, Role::Plain | Role::Take | Role::Undeclared);
        let names: Vec<String> =
            plan.phase(*phase).filter(written).map(|step| escape_line(label(step).as_bytes())).collect();
        if !names.is_empty() {
            pair(phase.name(), None, &list(&names, STEPS_NAMED));
        }
    }
    for access in plan.access.iter().flat_map(runbook_model::access::Access::sentences) {
        pair("access", None, &escape_line(access.as_bytes()));
    }
    if check_only {
        pair("check", None, "the prechecks alone are run; nothing is changed");
    } else {
        pair("way back", None, &way_back(plan));
        if plan.window.at_end == AtEnd::Rollback {
            let budget = format_duration_ms(plan.rollback.budget_ms);
            pair("window", None, &format!("a host that is not through {budget} before its end is taken back"));
        }
        if let Some(reason) = &plan.irreversible {
            let text = format!("this cannot be taken back: {}", escape_line(reason.as_bytes()));
            pair("CAREFUL", Some(Tone::Warn), &text);
        }
        for step in plan.steps.iter().filter(|step| step.phase == Phase::Execute) {
            if let Some(reason) = &step.irreversible {
                let text = format!("`{}` cannot be taken back: {}", step.id, escape_line(reason.as_bytes()));
                pair("CAREFUL", Some(Tone::Warn), &text);
            }
        }
    }
    pair("plan", None, &plan.digest().to_string());
    out
}

fn way_back(plan: &Plan) -> String {
    let of = |role: fn(&Role) -> bool| plan.steps.iter().filter(|step| role(&step.role)).count();
    let undo = of(|role| matches!(role, Role::Undo { .. }));
    let restore = of(|role| matches!(role, Role::Restore { .. }));
    let mut how = Vec::new();
    if undo > 0 && plan.rollback.strategy != Strategy::Restore {
        how.push(count(undo, "undo step"));
    }
    if restore > 0 && plan.rollback.strategy != Strategy::Undo {
        how.push(format!("{} restored", count(restore, "snapshot")));
    }
    if plan.phase(Phase::Rollback).any(|step| step.role == Role::Plain) {
        how.push("the runbook's own steps".to_owned());
    }
    if how.is_empty() {
        return "none".to_owned();
    }
    let how = list(&how, 4);
    let who = match plan.rollback.scope {
        Scope::Host => "the host that fails",
        Scope::Batch => "its whole batch",
        Scope::Run => "every host of the run",
    };
    let verify = match plan.rollback.verify {
        RollbackVerify::Again => "verified by the prechecks and the measured state",
        RollbackVerify::Steps => "verified by the runbook's own steps",
        RollbackVerify::None => "NOT verified",
    };
    let halts = plan
        .steps
        .iter()
        .any(|step| matches!(step.phase, Phase::Execute | Phase::Verify) && step.on_failure == OnFailure::Halt);
    let halts = if halts { "; some failures halt for an operator instead" } else { "" };
    format!("{how}; takes back {who}, {verify}{halts}")
}

/// Steps that need a person at the terminal.
pub fn confirmations(plan: &Plan) -> Vec<&Step> {
    let asks = |action: &Action| matches!(action, Action::Confirm { .. });
    let needs = |step: &&Step| match &step.work {
        Work::Any(action) => asks(action),
        Work::ByOs { posix, windows } => posix.iter().chain(windows).any(asks),
    };
    plan.steps.iter().filter(needs).collect()
}
