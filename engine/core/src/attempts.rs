//! Facts become events: what each input means for the cell or host that it is about.

use runbook_model::command::{Subject, Timer};
use runbook_model::event::AttemptReport;
use runbook_model::input::{Intent, Prepared};
use runbook_model::outcome::{Ended, KilledBy, Obstacle, ObstacleKind};
use runbook_model::plan::{Phase, RetryClass, Role, Step};
use runbook_model::{AttemptId, AttemptOutcome, Cell, Event, HostOutcome, Input, Sha256, StepId};

use crate::layout::{HostNo, StepNo};
use crate::permit::Times;
use crate::state::{CellStage, Stage};
use crate::{Run, Status, UNKNOWN_ATTEMPTS_MAX, VOID_ATTEMPTS_MAX};

/// Whether the step may be attempted again without knowing what the last attempt did.
pub(crate) fn repeatable(step: &Step) -> bool {
    step.read_only || step.idempotent
}

impl Run {
    pub(crate) fn accept(&mut self, input: Input) {
        match input {
            Input::Begin => {
                if !self.started {
                    self.emit(Event::RunStarted);
                }
            }
            Input::Resume { by, permit, break_glass, on } => {
                self.accept_resume(Event::RunResumed { by, permit, break_glass, on });
            }
            Input::PermitChanged { permit, allowed, ahead_ms } => {
                if !matches!(self.status, Status::Ended(_)) {
                    self.permit = Times::new(&allowed, &self.layout, ahead_ms);
                    self.emit(Event::PermitChanged { permit, ahead_ms });
                }
            }
            Input::CancelAsked { by } => {
                // A suspended run may be cancelled: the resume that follows takes its halted hosts back.
                if !self.cancel && !matches!(self.status, Status::Ended(_)) {
                    self.emit(Event::CancelAsked { by });
                }
            }
            Input::RollbackAsked { by } => self.emit(Event::RollbackAsked { by }),
            Input::Resolved { host, step, succeeded, why, by } => {
                let cell = Cell { host, step };
                if let Some((host, step)) = self.layout.locate(&cell)
                    && self.may_be_resolved(host, step)
                {
                    self.emit(Event::StepResolved { cell, succeeded, why, by });
                }
            }
            Input::Connected { host, facts, identity } => {
                if self.layout.host_no(&host).is_some() {
                    self.emit(Event::SessionOpened { host, facts, identity });
                }
            }
            Input::ConnectFailed { host, obstacle } => {
                if let Some(no) = self.layout.host_no(&host)
                    && self.hosts[no].stage == Stage::Connecting
                {
                    self.emit(Event::SessionFailed { host, obstacle });
                }
            }
            Input::AccessGranted { host, grant } => {
                if self.layout.host_no(&host).is_some() && self.status == crate::Status::Running {
                    self.emit(Event::AccessGranted { host, grant });
                }
            }
            Input::AccessInstalled { host, installed } => {
                if self.layout.host_no(&host).is_some() && self.status == crate::Status::Running {
                    self.emit(Event::AccessInstalled { host, installed });
                }
            }
            Input::SessionClosed { host, closed } => {
                if self.layout.host_no(&host).is_some_and(|no| self.hosts[no].session) {
                    self.emit(Event::SessionClosed { host, closed });
                }
            }
            Input::ElsewhereClosed { closed } => {
                if self.closes_elsewhere() {
                    for (host, closed) in closed {
                        self.emit(Event::SessionClosed { host, closed: Box::new(closed) });
                    }
                    // In the same append: no state in between is ever on record.
                    self.close();
                }
            }
            Input::Prepared { cell, result } => {
                if let Some((host, step)) = self.layout.locate(&cell) {
                    // Nothing begins at or after that moment.
                    self.cut_off_when_due(host);
                    if self.wants_preparing(host, step) {
                        self.accept_prepared(host, step, result);
                    }
                }
            }
            Input::UnlessChecked { cell, done } => {
                if let Some((host, step)) = self.layout.locate(&cell)
                    && self.hosts[host].cells[step].stage == CellStage::Prepared
                {
                    self.accept_unless(cell, done);
                }
            }
            Input::Measured { host, subject, manifest, changes } => {
                if let Some(no) = self.layout.host_no(&host)
                    && self
                        .outstanding
                        .contains(&runbook_model::Command::Measure { host: host.clone(), subject: subject.clone() })
                {
                    self.accept_measured(no, subject, manifest, changes);
                }
            }
            Input::AttemptEnded { attempt, report } => {
                if let Some((host, step)) = self.current(&attempt) {
                    self.accept_ended(host, step, attempt, report);
                }
            }
            Input::AttemptLost { attempt, reason } => {
                if let Some((host, step)) = self.current(&attempt) {
                    let deadline_ms = self.lost_deadline_ms(host, step);
                    self.emit(Event::AttemptLost { attempt, reason, deadline_ms, not_begun: false });
                }
            }
            Input::TimerFired { timer } => {
                if let Timer::CutOff { host } = &timer {
                    // Whether it is time is looked at when the host is settled; if it is not, the time is another by now.
                    self.unsettled.extend(self.layout.host_no(host));
                    self.dirty.extend(self.layout.host_no(host));
                } else if self.awaits(&timer) {
                    self.emit(Event::TimerFired { timer });
                }
            }
        }
    }

