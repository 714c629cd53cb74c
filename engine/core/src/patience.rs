//! Hosts that do not answer: how long they are waited for, and what is asked of them first when they do again.
//!
//! | phase | a lost attempt is asked after, and a host that does not answer waited for, until |
//! | --- | --- |
//! | prechecks, snapshot | [`UNCHANGED_LIMIT_MS`], or the rollback's budget, whichever is less; a host that does not answer when a step is to begin is not waited for: nothing was changed |
//! | execute, verify, finally | the rollback's budget, counted from when the host was lost |
//! | rollback | the end of its budget |
//!
//! A host has one such limit for each time that it is lost, however many steps meet its silence.

use runbook_model::Event;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::plan::{Action, Phase, Place, Work};

use crate::layout::{HostNo, StepNo};
use crate::state::{CellStage, Stage};
use crate::{Run, UNCHANGED_LIMIT_MS};

/// Delays between tries to reach a host that is being taken back.
const RECONNECT_MS: (u64, u64) = (1_000, 30_000);

impl Run {
    /// Until when an attempt that is lost now is asked after.
    pub(crate) fn lost_deadline_ms(&self, host: HostNo, step: StepNo) -> u64 {
        let (state, budget_ms) = (&self.hosts[host], self.layout.plan.rollback.budget_ms);
        let from_now = |limit: u64| self.now_ms.saturating_add(limit);
        match (self.layout.step(step).phase, state.stage, state.deadline_ms) {
            (_, Stage::Phase(Phase::Rollback), Some(deadline)) => deadline,
            (Phase::Prechecks | Phase::Snapshot, ..) => from_now(UNCHANGED_LIMIT_MS.min(budget_ms)),
            _ => match state.lost_until_ms {
                Some(until) if self.on_the_host(step) => until,
                _ => from_now(budget_ms),
            },
        }
    }

    /// The step's effects happen on the host itself.
    pub(crate) fn on_the_host(&self, step: StepNo) -> bool {
        self.layout.step(step).on == Place::Host
    }

    /// A host that was changed and does not answer when its next step is to begin is waited for, instead of being given up
    /// with half a change on it.
    pub(crate) fn waits_for_host(&self, host: HostNo, step: StepNo, obstacle: &Obstacle) -> bool {
        matches!(obstacle.kind, ObstacleKind::Unreachable | ObstacleKind::Session)
            && matches!(self.layout.step(step).phase, Phase::Execute | Phase::Verify)
            && self.changed(host)
            && !self.stopping(host)
    }

    /// When a host that is being taken back and did not answer is tried again: later each time, and not at the same moment
    /// as other hosts that were lost together with it.
    pub(crate) fn reconnect_delay_ms(&self, host: HostNo, tries: u32) -> u64 {
        let delay = RECONNECT_MS.0.saturating_mul(1 << (tries.max(1) - 1).min(16)).min(RECONNECT_MS.1);
        runbook_model::units::jittered_ms(delay, self.header.seed, &format!("{}/{tries}", self.layout.hosts[host]))
    }

    /// Before a host is taken back, attempts of which nobody knows are asked after once more, and what of them still runs is
    /// ended: nothing is undone while it is being done.
    pub(crate) fn ask_before_rollback(&mut self, host: HostNo) {
        for &step in self.layout.clone().phase(Phase::Execute) {
            let cell = &self.hosts[host].cells[step];
            let unknown = cell.outcome() == Some(runbook_model::AttemptOutcome::Unknown) && !cell.resolved;
            if unknown && cell.attempts > 0 && self.may_still_run(step) {
                let attempt = self.current_attempt(host, step);
                let reason = "nobody knows what became of it, and its host is to be taken back".to_owned();
                let deadline_ms = self.lost_deadline_ms(host, step);
                self.emit(Event::AttemptLost { attempt, reason, deadline_ms, not_begun: false });
            }
        }
    }

    /// Steps of `execute` that are being asked after although the host is in its rollback.
    pub(crate) fn asked_before_rollback(&self, host: HostNo) -> impl Iterator<Item = StepNo> {
        let lost = move |step: &&StepNo| matches!(self.hosts[host].cells[**step].stage, CellStage::Lost { .. });
        self.layout.phase(Phase::Execute).iter().filter(lost).copied()
    }

    /// The step belongs to a phase that its host has left for the rollback.
    pub(crate) fn late(&self, host: HostNo, step: StepNo) -> bool {
        self.hosts[host].stage == Stage::Phase(Phase::Rollback) && self.layout.step(step).phase != Phase::Rollback
    }

    /// The step starts a program on a host, which may outlive our knowledge of it.
    fn may_still_run(&self, step: StepNo) -> bool {
        let program =
            |action: &Action| matches!(action, Action::Run { .. } | Action::Argv { .. } | Action::Script { .. });
        let step = self.layout.step(step);
        !step.read_only
            && match &step.work {
                Work::Any(action) => program(action),
                Work::ByOs { posix, windows } => posix.iter().chain(windows).any(program),
            }
    }
}
