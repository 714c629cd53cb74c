//! The laws of a run, checked on its log and on what really became of the hosts. Written from the documents alone: it
//! shares nothing with the core.

use std::collections::{BTreeMap, BTreeSet};

use runbook_core::Status;
use runbook_model::outcome::Ended;
use runbook_model::plan::{OnFailure, Phase, Plan, Role, RollbackVerify, Scope, Step};
use runbook_model::{AttemptOutcome, Cell, Event, HostName, HostOutcome, StepId};

use crate::controller::Simulated;
use crate::windows;

/// What of the laws does not hold; empty when all do.
pub fn check(run: &Simulated) -> Vec<String> {
    let mut broken = run.broken.clone();
    broken.extend(run.doubled.iter().map(|id| format!("{id} had its effect twice")));
    let mut laws = Laws { plan: &run.plan, broken: Vec::new() };
    laws.whole_log(run);
    laws.order(run);
    laws.end(run);
    if let Some(log) = &run.taken_back {
        laws.taken_back(run, log);
    }
    broken.extend(laws.broken);
    broken.extend(windows::broken(run));
    broken
}

struct Laws<'a> {
    plan: &'a Plan,
    broken: Vec<String>,
}

#[derive(Default)]
struct CellTrace {
    starts: u32,
    /// Attempts that ended, with their outcome and whether they were proved not to have begun.
    ends: Vec<(AttemptOutcome, bool)>,
    open: bool,
    outcome: Option<AttemptOutcome>,
    /// Place in the log of the first start.
    first: usize,
    resolved: bool,
    reopened: bool,
}