    /// A new controller knows nothing of what its predecessor had under way: each such attempt is asked after. Hosts that
    /// wait for an operator get another try when the run was suspended.
    fn accept_resume(&mut self, resumed: Event) {
        if matches!(self.status, Status::Ended(_)) {
            return;
        }
        // After a crash the run goes on where it was; hosts that had stopped for an operator wait until it is suspended.
        let reopen = matches!(self.status, Status::Suspended(_));
        self.emit(resumed);
        if !self.started {
            self.emit(Event::RunStarted);
            return;
        }
        for host in 0..self.hosts.len() {
            if let Stage::Ended(outcome) = self.hosts[host].stage {
                if !reopen || !self.awaits_operator(host, outcome) {
                    continue;
                }
                let begun_ms = self.cuts_off().then_some(self.wall_ms());
                self.emit(Event::HostReopened { host: self.layout.hosts[host].clone(), begun_ms });
                if self.hosts[host].taking_back {
                    self.ask_after(host, Phase::Rollback, |stage| stage == CellStage::Ended(AttemptOutcome::Unknown));
                } else if let Stage::Phase(phase) = self.hosts[host].stage {
                    self.ask_after(host, phase, |stage| stage == CellStage::Ended(AttemptOutcome::Unknown));
                }
            } else {
                if self.hosts[host].stage == Stage::Phase(Phase::Rollback) {
                    // Its budget counts anew: the time without a controller was not the host's.
                    self.start_rollback(host, Some("taken up again by a new controller".to_owned()));
                }
                for phase in Phase::ALL {
                    self.ask_after(host, phase, |stage| {
                        matches!(stage, CellStage::Attempting | CellStage::Lost { .. })
                    });
                }
            }
        }
    }

    fn ask_after(&mut self, host: HostNo, phase: Phase, lost: impl Fn(CellStage) -> bool) {
        for step in 0..self.layout.plan.steps.len() {
            let cell = &self.hosts[host].cells[step];
            if self.layout.step(step).phase == phase && lost(cell.stage) && !cell.resolved && cell.attempts > 0 {
                let attempt = self.attempt(host, step, cell.attempts);
                let not_begun = matches!(cell.stage, CellStage::Lost { not_begun: true, .. });
                let reason = match cell.stage {
                    CellStage::Attempting | CellStage::Lost { .. } => "the controller stopped while it was under way",
                    _ => "its outcome was unknown, and the run was taken up again",
                };
                let deadline_ms = self.lost_deadline_ms(host, step);
                self.emit(Event::AttemptLost { attempt, reason: reason.to_owned(), deadline_ms, not_begun });
            }
        }
    }

    /// Whether a resume reopens a host that ended so.
    pub(crate) fn awaits_operator(&self, host: HostNo, outcome: HostOutcome) -> bool {
        match outcome {
            HostOutcome::Stuck | HostOutcome::Unknown => true,
            // Halted; a host that is `failed` only by `continue` or `finally` has run all that it will.
            HostOutcome::Failed => {
                let state = &self.hosts[host];
                state.failed_in.is_some() && state.rollback.is_none() && self.changed(host)
            }
            _ => false,
        }
    }

    fn may_be_resolved(&self, host: HostNo, step: StepNo) -> bool {
        let (state, cell) = (&self.hosts[host], &self.hosts[host].cells[step]);
        let halted = matches!(state.stage, Stage::Ended(outcome) if self.awaits_operator(host, outcome));
        halted && !cell.resolved && cell.outcome().is_some() && !cell.good()
    }

