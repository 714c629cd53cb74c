//! Windows of simulated runs, drawn from their seed, and what must hold of runs that have them. The law is written from
//! docs/language/windows.md and runs on the log alone.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::permit::{Class, Permit, Stretch};
use runbook_model::plan::{AtEnd, Phase, Plan, Role};
use runbook_model::{Cell, Event, HostName, HostOutcome, Sha256};

use crate::controller::Simulated;
use crate::seed::Seed;

/// What is allowed, and from when on.
pub(crate) type Allowed = Vec<(u64, Permit)>;

/// Windows for a third of the seeds, half of them with changes while the run goes on. Draws from a seed of its own, so that
/// runs without windows are what they always were.
pub(crate) fn draw(number: u64, plan: &mut Plan) -> Allowed {
    let mut seed = Seed::new(number ^ 0x5_71DE_0F71_3E00);
    if !seed.percent(35) {
        return Vec::new();
    }
    if plan.irreversible.is_none() && seed.percent(75) {
        plan.window.at_end = AtEnd::Rollback;
    }
    plan.rollback.budget_ms = seed.pick(&[30_000, 120_000, 900_000]);
    let mut allowed = vec![(0, permit(&mut seed, plan))];
    for _ in 0..seed.pick(&[0, 0, 1, 3]) {
        let at_ms = seed.below(200_000);
        let changed = match seed.below(6) {
            0 => Permit::default(),
            1 => Permit { closed: Some("the windows cannot be read".into()), ..Permit::default() },
            _ => permit(&mut seed, plan),
        };
        allowed.push((at_ms, changed));
    }
    allowed[1..].sort_by_key(|(at_ms, _)| *at_ms);
    allowed
}

fn permit(seed: &mut Seed, plan: &Plan) -> Permit {
    let budget = plan.rollback.budget_ms;
    let mut classes: Vec<Class> = Vec::new();
    for no in 0..2 {
        // What comes after the first time is reached only after long waits for controllers and operators.
        let mut stretches = Vec::new();
        let mut from = if seed.percent(80) { 0 } else { seed.below(60_000) };
        for _ in 0..1 + seed.below(3) {
            let end_ms = from + budget + 1_000 + seed.below(250_000);
            stretches.push(Stretch { start_ms: from, end_ms });
            from = end_ms + 1 + seed.below(60_000);
        }
        let windows = if seed.percent(70) { vec![format!("w{no}")] } else { Vec::new() };
        let needs_ms = budget + seed.pick(&[0, 0, 20_000]);
        let (closings, estimate) = (Vec::new(), "drawn".to_owned());
        classes.push(Class { hosts: Vec::new(), windows, stretches, closings, needs_ms, estimate });
    }
    for host in plan.hosts.keys() {
        // One in eight may be begun at any time.
        match seed.below(8) {
            0 => {}
            n => classes[usize::from(n > 4)].hosts.push(host.clone()),
        }
    }
    Permit { windows: Some(Sha256::of(b"windows")), classes, closed: None }
}

/// What of the law does not hold.
pub(crate) fn broken(run: &Simulated) -> Vec<String> {
    let mut law = Law { run, broken: Vec::new(), begun: BTreeMap::new(), cut: BTreeSet::new() };
    law.look();
    law.broken
}

struct Law<'a> {
    run: &'a Simulated,
    broken: Vec<String>,
    /// When each host was begun, or begun again by an operator.
    begun: BTreeMap<HostName, u64>,
    cut: BTreeSet<HostName>,
}

