//! What each event does to the state. Knows no rules: those are where events are decided.

use runbook_model::command::{Subject, Timer};
use runbook_model::outcome::{Ended, Obstacle};
use runbook_model::plan::{OnFailure, Phase, Role};
use runbook_model::{AttemptOutcome, Cell, Event, HostName};

use crate::attempts::{judge, repeatable};
use crate::layout::{HostNo, StepNo};
use crate::state::{CellStage, CellState, Stage};
use crate::{Run, Status};

impl Run {
    pub(crate) fn fold(&mut self, event: &Event) {
        match event {
            Event::RunOpened(_)
            | Event::RollbackAsked { .. }
            | Event::AccessInstalled { .. }
            | Event::Installation(_) => {}
            // What people are told of hosts is no part of the state of hosts.
            Event::MonitoringMuted { .. } | Event::MonitoringUnmuted { .. } | Event::MonitoringFailed { .. } => {}
            // What is allowed is no part of the state; timers go by it.
            Event::PermitChanged { .. } => self.touch_all(),
            Event::SnapshotReleased { cell, .. } => self.on_cell(cell, |run, host, step| {
                run.hosts[host].released.insert(step);
            }),
            Event::RunStarted => self.started = true,
            Event::RunResumed { .. } => self.fold_resumed(),
            Event::CancelAsked { .. } => {
                self.cancel = true;
                self.touch_all();
            }
            Event::BatchStarted { batch } => {
                self.batch = Some(*batch);
                self.batch_ended = false;
                self.soak_until_ms = None;
                self.soaked = false;
            }
            Event::BatchEnded { soak_until_ms, .. } => {
                self.batch_ended = true;
                self.soak_until_ms = *soak_until_ms;
                self.soaked = soak_until_ms.is_none();
            }
            Event::TimerFired { timer } => self.fold_timer(timer),
            Event::BudgetSpent { .. } => self.budget_spent = true,
            Event::HostStarted { host, begun_ms } => self.on_host(host, |run, no| {
                run.hosts[no].taking_back = run.taking_back;
                run.hosts[no].begun_ms = *begun_ms;
                run.set_stage(no, Stage::Connecting);
            }),
            Event::HostCutOff { host, reason, .. } => self.on_host(host, |run, no| {
                run.hosts[no].cut = true;
                run.hosts[no].cut_first = run.hosts[no].why.is_none();
                run.note(no, reason);
            }),
            // From here on something is to be withdrawn, whether a session comes of it or not.
            Event::AccessGranted { host, .. } => self.on_host(host, |run, no| run.set_session(no, true)),
            Event::SessionOpened { host, facts, .. } => self.on_host(host, |run, no| {
                run.set_session(no, true);
                run.hosts[no].facts = Some(facts.clone());
                if run.hosts[no].stage == Stage::Connecting {
                    run.set_stage(no, Stage::Between(None));
                }
            }),
            Event::SessionFailed { host, obstacle } => self.on_host(host, |run, no| {
                if run.hosts[no].stage == Stage::Connecting {
                    run.hosts[no].failed_in = Some(Phase::Prechecks);
                    run.note(no, &obstacle.message);
                    run.set_stage(no, Stage::Between(Some(Phase::Prechecks)));
                }
            }),
            Event::SessionClosed { host, closed } => {
                self.left_open |= closed.left().is_some();
                let access_left = closed.access.as_ref().is_some_and(|access| access.left().is_some());
                self.on_host(host, |run, no| {
                    run.set_session(no, false);
                    run.hosts[no].access_left = access_left;
                });
            }
            Event::PhaseStarted { host, phase, reason, deadline_ms } => {
                self.on_host(host, |run, no| run.fold_phase_started(no, *phase, reason.as_deref(), *deadline_ms));
            }
            Event::PhaseEnded { host, phase, ok } => {
                self.on_host(host, |run, no| run.fold_phase_ended(no, *phase, *ok));
            }
            Event::StepPrepared { cell, .. } => self.on_cell(cell, |run, host, step| {
                run.lead(host, step);
                run.set_cell(host, step, CellStage::Prepared);
            }),
            Event::UnlessChecked { cell, .. } => {
                self.on_cell(cell, |run, host, step| run.set_cell(host, step, CellStage::Checked));
            }
            Event::Measured { host, subject, manifest, obstacle, .. } => self.on_host(host, |run, no| {
                run.fold_measured(no, subject, *manifest, obstacle.as_ref());
            }),
            Event::AttemptStarted { attempt, .. } => self.on_cell(&attempt.cell(), |run, host, step| {
                run.lead(host, step);
                run.change_cell(host, step, |cell| {
                    cell.stage = CellStage::Attempting;
                    cell.attempts = attempt.attempt;
                    cell.left = false;
                });
            }),
            Event::AttemptLost { attempt, deadline_ms, not_begun, .. } => {
                self.on_cell(&attempt.cell(), |run, host, step| {
                    run.set_cell(host, step, CellStage::Lost { deadline_ms: *deadline_ms, not_begun: *not_begun });
                    if run.on_the_host(step) {
                        run.hosts[host].lost_until_ms.get_or_insert(*deadline_ms);
                    }
                });
            }
            Event::AttemptEnded { attempt, outcome, report } => self.on_cell(&attempt.cell(), |run, host, step| {
                run.change_cell(host, step, |cell| {
                    let lost = matches!(cell.stage, CellStage::Lost { .. });
                    let left = cell.left && *outcome == AttemptOutcome::Unknown;
                    cell.void += u32::from(left || lost && *outcome == AttemptOutcome::NotStarted);
                    cell.stage = CellStage::Attempted(*outcome);
                    let in_doubt = cell.last == Some(AttemptOutcome::Unknown) && *outcome == AttemptOutcome::NotStarted;
                    if !in_doubt {
                        cell.last = Some(*outcome);
                    }
                    cell.effect |= !matches!(report.ended, Ended::NotStarted { .. });
                });
                run.hosts[host].reasons.insert(step, judge(&report.ended).reason);
                if matches!(report.ended, Ended::Exited { .. } | Ended::Killed { .. }) && run.on_the_host(step) {
                    run.hosts[host].lost_until_ms = None;
                }
            }),
            Event::RetryScheduled { attempt, at_ms, .. } => self.on_cell(&attempt.cell(), |run, host, step| {
                run.set_cell(host, step, CellStage::Backoff { at_ms: *at_ms });
            }),
            Event::StepEnded { cell, outcome, reason, done_on, snapshot } => self.on_cell(cell, |run, host, step| {
                run.set_cell(host, step, CellStage::Ended(*outcome));
                run.hosts[host].reasons.remove(&step);
                if let Some(done_on) = done_on.as_ref().and_then(|name| run.layout.host_no(name)) {
                    run.hosts[host].done_on.insert(step, done_on);
                }
                if let Some(reference) = snapshot {
                    run.hosts[host].snapshots.insert(step, reference.clone());
                }
                run.fold_step_outcome(host, step, *outcome, reason);
                // What came of it where it is only shared is nobody else's concern.
                if run.other_leader(host, step).is_none() {
                    run.touch_once_peers(host, step);
                }
            }),
            Event::StepResolved { cell, succeeded, .. } => self.on_cell(cell, |run, host, step| {
                let outcome = if *succeeded { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
                run.change_cell(host, step, |cell| {
                    cell.stage = CellStage::Ended(outcome);
                    cell.resolved = true;
                });
            }),
            Event::HostHeld { host } => self.on_host(host, |run, no| {
                run.hosts[no].verified = true;
                run.set_stage(no, Stage::Held);
            }),
            Event::HostReopened { host, begun_ms } => self.on_host(host, |run, no| {
                run.set_session(no, true);
                run.hosts[no].begun_ms = *begun_ms;
                run.fold_reopened(no);
            }),
            Event::HostEnded { host, outcome, .. } => self.on_host(host, |run, no| {
                run.set_stage(no, Stage::Ended(*outcome));
            }),
            Event::RunSuspended { outcome } => self.status = Status::Suspended(*outcome),
            Event::RunEnded { outcome, .. } => self.status = Status::Ended(*outcome),
        }
    }

    fn fold_timer(&mut self, timer: &Timer) {
        match timer {
            Timer::Soak { .. } => self.soaked = true,
            Timer::Retry { attempt } => self.on_cell(&attempt.cell(), |run, host, step| {
                run.set_cell(host, step, CellStage::Due);
            }),
            Timer::RollbackBudget { host } => self.on_host(host, |run, no| run.hosts[no].expired = true),
            // It is answered by an event of its own.
            Timer::CutOff { .. } => {}
        }
    }

    fn fold_resumed(&mut self) {
        self.status = Status::Running;
        for host in &mut self.hosts {
            // The time without a controller was not theirs.
            host.lost_until_ms = None;
            for (step, cell) in host.cells.iter_mut().enumerate() {
                let under_way = matches!(cell.stage, CellStage::Attempting | CellStage::Lost { .. });
                cell.left |= under_way && self.layout.step(step).read_only;
            }
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].access_left {
                // Withdrawing it is tried again, when the host has ended.
                self.set_session(host, true);
            }
        }
        self.touch_all();
    }

