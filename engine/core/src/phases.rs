//! A host's way through its phases: which cells may begin, when a phase has ended, what comes next.

use runbook_model::command::Subject;
use runbook_model::plan::{OnFailure, Phase, Role, RollbackVerify, Scope};
use runbook_model::{AttemptOutcome, Event};

use crate::Run;
use crate::layout::{HostNo, StepNo};
use crate::state::{CellStage, HostState, Stage};

/// Why a host of a rehearsal is taken back whose change was made and verified.
const REHEARSED: &str = "a rehearsal: the change was made and verified, and is taken back on purpose";

impl Run {
    /// Decides what follows for one host, a little at a time: every event makes the host unsettled again.
    pub(crate) fn advance(&mut self, host: HostNo) {
        if !self.started || self.status != crate::Status::Running {
            return;
        }
        if self.cut_off_when_due(host) {
            return;
        }
        match self.hosts[host].stage {
            Stage::Waiting | Stage::Ready | Stage::Held | Stage::Ended(_) => {}
            Stage::Connecting => {
                if self.cancel {
                    self.end_host(host);
                }
            }
            Stage::Between(done) => self.next_phase(host, done),
            Stage::Phase(phase) => self.advance_phase(host, phase),
            Stage::Releasing => {
                if !self.layout.releases.iter().any(|&step| self.release_open(host, step)) {
                    self.finish(host);
                }
            }
        }
    }

    fn next_phase(&mut self, host: HostNo, done: Option<Phase>) {
        let state = &self.hosts[host];
        if state.taking_back && state.rollback.is_none() {
            if done == Some(Phase::Prechecks) {
                return self.end_host(host);
            }
            let reason = state.why.clone().unwrap_or_else(|| "taking the run back was asked for".to_owned());
            return self.start_rollback(host, Some(reason));
        }
        match done {
            None => self.start_phase(host, Phase::Prechecks),
            Some(phase) if state.failed_in == Some(phase) => match phase {
                Phase::Execute | Phase::Verify if self.changed(host) && !self.halts(host) => {
                    self.start_rollback(host, self.hosts[host].why.clone());
                }
                _ => self.finish(host),
            },
            Some(Phase::Prechecks) => self.end_host(host),
            Some(Phase::Snapshot) => self.start_phase(host, Phase::Execute),
            Some(Phase::Execute) if !self.layout.phase(Phase::Verify).is_empty() => {
                self.start_phase(host, Phase::Verify);
            }
            Some(Phase::Execute | Phase::Verify)
                if self.header.rehearses && self.changed(host) && !self.halts(host) =>
            {
                self.start_rollback(host, Some(REHEARSED.to_owned()));
            }
            Some(Phase::Execute | Phase::Verify) => match self.layout.plan.rollback.scope {
                Scope::Host => self.finish(host),
                Scope::Batch | Scope::Run => self.emit(Event::HostHeld { host: self.layout.hosts[host].clone() }),
            },
            Some(Phase::Rollback) => self.finish(host),
            Some(Phase::Finally) => self.end_host(host),
        }
    }

    /// Begins a ready host's change.
    pub(crate) fn start_change(&mut self, host: HostNo) {
        let first = if self.layout.phase(Phase::Snapshot).is_empty() { Phase::Execute } else { Phase::Snapshot };
        self.start_phase(host, first);
    }

    fn start_phase(&mut self, host: HostNo, phase: Phase) {
        let host = self.layout.hosts[host].clone();
        self.emit(Event::PhaseStarted { host, phase, reason: None, deadline_ms: None });
    }

    pub(crate) fn start_rollback(&mut self, host: HostNo, reason: Option<String>) {
        let deadline_ms = Some(self.now_ms.saturating_add(self.layout.plan.rollback.budget_ms));
        let name = self.layout.hosts[host].clone();
        self.emit(Event::PhaseStarted { host: name, phase: Phase::Rollback, reason, deadline_ms });
        self.ask_before_rollback(host);
    }