impl Law<'_> {
    /// The permit in force for the event at that place of the log.
    fn permit(&self, place: usize) -> Permit {
        let in_force = self.run.permits.iter().rev().find(|(from, _)| *from <= place);
        in_force.map(|(_, permit)| permit.clone()).unwrap_or_default()
    }

    /// When the host's time ends at `now`; `None`: never.
    fn ends_ms(&self, place: usize, host: &HostName, now: u64) -> Option<u64> {
        let permit = self.permit(place);
        let class = permit.classes.iter().find(|class| class.hosts.contains(host))?;
        let begun = *self.begun.get(host)?;
        let around = |at: u64| class.stretches.iter().find(|open| open.start_ms <= at && at < open.end_ms);
        Some(around(begun).or_else(|| around(now)).map_or(0, |open| open.end_ms))
    }

    fn may_begin(&self, place: usize, host: &HostName, now: u64) -> bool {
        let permit = self.permit(place);
        if permit.closed.is_some() {
            return false;
        }
        let Some(class) = permit.classes.iter().find(|class| class.hosts.contains(host)) else { return true };
        class
            .stretches
            .iter()
            .any(|open| open.start_ms <= now && now < open.end_ms && open.end_ms - now >= class.needs_ms)
    }

    fn look(&mut self) {
        let (run, plan) = (self.run, &self.run.plan);
        let rolls_back = plan.window.at_end == AtEnd::Rollback;
        let mut changing: BTreeSet<HostName> = BTreeSet::new();
        let mut irreversible: BTreeSet<HostName> = BTreeSet::new();
        let mut cancelled = false;
        let mut failed: BTreeSet<Cell> = BTreeSet::new();
        for (place, (now, event)) in run.log.iter().enumerate() {
            let now = *now;
            match event {
                Event::CancelAsked { .. } => cancelled = true,
                Event::HostStarted { host, begun_ms } => {
                    if !self.may_begin(place, host, now) {
                        self.broken.push(format!("{host} was begun at {now}, and might not be"));
                    }
                    if *begun_ms != rolls_back.then_some(now) {
                        self.broken.push(format!("{host} was begun at {now}, and {begun_ms:?} is on record"));
                    }
                    self.begun.insert(host.clone(), now);
                }
                Event::HostReopened { host, .. } => {
                    self.begun.insert(host.clone(), now);
                    self.cut.remove(host);
                }
                Event::PhaseStarted { host, phase: Phase::Snapshot | Phase::Execute, .. }
                    if changing.insert(host.clone()) && !self.may_begin(place, host, now) =>
                {
                    self.broken.push(format!("{host} began its change at {now}, and might not"));
                }
                Event::AttemptStarted { attempt, phase, .. } => {
                    let host = &attempt.host;
                    let step = plan.step(&attempt.step).expect("a step of the plan");
                    let forward = matches!(phase, Phase::Prechecks | Phase::Snapshot | Phase::Execute | Phase::Verify)
                        && !matches!(step.role, Role::Release { .. });
                    if forward && self.cut.contains(host) {
                        self.broken.push(format!("{attempt} began after its host was cut off"));
                    }
                    let ends = self.ends_ms(place, host, now);
                    let late = ends.is_some_and(|ends| now >= ends.saturating_sub(plan.rollback.budget_ms));
                    if forward && rolls_back && late && !irreversible.contains(host) {
                        self.broken
                            .push(format!("{attempt} began at {now}, with no time for the way back before {ends:?}"));
                    }
                    if step.irreversible.is_some() {
                        irreversible.insert(host.clone());
                    }
                }
                Event::StepEnded { cell, outcome, .. } => {
                    use runbook_model::AttemptOutcome::{Skipped, Succeeded};
                    if !matches!(outcome, Succeeded | Skipped) {
                        failed.insert(cell.clone());
                    }
                }
                Event::HostCutOff { host, ends_ms, .. } => {
                    let due = self.ends_ms(place, host, now);
                    let late = due.is_some_and(|ends| now >= ends.saturating_sub(plan.rollback.budget_ms));
                    let said = due.is_some_and(|ends| *ends_ms == if ends == 0 { now } else { ends });
                    if !rolls_back || cancelled || !late || !said {
                        self.broken.push(format!("{host} was cut off at {now} for {ends_ms}, and {due:?} was due"));
                    }
                    if !self.cut.insert(host.clone()) {
                        self.broken.push(format!("{host} was cut off twice"));
                    }
                }
                Event::HostEnded { host, outcome, .. } if self.cut.contains(host) => {
                    // Its way back may fail; and one that had failed before may be left as its plan says.
                    use HostOutcome::{Blocked, Cancelled, Failed, RolledBack, Stuck, Succeeded, Unknown};
                    let had_failed = failed.iter().any(|cell| cell.host == *host);
                    let good = match outcome {
                        Blocked | RolledBack | Stuck | Unknown => true,
                        Failed => had_failed,
                        Succeeded | Cancelled => false,
                    };
                    if !good {
                        self.broken.push(format!("{host} was cut off, and ended {}", outcome.name()));
                    }
                }
                _ => {}
            }
        }
    }
}