    fn fold_phase_started(&mut self, host: HostNo, phase: Phase, reason: Option<&str>, deadline_ms: Option<u64>) {
        self.set_stage(host, Stage::Phase(phase));
        let state = &mut self.hosts[host];
        state.entered |= matches!(phase, Phase::Snapshot | Phase::Execute);
        if phase == Phase::Rollback {
            if state.verified {
                // Its own steps were good: it goes back for its peers' sake, for a cancel, or on request.
                state.cancelled = self.cancel;
            }
            state.verified = false;
            state.taking_back = true;
            state.rollback = None;
            state.expired = false;
            state.deadline_ms = deadline_ms;
            state.lost_until_ms = None;
            if state.why.is_none() {
                state.why = reason.map(str::to_owned);
            }
        }
    }

    fn fold_phase_ended(&mut self, host: HostNo, phase: Phase, ok: bool) {
        let cancel = self.cancel;
        let state = &mut self.hosts[host];
        match phase {
            Phase::Rollback => state.rollback = Some(ok),
            Phase::Finally => {}
            _ if !ok => {
                state.failed_in = Some(phase);
                state.cancelled = cancel && state.why.is_none();
            }
            _ => {}
        }
        let release = !ok && matches!(phase, Phase::Snapshot | Phase::Execute) && !self.changed(host);
        let releasing = release && !self.hosts[host].snapshots.is_empty();
        let stage = match phase {
            _ if releasing => Stage::Releasing,
            Phase::Prechecks if ok => Stage::Ready,
            _ => Stage::Between(Some(phase)),
        };
        self.set_stage(host, stage);
    }

