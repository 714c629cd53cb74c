//! The steps of one list of the runbook, in order, each repeated for its items.

use std::collections::{BTreeMap, BTreeSet};

use runbook_lang::runbook as written;
use runbook_lang::{Code, Diagnostic};
use runbook_model::id::StepId;
use runbook_model::plan::{Phase, Step};
use serde_json::Value;

use super::Builder;
use crate::order::{Cycle, order};

/// A step of the plan and the steps that stand by it.
pub(super) struct Made {
    pub(super) step: Step,
    /// For a step that takes a snapshot.
    pub(super) snapshot: Option<Box<SnapshotSteps>>,
    /// What takes it back, in the order in which it runs.
    pub(super) undo: Vec<Step>,
    /// It cannot change anything by what it does.
    pub(super) harmless: bool,
    /// Where the step was written.
    pub(super) span: runbook_lang::Span,
}

/// What belongs to a snapshot, beside taking it.
pub(super) struct SnapshotSteps {
    pub(super) probe: Step,
    pub(super) restore: Step,
    pub(super) release: Step,
}

impl Made {
    /// The step that must have ended well before another one that needs this one may begin: of a snapshot its proof.
    fn gate(&self) -> &StepId {
        self.snapshot.as_ref().map_or(&self.step.id, |snapshot| &snapshot.probe.id)
    }
}

/// The steps of `snapshot` in plan order: each with its proof; what gives snapshots up stands at the end.
pub(super) fn snapshot_steps(made: Vec<Made>) -> Vec<Step> {
    let mut releases = Vec::new();
    let mut steps = Vec::new();
    for made in made {
        steps.push(made.step);
        if let Some(snapshot) = made.snapshot {
            steps.push(snapshot.probe);
            releases.push(snapshot.release);
        }
    }
    steps.append(&mut releases);
    steps
}

impl Builder<'_> {
    /// Makes the steps of `list`. `earlier` has the ids as people wrote them of all lists before, and gets those of
    /// this one.
    pub(super) fn list(&mut self, list: &[written::Step], phase: Phase, earlier: &mut BTreeSet<String>) -> Vec<Made> {
        let needs = self.needs(list, earlier);
        let in_order = order(&needs).unwrap_or_else(|Cycle(cycle)| {
            self.report_cycle(list, &cycle);
            (0..list.len()).collect()
        });
        // By the place in the list: the ids that another step waits for when it needs this one.
        let mut gates: Vec<Vec<StepId>> = vec![Vec::new(); list.len()];
        let mut made = Vec::new();
        for place in in_order {
            let written = &list[place];
            let mut waits_for: Vec<StepId> = Vec::new();
            for need in &needs[place] {
                for gate in &gates[*need] {
                    if !waits_for.contains(gate) {
                        waits_for.push(gate.clone());
                    }
                }
            }
            let items = self.items(written);
            let side_by_side = written.needs.as_ref().is_some_and(Vec::is_empty);
            if items.is_empty() {
                gates[place] = waits_for.clone();
            }
            let mut before: Option<StepId> = None;
            for (id, item) in items {
                let mut step_needs = waits_for.clone();
                step_needs.extend(before.take());
                let Some(step) = self.step(written, id, phase, item, step_needs) else { continue };
                if !side_by_side {
                    before = Some(step.gate().clone());
                }
                gates[place].push(step.gate().clone());
                made.push(step);
            }
        }
        earlier.extend(list.iter().map(|step| step.id.value.clone()));
        made
    }

    /// For each step of `list` the places of those that it needs.
    fn needs(&mut self, list: &[written::Step], earlier: &BTreeSet<String>) -> Vec<Vec<usize>> {
        let places: BTreeMap<&str, usize> =
            list.iter().enumerate().map(|(place, step)| (step.id.value.as_str(), place)).collect();
        let mut all = Vec::new();
        for (place, step) in list.iter().enumerate() {
            let Some(written) = &step.needs else {
                all.push(place.checked_sub(1).into_iter().collect());
                continue;
            };
            let mut needed = Vec::new();
            for need in written {
                match places.get(need.value.as_str()) {
                    Some(other) => needed.push(*other),
                    // Earlier phases have ended before this one begins.
                    None if earlier.contains(&need.value) => {}
                    None => self.report(Diagnostic::error(
                        Code::UnknownStep,
                        &need.span,
                        format!("`needs` names `{}`, which is no step of this or an earlier phase", need.value),
                    )),
                }
            }
            all.push(needed);
        }
        all
    }

    fn report_cycle(&mut self, list: &[written::Step], cycle: &[usize]) {
        let first = &list[cycle[0]];
        let names: Vec<&str> = cycle.iter().chain(&cycle[..1]).map(|place| list[*place].id.value.as_str()).collect();
        let mut problem = Diagnostic::error(
            Code::Cycle,
            &first.id.span,
            format!("these steps wait for each other: {}", names.join(" → ")),
        )
        .help("take one of the ids out of `needs`");
        for place in &cycle[1..] {
            problem = problem.label(&list[*place].id.span, "this one is part of it");
        }
        self.report(problem);
    }

    /// The steps that `written` becomes: one, or one for each item.
    fn items(&mut self, written: &written::Step) -> Vec<(StepId, Option<Value>)> {
        let id = written.id.value.as_str();
        let items: Vec<Value> = match &written.each {
            None => return vec![(StepId::from(id), None)],
            Some(written::Each::Items(items)) => items.iter().map(|item| item.value.clone()).collect(),
            Some(written::Each::Parameter(name)) => match self.frame.parameters.get(&name.value) {
                Some(Value::Array(items)) => items.clone(),
                None if !self.heads_are_sound => Vec::new(),
                // Absent: an optional list that nobody gave has no items.
                None if self.request.runbook.parameters.contains_key(&name.value) => Vec::new(),
                _ => {
                    self.report(Diagnostic::error(
                        Code::UnknownParameter,
                        &name.span,
                        format!("`each` needs a parameter of type list, and `{}` is none", name.value),
                    ));
                    Vec::new()
                }
            },
        };
        items.into_iter().enumerate().map(|(n, item)| (StepId::from(format!("{id}-{}", n + 1)), Some(item))).collect()
    }
}
