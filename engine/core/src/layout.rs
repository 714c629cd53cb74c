//! The plan with numbers instead of names, made once, so that no decision searches a list.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::plan::{Once, Phase, Place, Plan, Role, Step};
use runbook_model::{Cell, HostName, StepId};

/// Place of a host: hosts are numbered batch by batch, in the plan's order.
pub(crate) type HostNo = usize;
/// Place of a step in `Plan::steps`.
pub(crate) type StepNo = usize;

#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) plan: Arc<Plan>,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) batch_of: Vec<usize>,
    /// Hosts of each batch.
    pub(crate) batches: Vec<std::ops::Range<HostNo>>,
    host_no: BTreeMap<HostName, HostNo>,
    step_no: BTreeMap<StepId, StepNo>,
    /// Steps of each phase in plan order, without `Release` steps.
    phases: [Vec<StepNo>; 6],
    /// `needs` of each step.
    pub(crate) needs: Vec<Vec<StepNo>>,
    /// The steps that need each step.
    pub(crate) needed_by: Vec<Vec<StepNo>>,
    /// The `once` steps of each phase.
    once: [Vec<StepNo>; 6],
    /// The step that a derived one is about.
    pub(crate) about: Vec<Option<StepNo>>,
    /// `Release` steps, last snapshot first.
    pub(crate) releases: Vec<StepNo>,
    /// A rollback is proved by what was measured before. What is irreversible is never rolled back.
    pub(crate) has_baseline: bool,
    /// Some step works on a host that it names, for others.
    pub(crate) works_elsewhere: bool,
}

impl Layout {
    /// # Panics
    /// When the plan's own references do not hold; `runbook_plan` checks that for every plan it makes or loads.
    pub(crate) fn new(plan: Arc<Plan>) -> Self {
        let hosts: Vec<HostName> = plan.batches.iter().flatten().cloned().collect();
        let mut batches = Vec::new();
        let mut batch_of = Vec::with_capacity(hosts.len());
        for (batch, members) in plan.batches.iter().enumerate() {
            let start = batch_of.len();
            batch_of.extend(members.iter().map(|_| batch));
            batches.push(start..batch_of.len());
        }
        let host_no = hosts.iter().cloned().enumerate().map(|(no, name)| (name, no)).collect();
        let step_no: BTreeMap<StepId, StepNo> =
            plan.steps.iter().enumerate().map(|(no, step)| (step.id.clone(), no)).collect();
        let number = |id: &StepId| *step_no.get(id).expect("a plan's steps refer to steps of the plan");
        let phases = Phase::ALL.map(|phase| {
            let in_phase =
                |(_, step): &(StepNo, &Step)| step.phase == phase && !matches!(step.role, Role::Release { .. });
            plan.steps.iter().enumerate().filter(in_phase).map(|(no, _)| no).collect()
        });
        let about = plan.steps.iter().map(|step| match &step.role {
            Role::Probe { of }
            | Role::Restore { of }
            | Role::Release { of }
            | Role::Undo { of }
            | Role::Again { of } => Some(number(of)),
            Role::Plain | Role::Take | Role::Baseline | Role::Undeclared => None,
        });
        let with_role = |wanted: fn(&Role) -> bool| {
            plan.steps.iter().enumerate().filter(move |(_, step)| wanted(&step.role)).map(|(no, _)| no)
        };
        let needs: Vec<Vec<StepNo>> = plan.steps.iter().map(|step| step.needs.iter().map(number).collect()).collect();
        let mut needed_by = vec![Vec::new(); plan.steps.len()];
        for (step, needs) in needs.iter().enumerate() {
            for &need in needs {
                needed_by[need].push(step);
            }
        }
        let is_once = |step: &StepNo| plan.steps[*step].once.is_some();
        let once = phases.each_ref().map(|steps: &Vec<StepNo>| steps.iter().copied().filter(is_once).collect());
        Self {
            needs,
            needed_by,
            once,
            about: about.collect(),
            releases: {
                let mut releases: Vec<_> = with_role(|role| matches!(role, Role::Release { .. })).collect();
                releases.reverse();
                releases
            },
            works_elsewhere: plan.steps.iter().any(|step| matches!(step.on, Place::Named(_))),
            has_baseline: plan.irreversible.is_none()
                && with_role(|role| matches!(role, Role::Baseline)).next().is_some(),
            hosts,
            batch_of,
            batches,
            host_no,
            step_no,
            phases,
            plan,
        }
    }

    pub(crate) fn step(&self, no: StepNo) -> &Step {
        &self.plan.steps[no]
    }

    pub(crate) fn phase(&self, phase: Phase) -> &[StepNo] {
        &self.phases[phase as usize]
    }

    /// The phase that waits for the step; `None` for those that no phase waits for.
    pub(crate) fn counted_in(&self, step: StepNo) -> Option<Phase> {
        let step = self.step(step);
        (!matches!(step.role, Role::Release { .. })).then_some(step.phase)
    }

    pub(crate) fn once_in(&self, phase: Phase) -> &[StepNo] {
        &self.once[phase as usize]
    }

    pub(crate) fn host_no(&self, name: &HostName) -> Option<HostNo> {
        self.host_no.get(name).copied()
    }

    pub(crate) fn step_no(&self, id: &StepId) -> Option<StepNo> {
        self.step_no.get(id).copied()
    }

    pub(crate) fn locate(&self, cell: &Cell) -> Option<(HostNo, StepNo)> {
        Some((self.host_no(&cell.host)?, self.step_no(&cell.step)?))
    }

    pub(crate) fn cell(&self, host: HostNo, step: StepNo) -> Cell {
        Cell { host: self.hosts[host].clone(), step: self.step(step).id.clone() }
    }

    /// Hosts that share one doing of a `once` step with `host`; `None` when the step is not `once`.
    pub(crate) fn once_peers(&self, host: HostNo, step: StepNo) -> Option<std::ops::Range<HostNo>> {
        match self.step(step).once? {
            Once::Run => Some(0..self.hosts.len()),
            Once::Batch => Some(self.batches[self.batch_of[host]].clone()),
        }
    }
}