    /// `finally` where it is due, else the end. It is due wherever `snapshot` or `execute` began, unless the host failed
    /// before the first of their steps could: then there is nothing to clear up, and perhaps no host to do it on.
    pub(crate) fn finish(&mut self, host: HostNo) {
        let state = &self.hosts[host];
        let begun = |phase| self.layout.phase(phase).iter().any(|&step| state.cells[step].effect);
        let untouched = state.failed_in.is_some() && !begun(Phase::Snapshot) && !begun(Phase::Execute);
        if state.entered && !untouched && !self.layout.phase(Phase::Finally).is_empty() {
            self.start_phase(host, Phase::Finally);
        } else {
            self.end_host(host);
        }
    }

    fn end_host(&mut self, host: HostNo) {
        let (outcome, reason) = self.verdict(host);
        self.emit(Event::HostEnded { host: self.layout.hosts[host].clone(), outcome, reason });
    }

    fn advance_phase(&mut self, host: HostNo, phase: Phase) {
        if self.stopping(host) && self.end_waiting_cell(host, phase) {
            return;
        }
        if phase == Phase::Rollback {
            if self.pass_over_in_rollback(host) {
                return;
            }
        } else if self.share_once_outcome(host, phase) {
            return;
        }
        let count = self.hosts[host].counts[phase as usize];
        let open = if self.stopping(host) { count.busy } else { count.open };
        if open > 0 || !self.measures_due(host, phase).is_empty() {
            return;
        }
        if phase == Phase::Rollback && self.asked_before_rollback(host).next().is_some() {
            return;
        }
        let ok = match phase {
            Phase::Rollback => {
                self.hosts[host].why_stuck.is_none() && self.layout.plan.rollback.verify != RollbackVerify::None
            }
            Phase::Finally => self.layout.phase(phase).iter().all(|&step| self.hosts[host].cells[step].good()),
            _ => !self.stopping(host),
        };
        self.emit(Event::PhaseEnded { host: self.layout.hosts[host].clone(), phase, ok });
    }

    /// Ends one cell that is between two attempts (or before its first) when nothing may begin any more.
    fn end_waiting_cell(&mut self, host: HostNo, phase: Phase) -> bool {
        let waiting = |stage| {
            use CellStage::{Backoff, Checked, Due, Measured, Prepared};
            matches!(stage, Prepared | Checked | Measured | Due | Backoff { .. })
        };
        let found = self.layout.phase(phase).iter().find(|&&step| waiting(self.hosts[host].cells[step].stage));
        let Some(&step) = found else { return false };
        let outcome = self.hosts[host].cells[step].last.unwrap_or(AttemptOutcome::NotStarted);
        let why = if phase == Phase::Rollback {
            "the rollback's budget is over"
        } else if self.cancel {
            "the run was cancelled"
        } else if self.hosts[host].cut {
            "its host was cut off before the end of its window"
        } else {
            "another step of the phase failed"
        };
        let reason = match self.hosts[host].reasons.get(&step) {
            Some(reason) => format!("{reason}; not attempted again: {why}"),
            None => format!("not attempted: {why}"),
        };
        self.end_step(self.layout.cell(host, step), outcome, reason);
        true
    }

    /// Takes over the outcome of a `once` step that another host did.
    fn share_once_outcome(&mut self, host: HostNo, phase: Phase) -> bool {
        for &step in self.layout.clone().once_in(phase) {
            let Some(leader) = self.other_leader(host, step) else { continue };
            let Some(outcome) = self.hosts[leader].cells[step].outcome() else { continue };
            if self.hosts[host].cells[step].stage != CellStage::Waiting || !self.needs_met(host, step, phase) {
                continue;
            }
            let name = self.layout.hosts[leader].clone();
            let (outcome, reason) = match outcome {
                AttemptOutcome::Succeeded | AttemptOutcome::Skipped => {
                    (AttemptOutcome::Skipped, format!("done once, on {name}"))
                }
                other => {
                    let there =
                        format!("it is done once, on {name}, and ended there as {}", other.name().replace('_', " "));
                    (AttemptOutcome::NotStarted, there)
                }
            };
            let cell = self.layout.cell(host, step);
            self.emit(Event::StepEnded { cell, outcome, reason, done_on: Some(name), snapshot: None });
            return true;
        }
        false
    }