impl Laws<'_> {
    fn say(&mut self, what: String) {
        self.broken.push(what);
    }

    fn step(&self, id: &StepId) -> Step {
        self.plan.step(id).expect("a step of the plan").clone()
    }

    fn trace(&self, run: &Simulated) -> BTreeMap<Cell, CellTrace> {
        let mut cells: BTreeMap<Cell, CellTrace> = BTreeMap::new();
        for (no, (_, event)) in run.log.iter().enumerate() {
            match event {
                Event::AttemptStarted { attempt, .. } => {
                    let cell = cells.entry(attempt.cell()).or_default();
                    cell.starts += 1;
                    if cell.starts == 1 {
                        cell.first = no;
                    }
                    cell.open = true;
                    cell.outcome = None;
                }
                Event::AttemptEnded { attempt, outcome, report } => {
                    let cell = cells.entry(attempt.cell()).or_default();
                    cell.ends.push((*outcome, matches!(report.ended, Ended::NotStarted { .. })));
                    cell.open = false;
                }
                Event::StepEnded { cell, outcome, .. } => {
                    cells.entry(cell.clone()).or_default().outcome = Some(*outcome);
                }
                Event::StepResolved { cell, succeeded, .. } => {
                    let cell = cells.entry(cell.clone()).or_default();
                    cell.resolved = true;
                    cell.outcome = Some(if *succeeded { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed });
                }
                Event::HostReopened { host, .. } => {
                    for (_, cell) in cells.iter_mut().filter(|(cell, _)| cell.host == *host) {
                        cell.reopened = true;
                    }
                }
                _ => {}
            }
        }
        cells
    }

    /// Attempts: one at a time, numbered, repeated only as the plan allows, never blindly.
    fn whole_log(&mut self, run: &Simulated) {
        let mut open: BTreeMap<Cell, u32> = BTreeMap::new();
        let mut last: BTreeMap<Cell, (u32, Option<AttemptOutcome>, bool)> = BTreeMap::new();
        let mut reopened: BTreeSet<HostName> = BTreeSet::new();
        for (_, event) in &run.log {
            match event {
                Event::HostReopened { host, .. } => {
                    reopened.insert(host.clone());
                }
                Event::AttemptStarted { attempt, phase, .. } => {
                    let (cell, step) = (attempt.cell(), self.step(&attempt.step));
                    if *phase != step.phase {
                        self.say(format!("{attempt} names the wrong phase"));
                    }
                    if open.insert(cell.clone(), attempt.attempt).is_some() {
                        self.say(format!("{attempt} started while another attempt of it was under way"));
                    }
                    let (number, before, _) = last.get(&cell).copied().unwrap_or((0, None, false));
                    if attempt.attempt != number + 1 {
                        self.say(format!("{attempt} is not the next attempt after {number}"));
                    }
                    let may_repeat = step.idempotent || step.read_only;
                    if before == Some(AttemptOutcome::Unknown) && !may_repeat && !reopened.contains(&cell.host) {
                        self.say(format!("{attempt} repeats an unknown outcome blindly"));
                    }
                    if before == Some(AttemptOutcome::Succeeded) && !reopened.contains(&cell.host) {
                        self.say(format!("{attempt} repeats a success"));
                    }
                    last.insert(cell, (attempt.attempt, None, false));
                }
                // An operator's resume asks once more after an attempt that had ended unknown.
                Event::AttemptLost { attempt, .. } => {
                    open.insert(attempt.cell(), attempt.attempt);
                }
                Event::AttemptEnded { attempt, outcome, .. } => {
                    if open.remove(&attempt.cell()) != Some(attempt.attempt) {
                        self.say(format!("{attempt} ended without being under way"));
                    }
                    last.insert(attempt.cell(), (attempt.attempt, Some(*outcome), false));
                }
                _ => {}
            }
        }
        if !open.is_empty() && run.status != Status::Running {
            self.say(format!("attempts are still open at the end: {:?}", open.keys().collect::<Vec<_>>()));
        }
    }

    /// Phases, needs, batches, the budget.
    fn order(&mut self, run: &Simulated) {
        let batch_of: BTreeMap<HostName, usize> = self
            .plan
            .batches
            .iter()
            .enumerate()
            .flat_map(|(no, hosts)| hosts.iter().map(move |host| (host.clone(), no)))
            .collect();
        let meant = meant(run);
        let mut outcomes: BTreeMap<Cell, AttemptOutcome> = BTreeMap::new();
        let mut phases: BTreeMap<HostName, Vec<(Phase, Option<bool>)>> = BTreeMap::new();
        let mut ended: BTreeMap<HostName, HostOutcome> = BTreeMap::new();
        let mut held: BTreeSet<HostName> = BTreeSet::new();
        let mut changing: BTreeSet<HostName> = BTreeSet::new();
        let mut undone: BTreeMap<HostName, Vec<StepId>> = BTreeMap::new();
        let mut reopened: BTreeSet<HostName> = BTreeSet::new();
        for (_, event) in &run.log {
            match event {
                Event::HostReopened { host, .. } => {
                    ended.remove(host);
                    reopened.insert(host.clone());
                    undone.remove(host);
                }
                Event::StepEnded { cell, outcome, .. } => {
                    outcomes.insert(cell.clone(), *outcome);
                }
                Event::StepResolved { cell, succeeded, .. } => {
                    let outcome = if *succeeded { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
                    outcomes.insert(cell.clone(), outcome);
                }
                Event::HostStarted { host, .. } => {
                    for other in batch_of.keys().filter(|other| batch_of[*other] < batch_of[host]) {
                        if !ended.contains_key(other) && !held.contains(other) {
                            self.say(format!("{host} began before {other} of an earlier batch had ended"));
                        }
                    }
                }
                Event::PhaseStarted { host, phase, .. } => {
                    let first_change =
                        matches!(phase, Phase::Snapshot | Phase::Execute) && changing.insert(host.clone());
                    if first_change && !reopened.contains(host) {
                        let failed = |(host, outcome): &(&HostName, &HostOutcome)| match outcome {
                            HostOutcome::Succeeded => false,
                            HostOutcome::RolledBack => !meant.contains(*host),
                            _ => true,
                        };
                        let failed = ended.iter().filter(failed).count();
                        let in_flight = changing
                            .iter()
                            .filter(|other| !ended.contains_key(*other) && !held.contains(*other))
                            .count()
                            - 1;
                        if failed + in_flight > self.plan.failure_budget as usize {
                            self.say(format!("{host} began its change with {failed} failed and {in_flight} in flight"));
                        }
                        for other in batch_of.keys().filter(|other| batch_of[*other] == batch_of[host]) {
                            let through = ended.contains_key(other)
                                || phases
                                    .get(other)
                                    .is_some_and(|of| of.first() == Some(&(Phase::Prechecks, Some(true))));
                            if !through {
                                self.say(format!("{host} changed before {other} was through its prechecks"));
                            }
                        }
                    }
                    let before = phases.entry(host.clone()).or_default();
                    let last = before.last().copied();
                    let allowed = match phase {
                        Phase::Prechecks => last.is_none(),
                        Phase::Snapshot => last == Some((Phase::Prechecks, Some(true))),
                        Phase::Execute => {
                            matches!(last, Some((Phase::Prechecks | Phase::Snapshot, Some(true))))
                        }
                        Phase::Verify => last == Some((Phase::Execute, Some(true))),
                        Phase::Rollback => {
                            matches!(last, Some((Phase::Execute | Phase::Verify | Phase::Rollback | Phase::Finally, _)))
                        }
                        Phase::Finally => last.is_some_and(|(phase, _)| phase != Phase::Prechecks),
                    };
                    if !allowed {
                        self.say(format!("{host}: {phase} began after {last:?}"));
                    }
                    before.push((*phase, None));
                }
                Event::PhaseEnded { host, phase, ok } => {
                    let open = phases.entry(host.clone()).or_default().last_mut();
                    match open {
                        Some((began, end @ None)) if began == phase => *end = Some(*ok),
                        _ if reopened.contains(host) => {
                            phases.entry(host.clone()).or_default().push((*phase, Some(*ok)));
                        }
                        other => {
                            let what = format!("{host}: {phase} ended after {other:?}");
                            self.say(what);
                        }
                    }
                }
                Event::AttemptStarted { attempt, phase, .. } => {
                    let step = self.step(&attempt.step);
                    for need in &step.needs {
                        let cell = Cell { host: attempt.host.clone(), step: need.clone() };
                        let good = match outcomes.get(&cell) {
                            Some(AttemptOutcome::Succeeded | AttemptOutcome::Skipped) => true,
                            Some(AttemptOutcome::Unknown) | None => false,
                            Some(_) => self.step(need).on_failure == OnFailure::Continue,
                        };
                        if !good && *phase != Phase::Finally {
                            self.say(format!("{attempt} began before {need} had ended well"));
                        }
                    }
                    if *phase == Phase::Execute {
                        for take in self.plan.steps.iter().filter(|step| step.role == Role::Take) {
                            let probe =
                                self.plan.steps.iter().find(|step| step.role == Role::Probe { of: take.id.clone() });
                            let probe = probe.expect("every snapshot has a probe").id.clone();
                            let cell = Cell { host: attempt.host.clone(), step: probe };
                            if outcomes.get(&cell) != Some(&AttemptOutcome::Succeeded) {
                                self.say(format!("{attempt} began without a proved snapshot {}", take.id));
                            }
                        }
                    }
                    if let Role::Undo { of } = &step.role
                        && attempt.attempt == 1
                    {
                        undone.entry(attempt.host.clone()).or_default().push(of.clone());
                    }
                }
                Event::HostHeld { host } => {
                    held.insert(host.clone());
                }
                Event::HostEnded { host, outcome, .. } => {
                    held.remove(host);
                    if ended.insert(host.clone(), *outcome).is_some() {
                        self.say(format!("{host} ended twice"));
                    }
                }
                _ => {}
            }
        }
        for (host, undone) in undone {
            let place = |id: &StepId| self.plan.steps.iter().position(|step| step.id == *id);
            if !undone.windows(2).all(|pair| place(&pair[0]) > place(&pair[1])) {
                self.say(format!("{host}: undone out of order: {undone:?}"));
            }
        }
    }

    /// What the run says of each host is what really became of it.
    fn end(&mut self, run: &Simulated) {
        let cells = self.trace(run);
        let mut last: BTreeMap<HostName, HostOutcome> = BTreeMap::new();
        for (_, event) in &run.log {
            if let Event::HostEnded { host, outcome, .. } = event {
                last.insert(host.clone(), *outcome);
            }
        }
        if run.status == Status::Running {
            return;
        }
        let mut worst = HostOutcome::Succeeded;
        for (host, applied) in &run.applied {
            let Some(outcome) = last.get(host).copied() else {
                self.say(format!("{host} has no outcome"));
                continue;
            };
            worst = worst.worse(outcome);
            let of = |phase: Phase| {
                let steps = self.plan.steps.iter().filter(move |step| step.phase == phase);
                steps.filter_map(|step| {
                    let cell = cells.get(&Cell { host: host.clone(), step: step.id.clone() })?;
                    Some((step.clone(), cell))
                })
            };
            let effect =
                of(Phase::Execute).any(|(_, cell)| cell.open || cell.ends.iter().any(|(_, not_begun)| !not_begun));
            let mut wrong = Vec::new();
            // After taking back in a second run the hosts differ; `taken_back` looks at those.
            let now = run.taken_back.is_none();
            match outcome {
                HostOutcome::Succeeded => {
                    for (step, cell) in of(Phase::Execute) {
                        let good = matches!(cell.outcome, Some(AttemptOutcome::Succeeded | AttemptOutcome::Skipped));
                        if !good {
                            wrong.push(format!("succeeded, and {} is {:?}", step.id, cell.outcome));
                        }
                        let really = applied.contains(&step.id) || cell.outcome == Some(AttemptOutcome::Skipped);
                        if now && !really && !cell.resolved {
                            wrong.push(format!("succeeded, and {} has no effect there", step.id));
                        }
                    }
                    for (step, cell) in of(Phase::Verify) {
                        if !matches!(cell.outcome, Some(AttemptOutcome::Succeeded | AttemptOutcome::Skipped)) {
                            wrong.push(format!("succeeded, and {} is {:?}", step.id, cell.outcome));
                        }
                    }
                    let for_good = self.plan.irreversible.is_some()
                        || of(Phase::Execute).any(|(step, _)| step.irreversible.is_some());
                    if run.rehearses && now && !applied.is_empty() && !for_good {
                        wrong.push(format!("succeeded in a rehearsal, and {applied:?} is still there"));
                    }
                }
                HostOutcome::Blocked if effect || (now && !applied.is_empty()) => {
                    wrong.push("blocked, and something was changed".into());
                }
                HostOutcome::RolledBack | HostOutcome::Cancelled if !applied.is_empty() && now => {
                    wrong.push(format!("{}, and {applied:?} is still there", outcome.name()));
                }
                HostOutcome::RolledBack if self.plan.rollback.verify == RollbackVerify::None => {
                    wrong.push("rolled back, and nothing verified it".into());
                }
                _ => {}
            }
            let unknown =
                of(Phase::Execute).any(|(_, cell)| cell.outcome == Some(AttemptOutcome::Unknown) && !cell.resolved);
            let verified = run.log.iter().rev().find_map(|(_, event)| match event {
                Event::PhaseEnded { host: of, phase: Phase::Rollback, ok } if of == host => Some(*ok),
                _ => None,
            });
            if unknown
                && verified != Some(true)
                && matches!(outcome, HostOutcome::Succeeded | HostOutcome::Blocked | HostOutcome::Failed)
            {
                wrong.push(format!("{}, and a change's outcome is unknown", outcome.name()));
            }
            if outcome == HostOutcome::Cancelled && !run.cancelled {
                wrong.push("cancelled, and nobody asked for that".into());
            }
            let touched = [Phase::Snapshot, Phase::Execute]
                .into_iter()
                .any(|phase| of(phase).any(|(_, cell)| cell.ends.iter().any(|(_, not_begun)| !not_begun)));
            if touched || outcome == HostOutcome::Succeeded {
                for step in self.plan.phase(Phase::Finally) {
                    let cell = cells.get(&Cell { host: host.clone(), step: step.id.clone() });
                    if cell.and_then(|cell| cell.outcome).is_none() {
                        wrong.push(format!("{} of finally has no outcome", step.id));
                    }
                }
            }
            for what in wrong {
                self.say(format!("{host} ended {what}"));
            }
        }
        let said = match run.status {
            Status::Ended(outcome) | Status::Suspended(outcome) => outcome,
            Status::Running => return,
        };
        if said != worst {
            self.say(format!("the run ended {}, and its worst host {}", said.name(), worst.name()));
        }
        let must_wait = last.values().any(|outcome| matches!(outcome, HostOutcome::Stuck | HostOutcome::Unknown));
        if must_wait && matches!(run.status, Status::Ended(_)) {
            self.say("the run is closed, and an operator is still needed".into());
        }
        self.budget_at_the_end(run, &last);
    }

    /// With rollback scope `host` no more hosts fail after their first change than the budget and the one that spends it.
    fn budget_at_the_end(&mut self, run: &Simulated, last: &BTreeMap<HostName, HostOutcome>) {
        if self.plan.rollback.scope != Scope::Host || run.cancelled || run.operator {
            return;
        }
        let meant = meant(run);
        let failed = last.iter().filter(|(host, outcome)| {
            use HostOutcome::{Failed, RolledBack, Stuck, Unknown};
            matches!(outcome, Failed | RolledBack | Stuck | Unknown)
                && !(**outcome == HostOutcome::RolledBack && meant.contains(*host))
        });
        let failed = failed.count();
        if failed > self.plan.failure_budget as usize + 1 {
            self.say(format!("{failed} hosts failed with a budget of {}", self.plan.failure_budget));
        }
    }

    /// A run that takes a finished one back leaves nothing of it, or says so.
    fn taken_back(&mut self, run: &Simulated, log: &[(u64, Event)]) {
        let ended: BTreeMap<_, _> = log
            .iter()
            .filter_map(|(_, event)| match event {
                Event::HostEnded { host, outcome, .. } => Some((host.clone(), *outcome)),
                _ => None,
            })
            .collect();
        for (host, applied) in &run.applied {
            match ended.get(host) {
                None => self.say(format!("{host} has no outcome in the run that takes it back")),
                Some(HostOutcome::RolledBack) if !applied.is_empty() => {
                    self.say(format!("{host} was taken back, and {applied:?} is still there"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Hosts that a rehearsal took back on purpose: their own steps had been good.
fn meant(run: &Simulated) -> BTreeSet<HostName> {
    let started = run.log.iter().filter_map(|(_, event)| match event {
        Event::PhaseStarted { host, phase: Phase::Rollback, reason: Some(reason), .. } => Some((host, reason)),
        _ => None,
    });
    started
        .filter(|(_, reason)| run.rehearses && reason.starts_with("a rehearsal"))
        .map(|(host, _)| host.clone())
        .collect()
}