    fn fold_measured(
        &mut self,
        host: HostNo,
        subject: &Subject,
        manifest: Option<runbook_model::Sha256>,
        obstacle: Option<&Obstacle>,
    ) {
        self.hosts[host].measured.insert(subject.clone(), manifest);
        match subject {
            Subject::Baseline | Subject::WatchBefore => {
                if let Some(obstacle) = obstacle {
                    self.note(host, &format!("what is on the host could not be measured: {}", obstacle.message));
                }
            }
            Subject::Before { step } => {
                if let Some(step) = self.layout.step_no(step) {
                    self.set_cell(host, step, CellStage::Measured);
                }
            }
            Subject::After { .. } => {}
        }
    }

    /// What a step's outcome means for its host's later verdict.
    fn fold_step_outcome(&mut self, host: HostNo, step: StepNo, outcome: AttemptOutcome, reason: &str) {
        if matches!(outcome, AttemptOutcome::Succeeded | AttemptOutcome::Skipped) {
            return;
        }
        let what = self.layout.step(step);
        let sentence = format!("{} {}: {reason}", what.id, outcome.name().replace('_', " "));
        let goes_on = what.on_failure == OnFailure::Continue && outcome != AttemptOutcome::Unknown;
        match (what.phase, &what.role) {
            // It stays listed among the snapshots that exist; the host's verdict is about its change.
            (_, Role::Release { .. }) => {}
            (Phase::Finally, _) => {
                self.hosts[host].blemish.get_or_insert(sentence);
            }
            _ if goes_on => {
                self.hosts[host].blemish.get_or_insert(sentence);
            }
            (Phase::Rollback, _) => {
                self.hosts[host].why_stuck.get_or_insert(sentence);
            }
            // What a cancel ended did not fail by itself.
            (Phase::Prechecks | Phase::Snapshot | Phase::Execute | Phase::Verify, _) if self.cancel => {}
            _ => self.note(host, &sentence),
        }
    }