    /// Ends the next cell of the rollback when there is nothing to do for it, or no time.
    fn pass_over_in_rollback(&mut self, host: HostNo) -> bool {
        if self.asked_before_rollback(host).next().is_some() {
            return false;
        }
        let Some(step) = self.rollback_turn(host) else { return false };
        if self.hosts[host].cells[step].stage != CellStage::Waiting {
            return false;
        }
        let (outcome, reason) = match self.not_due(host, step) {
            Some(reason) => (AttemptOutcome::Skipped, reason),
            None if self.hosts[host].expired => {
                (AttemptOutcome::NotStarted, "the rollback's budget is over".to_owned())
            }
            None => return false,
        };
        self.end_step(self.layout.cell(host, step), outcome, reason);
        true
    }

    /// The first cell of the rollback that has not ended: they run strictly one after the other.
    fn rollback_turn(&self, host: HostNo) -> Option<StepNo> {
        let open = |step: &&StepNo| self.hosts[host].cells[**step].outcome().is_none();
        self.layout.phase(Phase::Rollback).iter().find(open).copied()
    }

    /// Why a rollback step has nothing to do on this host; `None` when it is due.
    fn not_due(&self, host: HostNo, step: StepNo) -> Option<String> {
        let state = &self.hosts[host];
        let about = self.layout.about[step];
        let name = |no: Option<StepNo>| no.map(|no| self.layout.step(no).id.to_string()).unwrap_or_default();
        let verification = || {
            let why = state.why_stuck.as_ref()?;
            Some(format!("there is nothing to verify yet: {why}"))
        };
        match self.layout.step(step).role {
            Role::Undo { .. } if !about.is_some_and(|of| state.cells[of].effect) => {
                Some(format!("not needed: {} did not begin on this host", name(about)))
            }
            Role::Restore { .. } | Role::Probe { .. } if !self.changed(host) => {
                Some("not needed: nothing of `execute` began on this host".to_owned())
            }
            Role::Restore { .. } | Role::Probe { .. } if !about.is_some_and(|of| state.snapshots.contains_key(&of)) => {
                Some(format!("not needed: {} took no snapshot on this host", name(about)))
            }
            Role::Again { .. } if !about.is_some_and(|of| self.ran_good(state, of)) => {
                Some(format!("{} was not run on this host before the change", name(about)))
            }
            Role::Baseline if !matches!(state.measured.get(&Subject::Baseline), Some(Some(_))) => {
                Some("nothing was measured before the change".to_owned())
            }
            Role::Again { .. } | Role::Baseline => verification(),
            _ => None,
        }
    }

    fn ran_good(&self, state: &HostState, step: StepNo) -> bool {
        state.cells[step].outcome() == Some(AttemptOutcome::Succeeded)
    }

    /// Whether nothing new may begin in the host's phase.
    pub(crate) fn stopping(&self, host: HostNo) -> bool {
        let state = &self.hosts[host];
        match state.stage {
            Stage::Phase(Phase::Rollback) => state.expired,
            Stage::Phase(Phase::Finally) => false,
            Stage::Phase(phase) => {
                let unmeasured = |subject| state.measured.get(&subject) == Some(&None);
                self.cancel
                    || state.cut
                    || state.counts[phase as usize].failed > 0
                    || (phase == Phase::Execute && (unmeasured(Subject::Baseline) || unmeasured(Subject::WatchBefore)))
            }
            _ => false,
        }
    }

    /// Whether what runs must be ended.
    pub(crate) fn must_end(&self, host: HostNo) -> bool {
        match self.hosts[host].stage {
            Stage::Phase(Phase::Rollback) => self.hosts[host].expired,
            Stage::Phase(Phase::Finally) => false,
            Stage::Phase(_) => self.cancel || self.hosts[host].cut,
            _ => false,
        }
    }

    /// The cell has ended in a way that ends its phase.
    fn failed(&self, host: HostNo, step: StepNo) -> bool {
        self.layout.failed(step, &self.hosts[host].cells[step])
    }

