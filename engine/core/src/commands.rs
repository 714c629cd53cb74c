//! What is to be done in the world, derived from the state alone.

use std::collections::BTreeSet;

use runbook_model::Command;
use runbook_model::command::{Subject, Timer};
use runbook_model::plan::Phase;

use crate::layout::{HostNo, StepNo};
use crate::state::{CellStage, Stage};
use crate::{Run, Status};

impl Run {
    /// Derives the commands of every host about which something changed, and notes the difference.
    pub(crate) fn derive_commands(&mut self) {
        while let Some(host) = self.dirty.pop_first() {
            debug_assert_eq!(self.hosts[host].counts, self.layout.counts(&self.hosts[host].cells));
            self.look_at_live_cells(host);
            let now = self.commands_of(host, self.hosts[host].live.iter().copied());
            debug_assert_eq!(
                now,
                self.commands_of(host, 0..self.layout.plan.steps.len()),
                "a cell is not among the live"
            );
            let before = std::mem::replace(&mut self.per_host[host], now);
            self.note_difference(&before, host);
        }
        let mut now = BTreeSet::new();
        if let (Some(batch), Some(at_ms), false) = (self.batch, self.soak_until_ms, self.soaked)
            && self.status == Status::Running
            && !self.cancel
        {
            now.insert(Command::SetTimer { timer: Timer::Soak { batch }, at_ms });
        }
        if self.closes_elsewhere() {
            now.insert(Command::CloseElsewhere);
        }
        if now != self.run_commands {
            for gone in self.run_commands.difference(&now) {
                self.outstanding.remove(gone);
                self.delta.withdrawn.push(gone.clone());
            }
            for new in now.difference(&self.run_commands) {
                self.outstanding.insert(new.clone());
                self.delta.started.push(new.clone());
            }
            self.run_commands = now;
        }
    }

    fn note_difference(&mut self, before: &BTreeSet<Command>, host: HostNo) {
        let now = &self.per_host[host];
        for gone in before.difference(now) {
            self.outstanding.remove(gone);
            self.delta.withdrawn.push(gone.clone());
        }
        for new in now.difference(before) {
            self.outstanding.insert(new.clone());
            self.delta.started.push(new.clone());
        }
    }

    /// Forgets cells that nothing can be outstanding for until another cell changes.
    fn look_at_live_cells(&mut self, host: HostNo) {
        let stage = self.hosts[host].stage;
        let mut live = std::mem::take(&mut self.hosts[host].live);
        live.retain(|&step| match self.hosts[host].cells[step].stage {
            CellStage::Ended(_) => false,
            // They go by their place in the list, not by needs.
            CellStage::Waiting if matches!(stage, Stage::Releasing | Stage::Phase(Phase::Rollback)) => true,
            CellStage::Waiting => matches!(stage, Stage::Phase(phase) if self.needs_met(host, step, phase)),
            _ => true,
        });
        self.hosts[host].live = live;
    }

    fn commands_of(&self, host: HostNo, cells: impl Iterator<Item = StepNo>) -> BTreeSet<Command> {
        let mut commands = BTreeSet::new();
        if self.status != Status::Running {
            return commands;
        }
        let name = || self.layout.hosts[host].clone();
        if let Some(at_ms) = self.cut_off_ms(host) {
            commands.insert(Command::SetTimer { timer: Timer::CutOff { host: name() }, at_ms });
        }
        match self.hosts[host].stage {
            Stage::Connecting if !self.cancel && !self.hosts[host].cut => {
                commands.insert(Command::Connect { host: name() });
            }
            Stage::Phase(phase) => {
                for subject in self.measures_due(host, phase) {
                    commands.insert(Command::Measure { host: name(), subject });
                }
                if let (Phase::Rollback, Some(at_ms), false) =
                    (phase, self.hosts[host].deadline_ms, self.hosts[host].expired)
                {
                    commands.insert(Command::SetTimer { timer: Timer::RollbackBudget { host: name() }, at_ms });
                }
                for step in cells.filter(|&step| self.layout.counted_in(step) == Some(phase)) {
                    self.cell_commands(host, step, &mut commands);
                }
                if phase == Phase::Rollback {
                    for step in self.asked_before_rollback(host) {
                        commands.insert(Command::CancelAttempt { attempt: self.current_attempt(host, step) });
                        self.cell_commands(host, step, &mut commands);
                    }
                }
            }
            Stage::Ended(_) if self.hosts[host].session => {
                commands.insert(Command::CloseSession { host: name() });
            }
            Stage::Releasing => {
                for step in cells.filter(|step| self.layout.releases.contains(step)) {
                    self.cell_commands(host, step, &mut commands);
                }
            }
            _ => {}
        }
        commands
    }

    fn cell_commands(&self, host: HostNo, step: StepNo, commands: &mut BTreeSet<Command>) {
        let cell = || self.layout.cell(host, step);
        let what = self.layout.step(step);
        let measure = |subject| Command::Measure { host: self.layout.hosts[host].clone(), subject };
        match self.hosts[host].cells[step].stage {
            CellStage::Waiting | CellStage::Measured | CellStage::Due => {
                if self.wants_preparing(host, step) {
                    commands.insert(Command::Prepare { cell: cell() });
                }
            }
            CellStage::Prepared if what.unless.is_some() => {
                commands.insert(Command::CheckUnless { cell: cell() });
            }
            CellStage::Prepared | CellStage::Checked if !what.changes.is_empty() => {
                commands.insert(measure(Subject::Before { step: what.id.clone() }));
            }
            CellStage::Prepared | CellStage::Checked => {
                commands.insert(Command::Prepare { cell: cell() });
            }
            CellStage::Attempting => {
                let attempt = self.current_attempt(host, step);
                if self.must_end(host) {
                    commands.insert(Command::CancelAttempt { attempt: attempt.clone() });
                }
                commands.insert(Command::StartAttempt { attempt });
            }
            CellStage::Lost { deadline_ms, .. } => {
                let attempt = self.current_attempt(host, step);
                if self.must_end(host) {
                    commands.insert(Command::CancelAttempt { attempt: attempt.clone() });
                }
                commands.insert(Command::ProbeAttempt { attempt, deadline_ms });
            }
            CellStage::Backoff { at_ms } => {
                let timer = Timer::Retry { attempt: self.next_attempt(host, step) };
                commands.insert(Command::SetTimer { timer, at_ms });
            }
            CellStage::Attempted(_) => {
                commands.insert(measure(Subject::After { step: what.id.clone() }));
            }
            CellStage::Ended(_) => {}
        }
    }

    /// What must be measured before the first step of `phase` may begin.
    pub(crate) fn measures_due(&self, host: HostNo, phase: Phase) -> Vec<Subject> {
        let mut due = Vec::new();
        if phase == Phase::Execute && !self.stopping(host) {
            let missing = |subject: &Subject| !self.hosts[host].measured.contains_key(subject);
            if self.layout.has_baseline && missing(&Subject::Baseline) {
                due.push(Subject::Baseline);
            }
            if self.layout.plan.watch.is_some() && missing(&Subject::WatchBefore) {
                due.push(Subject::WatchBefore);
            }
        }
        due
    }
}