    /// A halted, stuck or unknown host gets another try: cells that did not end well in the phase where it stopped, and
    /// all of `finally`, are to be begun again.
    fn fold_reopened(&mut self, host: HostNo) {
        let (layout, cancel) = (self.layout.clone(), self.cancel);
        let state = &mut self.hosts[host];
        let phase = if state.taking_back { Phase::Rollback } else { state.failed_in.unwrap_or(Phase::Execute) };
        for &step in layout.phase(phase) {
            let cell = &mut state.cells[step];
            // An unknown outcome is asked after (`AttemptLost` follows), never repeated blindly.
            let what = layout.step(step);
            // Nor is one that a cancel keeps from being repeated: it would be forgotten.
            let repeated = repeatable(what) && (phase == Phase::Rollback || !cancel);
            let asked = cell.outcome() == Some(AttemptOutcome::Unknown) && !repeated;
            let verification = matches!(what.role, Role::Again { .. } | Role::Baseline);
            let done = cell.good() && cell.outcome() != Some(AttemptOutcome::Skipped) && !verification;
            if !done && !cell.resolved && !asked {
                *cell = CellState { stage: CellStage::Waiting, earlier: cell.attempts, void: 0, ..*cell };
            }
        }
        for &step in layout.phase(Phase::Finally) {
            let cell = &mut state.cells[step];
            *cell = CellState { stage: CellStage::Waiting, earlier: cell.attempts, void: 0, ..*cell };
        }
        state.counts = layout.counts(&state.cells);
        state.why_stuck = None;
        state.blemish = None;
        state.rollback = None;
        state.expired = false;
        state.deadline_ms = None;
        state.lost_until_ms = None;
        if phase == Phase::Rollback {
            // The phase is begun anew, with a budget of its own.
            let before = self.hosts[host].failed_in.filter(|phase| *phase != Phase::Prechecks);
            self.set_stage(host, Stage::Between(Some(before.unwrap_or(Phase::Verify))));
        } else {
            let state = &mut self.hosts[host];
            state.failed_in = None;
            state.why = None;
            state.cut = false;
            state.cut_first = false;
            self.set_stage(host, Stage::Phase(phase));
        }
    }

    /// The host leads a `once` step from its first effect on.
    fn lead(&mut self, host: HostNo, step: StepNo) {
        let Some(peers) = self.layout.once_peers(host, step) else { return };
        if let std::collections::btree_map::Entry::Vacant(place) = self.leaders.entry((step, peers.start)) {
            place.insert(host);
            self.touch_once_peers(host, step);
        }
    }

    fn touch_once_peers(&mut self, host: HostNo, step: StepNo) {
        if let Some(peers) = self.layout.once_peers(host, step) {
            for peer in peers {
                self.touch(peer);
            }
        }
    }

    fn note(&mut self, host: HostNo, why: &str) {
        self.hosts[host].why.get_or_insert_with(|| why.to_owned());
    }

    fn touch(&mut self, host: HostNo) {
        self.unsettled.insert(host);
        self.dirty.insert(host);
    }

    fn touch_all(&mut self) {
        self.unsettled.extend(0..self.hosts.len());
        self.dirty.extend(0..self.hosts.len());
    }

    fn set_cell(&mut self, host: HostNo, step: StepNo, stage: CellStage) {
        self.change_cell(host, step, |cell| cell.stage = stage);
    }

    fn change_cell(&mut self, host: HostNo, step: StepNo, change: impl FnOnce(&mut CellState)) {
        let state = &mut self.hosts[host];
        self.layout.count(step, &state.cells[step], &mut state.counts, false);
        change(&mut state.cells[step]);
        self.layout.count(step, &state.cells[step], &mut state.counts, true);
        state.live.insert(step);
        if matches!(state.cells[step].stage, CellStage::Ended(_)) {
            state.live.extend(&self.layout.needed_by[step]);
        }
    }

    fn on_host(&mut self, name: &HostName, fold: impl FnOnce(&mut Self, HostNo)) {
        if let Some(no) = self.layout.host_no(name) {
            fold(self, no);
            self.touch(no);
        }
    }

    fn on_cell(&mut self, cell: &Cell, fold: impl FnOnce(&mut Self, HostNo, StepNo)) {
        if let Some((host, step)) = self.layout.locate(cell) {
            fold(self, host, step);
            self.touch(host);
        }
    }
}