    fn goes_on(&self, host: HostNo, step: StepNo) -> bool {
        self.layout.goes_on(step, &self.hosts[host].cells[step])
    }

    /// A step failed and was gone past, or one of `finally` did not end well: the host is at best `failed`.
    pub(crate) fn blemished(&self, host: HostNo) -> bool {
        let state = &self.hosts[host];
        state.cells.iter().enumerate().any(|(step, cell)| {
            let phase = self.layout.step(step).phase;
            let gone_past = cell.outcome().is_some() && !cell.good() && self.goes_on(host, step);
            let stopped = state.cancelled || state.cut_first;
            gone_past && (!stopped || matches!(phase, Phase::Rollback | Phase::Finally))
                || phase == Phase::Finally && cell.outcome().is_some() && !cell.good()
        })
    }

    /// After a failure the host is left as it is.
    pub(crate) fn halts(&self, host: HostNo) -> bool {
        let cells = &self.hosts[host].cells;
        let irreversible = self
            .layout
            .phase(Phase::Execute)
            .iter()
            .any(|&step| cells[step].effect && self.layout.step(step).irreversible.is_some());
        let asked = |phase: Phase| {
            self.layout.phase(phase).iter().any(|&step| {
                let on_failure = self.layout.step(step).on_failure;
                self.failed(host, step) && matches!(on_failure, OnFailure::Halt | OnFailure::Continue)
            })
        };
        let state = &self.hosts[host];
        let asked_to = !state.cancelled && !state.cut_first && state.failed_in.is_some_and(asked);
        irreversible || self.layout.plan.irreversible.is_some() || asked_to
    }

    /// Something of `execute` may have happened on the host.
    pub(crate) fn changed(&self, host: HostNo) -> bool {
        self.layout.phase(Phase::Execute).iter().any(|&step| {
            let (cell, what) = (&self.hosts[host].cells[step], self.layout.step(step));
            cell.effect && !what.read_only
        })
    }

    /// The cell is to be prepared now.
    pub(crate) fn wants_preparing(&self, host: HostNo, step: StepNo) -> bool {
        let ready = match self.hosts[host].cells[step].stage {
            CellStage::Waiting | CellStage::Measured | CellStage::Due => true,
            CellStage::Checked => self.layout.step(step).changes.is_empty(),
            _ => false,
        };
        ready
            && match self.hosts[host].stage {
                Stage::Phase(Phase::Rollback) => {
                    self.rollback_turn(host) == Some(step)
                        && self.asked_before_rollback(host).next().is_none()
                        && self.not_due(host, step).is_none()
                        && !self.hosts[host].expired
                }
                Stage::Phase(phase) => {
                    // Its own needs first: what concerns the whole phase looks at every cell of it.
                    self.layout.step(step).phase == phase
                        && !matches!(self.layout.step(step).role, Role::Release { .. })
                        && self.needs_met(host, step, phase)
                        && self.other_leader(host, step).is_none()
                        && !self.stopping(host)
                        && self.measures_due(host, phase).is_empty()
                }
                Stage::Releasing => {
                    let turn = self.layout.releases.iter().find(|&&release| self.release_open(host, release));
                    turn == Some(&step)
                }
                _ => false,
            }
    }

    pub(crate) fn needs_met(&self, host: HostNo, step: StepNo, phase: Phase) -> bool {
        self.layout.needs[step].iter().all(|&need| {
            let cell = &self.hosts[host].cells[need];
            cell.good()
                || self.goes_on(host, need) && cell.outcome().is_some()
                || (phase == Phase::Finally && cell.outcome().is_some())
        })
    }

    /// A `once` step is, or was, done on another host.
    pub(crate) fn other_leader(&self, host: HostNo, step: StepNo) -> Option<HostNo> {
        let peers = self.layout.once_peers(host, step)?;
        self.leaders.get(&(step, peers.start)).copied().filter(|leader| *leader != host)
    }

    fn release_open(&self, host: HostNo, release: StepNo) -> bool {
        let state = &self.hosts[host];
        let taken = self.layout.about[release].is_some_and(|take| state.snapshots.contains_key(&take));
        taken && state.cells[release].outcome().is_none()
    }
}