    /// The cell whose current attempt this is, while that is under way.
    fn current(&self, attempt: &AttemptId) -> Option<(HostNo, StepNo)> {
        let (host, step) = self.layout.locate(&attempt.cell())?;
        let cell = &self.hosts[host].cells[step];
        let under_way = matches!(cell.stage, CellStage::Attempting | CellStage::Lost { .. });
        (under_way && cell.attempts == attempt.attempt && attempt.run == self.header.run).then_some((host, step))
    }

    fn awaits(&self, timer: &Timer) -> bool {
        match timer {
            Timer::Soak { batch } => self.batch == Some(*batch) && self.soak_until_ms.is_some() && !self.soaked,
            Timer::Retry { attempt } => self.layout.locate(&attempt.cell()).is_some_and(|(host, step)| {
                let cell = &self.hosts[host].cells[step];
                matches!(cell.stage, CellStage::Backoff { .. }) && cell.attempts + 1 == attempt.attempt
            }),
            Timer::RollbackBudget { host } => self
                .layout
                .host_no(host)
                .is_some_and(|no| self.hosts[no].stage == Stage::Phase(Phase::Rollback) && !self.hosts[no].expired),
            Timer::CutOff { .. } => false,
        }
    }

    fn accept_prepared(&mut self, host: HostNo, step: StepNo, result: Prepared) {
        let cell = self.layout.cell(host, step);
        let first = self.hosts[host].cells[step].stage == CellStage::Waiting;
        let last = self.hosts[host].cells[step].last;
        match result {
            Prepared::Skip { reason } => self.end_step(cell, last.unwrap_or(AttemptOutcome::Skipped), reason),
            Prepared::Refused { message } => self.end_step(cell, last.unwrap_or(AttemptOutcome::NotStarted), message),
            Prepared::Ready(intent) => {
                let what = self.layout.step(step);
                if first && (what.unless.is_some() || !what.changes.is_empty()) {
                    self.emit(Event::StepPrepared { cell, intent });
                } else {
                    self.start_attempt(host, step, intent);
                }
            }
        }
    }

    fn start_attempt(&mut self, host: HostNo, step: StepNo, intent: Intent) {
        let attempt = self.attempt(host, step, self.hosts[host].cells[step].attempts + 1);
        let phase = self.layout.step(step).phase;
        self.emit(Event::AttemptStarted { attempt, phase, intent });
    }

    fn accept_unless(&mut self, cell: Cell, done: Result<bool, Obstacle>) {
        match done {
            Ok(true) => {
                self.emit(Event::UnlessChecked { cell: cell.clone(), done: true });
                self.end_step(
                    cell,
                    AttemptOutcome::Skipped,
                    "already done: its `unless` ended with exit code 0".into(),
                );
            }
            Ok(false) => self.emit(Event::UnlessChecked { cell, done: false }),
            Err(obstacle) => {
                let reason = format!("its `unless` could not be run: {}", obstacle.message);
                self.end_step(cell, AttemptOutcome::NotStarted, reason);
            }
        }
    }

