//! What a rehearsal proves: that on its hosts the change was made and verified, and then taken back and verified.

use runbook_model::outcome::{AttemptOutcome, HostOutcome};
use runbook_model::plan::{Phase, Role, RollbackVerify, Step};

use crate::style::words;
use crate::view::{HostView, RunState, RunView};

/// Why the run proves nothing of the kind; empty: it does. Of a run that is no rehearsal, that it is none.
pub fn faults(view: &RunView) -> Vec<String> {
    if !view.header.as_ref().is_some_and(|header| header.rehearses) {
        return vec!["it was no rehearsal".to_owned()];
    }
    if view.state != RunState::Ended {
        return vec!["it has not ended".to_owned()];
    }
    let of_hosts = view.hosts.iter().filter_map(|(name, host)| Some(format!("{name}: {}", fault(view, host)?)));
    let mut faults: Vec<String> = of_hosts.collect();
    // What was done before everywhere was not tried anywhere, and neither was its way back.
    for step in view.plan.steps.iter().filter(|step| is_change(step)) {
        let cells = || view.hosts.values().filter_map(|host| host.steps.get(&step.id));
        let done = cells().any(|cell| cell.outcome == Some(AttemptOutcome::Succeeded));
        if !done && cells().any(|cell| cell.unless_done == Some(true)) {
            faults.push(format!("{} was already done on every host, so it was not tried", step.id));
        }
    }
    faults
}

/// The exit code of a program whose run would end with `code`: in a rehearsal what was meant is no failure, and where nothing
/// was tried there is no success.
pub fn exit_code(view: &RunView, code: u8) -> u8 {
    if !view.header.as_ref().is_some_and(|header| header.rehearses) {
        return code;
    }
    let (done, taken_back) = (HostOutcome::Succeeded.exit_code(), HostOutcome::RolledBack.exit_code());
    match faults(view).is_empty() {
        true if code == taken_back => done,
        false if code == done => HostOutcome::Blocked.exit_code(),
        _ => code,
    }
}

fn is_change(step: &Step) -> bool {
    step.phase == Phase::Execute && !step.read_only
}

fn fault(view: &RunView, host: &HostView) -> Option<String> {
    match host.outcome {
        Some(HostOutcome::RolledBack) => {}
        Some(HostOutcome::Succeeded) => return Some("nothing was changed, or it cannot be taken back".to_owned()),
        Some(outcome) => return Some(format!("it ended {}: {}", words(outcome.name()), host.reason)),
        None => return Some("it has not ended".to_owned()),
    }
    let ended_well = |phase| match host.phases.get(&phase) {
        Some(ok) => *ok == Some(true),
        None => view.plan.phase(phase).next().is_none(),
    };
    if !ended_well(Phase::Execute) || !ended_well(Phase::Verify) {
        return Some(format!("the change itself failed: {}", host.reason));
    }
    let did =
        |wanted: &dyn Fn(&Step) -> bool| {
            view.plan.steps.iter().filter(|step| wanted(step)).any(|step| {
                host.steps.get(&step.id).is_some_and(|cell| cell.outcome == Some(AttemptOutcome::Succeeded))
            })
        };
    if !did(&is_change) {
        return Some("no step of the change was done".to_owned());
    }
    let takes_back = |step: &Step| {
        step.phase == Phase::Rollback
            && (matches!(step.role, Role::Undo { .. } | Role::Restore { .. })
                || step.role == Role::Plain && !step.read_only)
    };
    if !did(&takes_back) {
        return Some("no step of the way back was done".to_owned());
    }
    let verifies = |step: &Step| {
        step.phase == Phase::Rollback
            && (matches!(step.role, Role::Again { .. } | Role::Baseline)
                || view.plan.rollback.verify == RollbackVerify::Steps && step.role == Role::Plain && step.read_only)
    };
    if !did(&verifies) {
        return Some("nothing verified that it was taken back".to_owned());
    }
    None
}
