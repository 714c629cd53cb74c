//! Hosts that misbehave. What really happened on them is known here, and only here.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::outcome::{Ended, Exit, KilledBy, Obstacle, ObstacleKind};
use runbook_model::plan::{Plan, Role, Step};
use runbook_model::{AttemptId, HostName, StepId};

use crate::seed::Seed;

/// How often things go wrong, in a hundred.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) fail: u64,
    pub(crate) lost: u64,
    pub(crate) timeout: u64,
    pub(crate) unreachable: u64,
    /// Of lost attempts: nothing can be learned of them.
    pub(crate) forgotten: u64,
}

impl Faults {
    pub(crate) const NONE: Self = Self { fail: 0, lost: 0, timeout: 0, unreachable: 0, forgotten: 0 };
}

/// One host.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimHost {
    /// Steps of `execute` whose effect is there now.
    pub(crate) applied: BTreeSet<StepId>,
    /// Snapshots that exist.
    pub(crate) snapshots: BTreeSet<StepId>,
    /// Attempts that the host claimed, and what came of each.
    pub(crate) claims: BTreeMap<AttemptId, Option<Ended>>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) hosts: BTreeMap<HostName, SimHost>,
    pub(crate) faults: Faults,
    /// Effects that were had, by attempt: must never be more than one.
    pub(crate) effects: BTreeMap<AttemptId, u32>,
}

/// What a controller sees of an attempt.
pub(crate) enum Seen {
    Ended(Ended),
    Lost,
}

impl World {
    pub(crate) fn new(plan: &Plan, faults: Faults) -> Self {
        let hosts = plan.hosts.keys().map(|name| (name.clone(), SimHost::default())).collect();
        Self { hosts, faults, effects: BTreeMap::new() }
    }

    pub(crate) fn obstacle() -> Obstacle {
        Obstacle { kind: ObstacleKind::Unreachable, message: "no answer".into() }
    }

    pub(crate) fn reachable(&self, seed: &mut Seed) -> bool {
        !seed.percent(self.faults.unreachable)
    }

    /// Carries an attempt out, as a host would: once per id.
    pub(crate) fn attempt(&mut self, seed: &mut Seed, step: &Step, id: &AttemptId) -> Seen {
        let host = self.hosts.get_mut(&id.host).expect("a host of the plan");
        if let Some(known) = host.claims.get(id) {
            return known.clone().map_or(Seen::Lost, Seen::Ended);
        }
        if seed.percent(self.faults.unreachable) {
            return Seen::Ended(Ended::NotStarted { obstacle: Self::obstacle() });
        }
        let fails = seed.percent(self.faults.fail);
        let times_out = !fails && seed.percent(self.faults.timeout);
        // A failed step may have had its effect or not: half-done.
        let effect = !(fails || times_out) || seed.percent(50);
        if effect {
            *self.effects.entry(id.clone()).or_default() += 1;
            match &step.role {
                Role::Plain if step.phase == runbook_model::Phase::Execute => {
                    host.applied.insert(step.id.clone());
                }
                Role::Take => {
                    host.snapshots.insert(step.id.clone());
                }
                Role::Undo { of } => {
                    host.applied.remove(of);
                }
                Role::Restore { of } if host.snapshots.contains(of) => host.applied.clear(),
                Role::Release { of } => {
                    host.snapshots.remove(of);
                }
                _ => {}
            }
        }
        let broken = match &step.role {
            Role::Baseline => !host.applied.is_empty(),
            Role::Probe { of } | Role::Restore { of } => !host.snapshots.contains(of),
            _ => false,
        };
        let ended = if times_out {
            Ended::Killed { by: KilledBy::Timeout }
        } else if fails || broken {
            Ended::Exited { exit: Exit::Code(1), unmet: vec!["exit code 1".into()], class: None }
        } else {
            Ended::Exited { exit: Exit::Code(0), unmet: Vec::new(), class: None }
        };
        let lost = seed.percent(self.faults.lost);
        let forgotten = lost && (step.read_only || seed.percent(self.faults.forgotten));
        if !step.read_only {
            host.claims.insert(id.clone(), (!forgotten).then(|| ended.clone()));
        }
        if lost { Seen::Lost } else { Seen::Ended(ended) }
    }

    /// What can be learned of an attempt later. An unclaimed id of a step that may change something is claimed by asking.
    pub(crate) fn probe(&mut self, seed: &mut Seed, step: &Step, id: &AttemptId) -> Ended {
        let unknown = |reason: &str| Ended::Unknown { reason: reason.into() };
        if seed.percent(self.faults.unreachable) {
            return unknown("no answer");
        }
        if step.read_only {
            return unknown("it ran attached");
        }
        let host = self.hosts.get_mut(&id.host).expect("a host of the plan");
        match host.claims.get(id) {
            Some(Some(ended)) => ended.clone(),
            Some(None) => unknown("the host has no record of it"),
            None => {
                let ended = Ended::NotStarted { obstacle: Self::obstacle() };
                host.claims.insert(id.clone(), Some(ended.clone()));
                ended
            }
        }
    }
}