    fn accept_measured(
        &mut self,
        host: HostNo,
        subject: Subject,
        measured: Result<Sha256, Obstacle>,
        changes: Option<Sha256>,
    ) {
        let (manifest, obstacle) = match measured {
            Ok(manifest) => (Some(manifest), None),
            Err(obstacle) => (None, Some(obstacle)),
        };
        let name = self.layout.hosts[host].clone();
        let failed = obstacle.as_ref().map(|obstacle| obstacle.message.clone());
        self.emit(Event::Measured { host: name, subject: subject.clone(), manifest, changes, obstacle });
        match (subject, failed) {
            (Subject::Before { step }, Some(why)) => {
                let cell = self.named(host, &step);
                let reason = format!("what it may change could not be measured before it: {why}");
                self.end_step(cell, AttemptOutcome::NotStarted, reason);
            }
            (Subject::After { step }, failed) => {
                if let Some(no) = self.layout.step_no(&step)
                    && let CellStage::Attempted(outcome) = self.hosts[host].cells[no].stage
                {
                    let cell = self.named(host, &step);
                    match failed {
                        // It did happen; what it changed is not known, and a step that says what it changes promised it.
                        Some(why) if outcome == AttemptOutcome::Succeeded => {
                            let reason = format!("what it changed could not be measured: {why}");
                            self.end_step(cell, AttemptOutcome::Failed, reason);
                        }
                        _ => {
                            let reason = self.hosts[host].reasons.get(&no).cloned().unwrap_or_default();
                            self.end_step(cell, outcome, reason);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn accept_ended(&mut self, host: HostNo, step: StepNo, attempt: AttemptId, report: Box<AttemptReport>) {
        let stage = self.hosts[host].cells[step].stage;
        if let (CellStage::Attempting, Ended::NotStarted { obstacle }) = (stage, &report.ended)
            && self.waits_for_host(host, step, obstacle)
        {
            let reason = format!("it has not begun: {}", obstacle.message);
            let deadline_ms = self.lost_deadline_ms(host, step);
            self.emit(Event::AttemptLost { attempt, reason, deadline_ms, not_begun: true });
            return;
        }
        let (report, given_up) = settled(stage, report);
        let Judgement { outcome, class, reason } = judge(&report.ended);
        let last_line = report.last_line.clone();
        let lost = matches!(stage, CellStage::Lost { .. });
        let before = self.hosts[host].cells[step].last;
        self.emit(Event::AttemptEnded { attempt: attempt.clone(), outcome, report });
        let in_doubt = before == Some(AttemptOutcome::Unknown) && outcome == AttemptOutcome::NotStarted;
        if self.late(host, step) && !in_doubt {
            // Its host is being taken back: now that it is known what became of it, that goes on.
            return self.end_step(attempt.cell(), outcome, reason);
        }
        let next = if self.late(host, step) || given_up {
            None
        } else if lost && outcome == AttemptOutcome::NotStarted {
            self.try_after_loss(host, step)
        } else {
            self.next_try(host, step, outcome, class)
        };
        if let Some((at_ms, why)) = next {
            let attempt = AttemptId { attempt: attempt.attempt + 1, ..attempt };
            self.emit(Event::RetryScheduled { attempt, at_ms, reason: format!("{reason}; {why}") });
            return;
        }
        if in_doubt {
            // That the last one did not begin says nothing of the one before it.
            let reason =
                format!("an earlier attempt of it ended in a way that nobody knows, and the last one: {reason}");
            return self.end_step(attempt.cell(), AttemptOutcome::Unknown, reason);
        }
        let what = self.layout.step(step);
        let measurable = self.hosts[host].cells[step].effect && outcome != AttemptOutcome::Unknown;
        if !what.changes.is_empty() && measurable && !matches!(what.role, Role::Take) {
            // `changes` are measured first.
            return;
        }
        let take = matches!(what.role, Role::Take) && outcome == AttemptOutcome::Succeeded;
        let cell = attempt.cell();
        match (take, last_line) {
            (true, Some(reference)) => self.emit(Event::StepEnded {
                cell,
                outcome,
                reason: String::new(),
                done_on: None,
                snapshot: Some(reference),
            }),
            (true, None) => {
                self.end_step(cell, AttemptOutcome::Failed, "it printed no reference to the snapshot it took".into());
            }
            (false, _) => self.end_step(cell, outcome, reason),
        }
    }

    /// The controller or the link died between the intent and its effect, and the host says that nothing began: that is no
    /// failure of the step, so it is begun once more, whatever its `retry` says, and
    /// does not count against it.
    fn try_after_loss(&self, host: HostNo, step: StepNo) -> Option<(u64, &'static str)> {
        let again = self.hosts[host].cells[step].void < VOID_ATTEMPTS_MAX;
        (again && !self.stopping(host)).then_some((self.now_ms, "it had not begun when it was lost sight of"))
    }

    /// When the cell is attempted again, if it is, and why.
    fn next_try(
        &self,
        host: HostNo,
        step: StepNo,
        outcome: AttemptOutcome,
        class: Option<RetryClass>,
    ) -> Option<(u64, &'static str)> {
        let (state, cell, what) = (&self.hosts[host], &self.hosts[host].cells[step], self.layout.step(step));
        if outcome == AttemptOutcome::Succeeded || self.stopping(host) {
            return None;
        }
        let tries = cell.tries();
        let rollback = what.phase == Phase::Rollback;
        if rollback && class == Some(RetryClass::Connection) {
            return self
                .within_budget(host, self.now_ms + self.reconnect_delay_ms(host, tries))
                .map(|at| (at, "the host is tried again while its rollback has time"));
        }
        let delay = delay_ms(what, tries);
        let (again, why) = match outcome {
            AttemptOutcome::Unknown => (
                repeatable(what) && tries < what.retry.attempts.max(UNKNOWN_ATTEMPTS_MAX),
                "its outcome is unknown, and repeating it does no harm",
            ),
            _ => (
                tries < what.retry.attempts && class.is_some_and(|class| what.retry.on.contains(&class)),
                "the step's `retry` allows another attempt",
            ),
        };
        let at = self.now_ms.saturating_add(delay);
        if !again {
            None
        } else if rollback && state.deadline_ms.is_some() {
            self.within_budget(host, at).map(|at| (at, why))
        } else {
            Some((at, why))
        }
    }

    fn within_budget(&self, host: HostNo, at_ms: u64) -> Option<u64> {
        self.hosts[host].deadline_ms.is_none_or(|deadline| at_ms < deadline).then_some(at_ms)
    }

    pub(crate) fn end_step(&mut self, cell: Cell, outcome: AttemptOutcome, reason: String) {
        self.emit(Event::StepEnded { cell, outcome, reason, done_on: None, snapshot: None });
    }

    fn attempt(&self, host: HostNo, step: StepNo, attempt: u32) -> AttemptId {
        let Cell { host, step } = self.layout.cell(host, step);
        AttemptId { run: self.header.run.clone(), host, step, attempt }
    }

    pub(crate) fn current_attempt(&self, host: HostNo, step: StepNo) -> AttemptId {
        self.attempt(host, step, self.hosts[host].cells[step].attempts)
    }

    pub(crate) fn next_attempt(&self, host: HostNo, step: StepNo) -> AttemptId {
        self.attempt(host, step, self.hosts[host].cells[step].attempts + 1)
    }

    fn named(&self, host: HostNo, step: &StepId) -> Cell {
        Cell { host: self.layout.hosts[host].clone(), step: step.clone() }
    }
}

/// An attempt that is proved not to have begun does not become unknown by its host's silence. Also says whether its host
/// was given up.
fn settled(stage: CellStage, mut report: Box<AttemptReport>) -> (Box<AttemptReport>, bool) {
    if let (CellStage::Lost { not_begun: true, .. }, Ended::Unknown { reason }) = (stage, &report.ended) {
        let message = format!("it has not begun, and its host did not come back in time: {reason}");
        report.ended = Ended::NotStarted { obstacle: Obstacle { kind: ObstacleKind::Unreachable, message } };
        return (report, true);
    }
    (report, false)
}

/// What an attempt's end means.
pub(crate) struct Judgement {
    pub(crate) outcome: AttemptOutcome,
    /// What `retry` looks at.
    pub(crate) class: Option<RetryClass>,
    /// For people; empty for a success.
    pub(crate) reason: String,
}

pub(crate) fn judge(ended: &Ended) -> Judgement {
    let (outcome, class, reason) = match ended {
        Ended::Exited { unmet, .. } if unmet.is_empty() => (AttemptOutcome::Succeeded, None, String::new()),
        Ended::Exited { unmet, class, .. } => {
            (AttemptOutcome::Failed, Some(class.unwrap_or(RetryClass::Exit)), unmet.join("; "))
        }
        Ended::NotStarted { obstacle } => {
            let link = matches!(obstacle.kind, ObstacleKind::Unreachable | ObstacleKind::Session);
            (AttemptOutcome::NotStarted, link.then_some(RetryClass::Connection), obstacle.message.clone())
        }
        Ended::Killed { by: KilledBy::Timeout } => {
            let reason = "it took longer than its timeout; it was ended and is proved gone".to_owned();
            (AttemptOutcome::TimedOut, Some(RetryClass::Timeout), reason)
        }
        Ended::Killed { by: KilledBy::Cancel } => (
            AttemptOutcome::Failed,
            None,
            "it was ended, for the run was cancelled or its host taken back; it is proved gone".to_owned(),
        ),
        Ended::Unknown { reason } => (AttemptOutcome::Unknown, None, reason.clone()),
    };
    Judgement { outcome, class, reason }
}

/// The delay before the attempt after `tries` ones.
fn delay_ms(step: &Step, tries: u32) -> u64 {
    let retry = &step.retry;
    let mut delay = u128::from(retry.delay_ms);
    for _ in 1..tries {
        delay = (delay * u128::from(retry.backoff_permille) / 1000).min(u128::from(u64::MAX));
    }
    let delay = u64::try_from(delay).unwrap_or(u64::MAX);
    if retry.delay_ms_max > 0 { delay.min(retry.delay_ms_max) } else { delay }
}
