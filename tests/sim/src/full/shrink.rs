//! The smallest scenario that still breaks a law.

use std::collections::BTreeSet;

use runbook_model::plan::{Phase, Plan, Retry, Role, Scope};
use runbook_model::{HostName, StepId};

use crate::full::draw::give_work;
use crate::full::scenario::{Fault, Scenario, takes_ms};

/// Takes away faults, hosts, steps and what is special about them as long as `fails` says that it still does. The same
/// scenario gives the same result.
pub fn shrink(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut least = scenario.clone();
    loop {
        let before = least.clone();
        for smaller in candidates(&least) {
            // A candidate was made from what was least then: what fits no more is made anew in the next round.
            let next = smaller(&least);
            if next != least && valid(&next.plan) && fails(&next) {
                least = next;
            }
        }
        if least == before {
            return least;
        }
    }
}

/// A plan that a planner could have made: each change has a way back, or says that it has none.
fn valid(plan: &Plan) -> bool {
    let has = |role: &Role| plan.steps.iter().any(|step| step.role == *role);
    let restored = plan.steps.iter().any(|step| matches!(step.role, Role::Restore { .. }));
    let mut changes = plan.steps.iter().filter(|step| step.phase == Phase::Execute && step.role == Role::Plain);
    plan.irreversible.is_some()
        || restored
        || changes.all(|step| step.irreversible.is_some() || has(&Role::Undo { of: step.id.clone() }))
}

type Change = Box<dyn Fn(&Scenario) -> Scenario>;

/// Every single simplification, the greatest first.
fn candidates(scenario: &Scenario) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    let plan = &scenario.plan;
    for host in plan.hosts.keys().rev() {
        let host = host.clone();
        all.push(Box::new(move |scenario| without_host(scenario, &host)));
    }
    for fault in scenario.faults.iter().rev().cloned() {
        all.push(Box::new(move |scenario| {
            let at = scenario.faults.iter().rposition(|each| *each == fault);
            let mut smaller = scenario.clone();
            smaller.faults = without_at(smaller.faults, at);
            smaller
        }));
    }
    for step in plan.steps.iter().rev().map(|step| step.id.clone()) {
        all.push(Box::new(move |scenario| without_step(scenario, &step)));
    }
    for step in plan.steps.iter().map(|step| step.id.clone()) {
        for change in [plain_retry, plain_once, plain_unless, plain_changes, plain_idempotent, plain_needs, quick] {
            let step = step.clone();
            all.push(Box::new(move |scenario| with_step(scenario, &step, change)));
        }
    }
    let of_plan: [fn(&mut Plan); 4] = [
        |plan| plan.soak_ms = 0,
        |plan| plan.parallel = 1,
        |plan| plan.rollback.scope = Scope::Host,
        |plan| plan.batches = vec![plan.batches.concat()],
    ];
    for change in of_plan {
        all.push(Box::new(move |scenario| {
            let mut smaller = scenario.clone();
            change(&mut smaller.plan);
            smaller
        }));
    }
    for no in 0..scenario.faults.len() {
        all.push(Box::new(move |scenario| earlier(scenario, no)));
    }
    all
}

fn without_at<T>(mut list: Vec<T>, at: Option<usize>) -> Vec<T> {
    if let Some(at) = at {
        list.remove(at);
    }
    list
}

/// Never the last one.
fn without_host(scenario: &Scenario, host: &HostName) -> Scenario {
    let mut smaller = scenario.clone();
    if smaller.plan.hosts.len() < 2 || smaller.plan.hosts.remove(host).is_none() {
        return smaller;
    }
    for batch in &mut smaller.plan.batches {
        batch.retain(|each| each != host);
    }
    smaller.plan.batches.retain(|batch| !batch.is_empty());
    smaller.faults.retain(|fault| match fault {
        Fault::Attempt { host: of, .. } | Fault::Host { host: of, .. } | Fault::Done { host: of, .. } => of != host,
        _ => true,
    });
    smaller
}

/// With all that is about it.
fn without_step(scenario: &Scenario, step: &StepId) -> Scenario {
    let mut smaller = scenario.clone();
    let about = |role: &Role| match role {
        Role::Probe { of } | Role::Restore { of } | Role::Release { of } | Role::Undo { of } | Role::Again { of } => {
            of == step
        }
        Role::Plain | Role::Take | Role::Baseline | Role::Undeclared => false,
    };
    let probed = scenario.plan.step(step).is_some_and(|step| matches!(step.role, Role::Probe { .. }));
    if probed {
        // Every snapshot has a probe; it goes with the snapshot.
        return smaller;
    }
    let gone: BTreeSet<StepId> = scenario
        .plan
        .steps
        .iter()
        .filter(|each| each.id == *step || about(&each.role))
        .map(|each| each.id.clone())
        .collect();
    smaller.plan.steps.retain(|each| !gone.contains(&each.id));
    for each in &mut smaller.plan.steps {
        each.needs.retain(|need| !gone.contains(need));
    }
    smaller.faults.retain(|fault| match fault {
        Fault::Attempt { step, .. } | Fault::Done { step, .. } => !gone.contains(step),
        _ => true,
    });
    smaller
}

fn with_step(scenario: &Scenario, step: &StepId, change: fn(&mut Scenario, usize)) -> Scenario {
    let mut smaller = scenario.clone();
    if let Some(at) = smaller.plan.steps.iter().position(|each| each.id == *step) {
        change(&mut smaller, at);
    }
    smaller
}

fn plain_retry(scenario: &mut Scenario, at: usize) {
    scenario.plan.steps[at].retry = Retry::none();
}

fn plain_once(scenario: &mut Scenario, at: usize) {
    scenario.plan.steps[at].once = None;
}

fn plain_unless(scenario: &mut Scenario, at: usize) {
    let step = &mut scenario.plan.steps[at];
    step.unless = None;
    let id = step.id.clone();
    scenario.faults.retain(|fault| !matches!(fault, Fault::Done { step, .. } if *step == id));
}

fn plain_changes(scenario: &mut Scenario, at: usize) {
    scenario.plan.steps[at].changes = Vec::new();
}

fn plain_idempotent(scenario: &mut Scenario, at: usize) {
    scenario.plan.steps[at].idempotent = false;
}

fn plain_needs(scenario: &mut Scenario, at: usize) {
    scenario.plan.steps[at].needs = Vec::new();
}

/// A short command instead of a long one or a reboot.
fn quick(scenario: &mut Scenario, at: usize) {
    let reboots = matches!(
        scenario.plan.steps[at].work,
        runbook_model::plan::Work::Any(runbook_model::plan::Action::Reboot { .. })
    );
    if reboots || takes_ms(&scenario.plan, &scenario.plan.steps[at].id.clone()) > 1 {
        give_work(&mut scenario.plan.steps[at], false, 1);
    }
}

/// The fault comes sooner, or stays for less.
fn earlier(scenario: &Scenario, no: usize) -> Scenario {
    let mut smaller = scenario.clone();
    match smaller.faults.get_mut(no) {
        Some(Fault::Crash { append, .. } | Fault::Disk { append, .. } | Fault::Takeover { append, .. }) => {
            *append = (*append).saturating_sub(1).max(1);
        }
        Some(Fault::Host { at_ms, .. } | Fault::CrashAt { at_ms, .. } | Fault::Cancel { at_ms }) => *at_ms /= 2,
        Some(Fault::Clock { at_ms, .. }) => *at_ms /= 2,
        _ => {}
    }
    smaller
}
