//! The phase `rollback`: what takes a host back, in the order in which it runs.

use std::collections::BTreeSet;

use runbook_lang::runbook as written;
use runbook_model::id::StepId;
use runbook_model::plan::{Action, OnFailure, Phase, Role, RollbackVerify, Step, Strategy};

use super::Builder;
use super::phase::Made;
use super::step::comparing;
use crate::invariants::actions;

/// The plan's word for what proves a rollback.
pub(super) fn verify_rule(verify: &written::RollbackVerify) -> RollbackVerify {
    match verify {
        written::RollbackVerify::Again => RollbackVerify::Again,
        written::RollbackVerify::Steps(_) => RollbackVerify::Steps,
        written::RollbackVerify::None => RollbackVerify::None,
    }
}

/// The last step of `verify` when roots are watched.
pub(super) fn undeclared(verify: &[Step]) -> Step {
    Step {
        needs: verify.iter().map(|step| step.id.clone()).collect(),
        on_failure: OnFailure::Rollback,
        ..comparing("verify.undeclared", "Whether anything else changed", Phase::Verify, Role::Undeclared)
    }
}

/// Whether a step that proves a rollback changes nothing: it does not, unless its action cannot but change something.
fn only_looks(step: &Step) -> bool {
    !actions(&step.work).any(|action| matches!(action, Action::Upload { .. } | Action::Reboot { .. }))
}

impl Builder<'_> {
    /// Undo steps (the last change first), restores (the last snapshot first), the runbook's own steps, and the proof.
    pub(super) fn rollback(
        &mut self,
        prechecks: &[Made],
        snapshot: &[Made],
        execute: &[Made],
        earlier: &mut BTreeSet<String>,
    ) -> Vec<Step> {
        let runbook = self.request.runbook;
        let strategy = runbook.rollback.strategy;
        let mut steps: Vec<Step> = Vec::new();
        if matches!(strategy, Strategy::Undo | Strategy::UndoThenRestore) {
            steps.extend(execute.iter().rev().flat_map(|made| made.undo.iter().cloned()));
        }
        if matches!(strategy, Strategy::Restore | Strategy::UndoThenRestore) {
            let taken = snapshot.iter().rev().filter_map(|made| made.snapshot.as_ref());
            steps.extend(taken.map(|snapshot| snapshot.restore.clone()));
        }
        steps.extend(self.list(&runbook.rollback.steps, Phase::Rollback, earlier).into_iter().map(|made| made.step));
        match &runbook.rollback.verify {
            written::RollbackVerify::Again => {
                steps.extend(prechecks.iter().map(|made| self.again(made)));
                steps.push(comparing(
                    "rollback.baseline",
                    "All is as it was measured before",
                    Phase::Rollback,
                    Role::Baseline,
                ));
            }
            written::RollbackVerify::Steps(list) => {
                let proof = self.list(list, Phase::Rollback, earlier);
                steps.extend(proof.into_iter().map(|made| Step { read_only: only_looks(&made.step), ..made.step }));
            }
            written::RollbackVerify::None => {}
        }
        let mut before: Option<StepId> = None;
        for step in &mut steps {
            step.needs = before.replace(step.id.clone()).into_iter().collect();
        }
        steps
    }

    /// A precheck once more. Every host proves for itself that it is back, so `once` is gone.
    fn again(&mut self, made: &Made) -> Step {
        let check = &made.step;
        let id = StepId::from(format!("{}.again", check.id));
        self.claim(&id, &made.span);
        Step {
            id,
            name: format!("Again: {}", if check.name.is_empty() { check.id.as_str() } else { &check.name }),
            phase: Phase::Rollback,
            role: Role::Again { of: check.id.clone() },
            once: None,
            on_failure: match check.on_failure {
                OnFailure::Continue => OnFailure::Continue,
                _ => OnFailure::Halt,
            },
            ..check.clone()
        }
    }
}
