//! A run as its records tell it.
//!
//! The fold keeps what views show and forgets the rest; it grows with the cells that were touched, not with output. It
//! takes records in their order and believes them: whether they are genuine is the verifier's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::access::{Grant, Installed};
use runbook_model::command::Subject;
use runbook_model::event::{AttemptReport, ClockState, Controller, Event, Person, RunHeader};
use runbook_model::host::{Facts, PeerIdentity};
use runbook_model::id::{HostName, StepId};
use runbook_model::input::Intent;
use runbook_model::monitoring::Mutes;
use runbook_model::outcome::{AttemptOutcome, HostOutcome, Obstacle, RunOutcome};
use runbook_model::plan::{Phase, Plan};
use runbook_model::record::Record;
use runbook_model::session::SessionClose;
use runbook_model::{RunId, Sha256};

use crate::text::parse_time;

/// A clock that differs by more from the time that went by between two records was set. Daemons mend less little by little
/// (at most 0.5 ms a second with `adjtime`), and records of one moment may be stamped some milliseconds apart.
const CLOCK_STEP_MS: u64 = 1_000;

/// A run.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The frozen plan.
    pub plan: Arc<Plan>,
    /// The opening; `None` until its record was folded.
    pub header: Option<RunHeader>,
    /// Where the run stands.
    pub state: RunState,
    /// How it ended, or how things stand while it is suspended.
    pub outcome: Option<RunOutcome>,
    /// Unix ms of the end.
    pub ended_ms: Option<u64>,
    /// Unix ms of the last record.
    pub last_ms: u64,
    /// Records folded.
    pub records: u64,
    /// Place in the ledger of the opening.
    pub opened_seq: Option<u64>,
    /// Place in the ledger of the end.
    pub ended_seq: Option<u64>,
    /// Place in the ledger of the last record.
    pub last_seq: Option<u64>,
    /// The batch that has begun last, counted from 0.
    pub batch: Option<usize>,
    /// When the next batch may begin, while it is waited for.
    pub soak_until_ms: Option<u64>,
    /// Spent and allowed, once no further host is started.
    pub budget: Option<(u32, u32)>,
    /// Who asked to cancel, and when.
    pub cancel: Option<(Person, u64)>,
    /// Who took the run up again, and when.
    pub resumed: Vec<(Person, u64)>,
    /// State of the controller's clock when the run ended; of earlier versions it is not on record.
    pub clock_at_end: Option<ClockState>,
    /// Why windows, blackouts and freezes were set aside, each time that they were.
    pub break_glass: Vec<String>,
    /// What was allowed became another while it went on: the blob (`None`: nothing restricts it), when (Unix ms), and the
    /// place in the ledger.
    pub permits: Vec<(Option<Sha256>, u64, u64)>,
    /// What was muted in monitoring systems, and whether that is over.
    pub mutes: Mutes,
    /// The same as it was done, in order.
    pub monitoring: Vec<MonitoringView>,
    /// Who did something to the run, in order: its operator first.
    pub acts: Vec<Act>,
    /// Where the controller's clock did not go on as the time that really went by.
    pub clock_steps: Vec<ClockStep>,
    /// The hosts.
    pub hosts: BTreeMap<HostName, HostView>,
    /// How the sessions to places that are no hosts of the run ended.
    pub elsewhere: BTreeMap<HostName, Vec<Closed>>,
    /// Both clocks at the record before.
    clocks: Option<(u64, u64)>,
}

/// Access that the host was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Unix ms.
    pub at_ms: u64,
    /// The record's place in the ledger.
    pub seq: u64,
    /// What.
    pub grant: Grant,
    /// The record that says that the host has it, and what it said.
    pub installed: Option<(u64, Installed)>,
}

/// What was done to a monitoring system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringView {
    /// Its name in the settings.
    pub system: String,
    /// What, in a sentence.
    pub what: String,
    /// It failed, or somebody else ended what was muted.
    pub bad: bool,
    /// When (Unix ms).
    pub at_ms: u64,
    /// Place in the ledger.
    pub seq: u64,
}

/// How the sessions to a host ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// When that was recorded (Unix ms).
    pub at_ms: u64,
    /// Place in the ledger.
    pub seq: u64,
    /// How.
    pub close: SessionClose,
}

/// That a host was cut off before the end of its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOff {
    /// Names of its windows.
    pub windows: Vec<String>,
    /// When its time ends (Unix ms).
    pub ends_ms: u64,
    /// When that was decided (Unix ms).
    pub at_ms: u64,
    /// Place in the ledger.
    pub seq: u64,
}

/// That a person did something to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What, in the past tense: `started the run`.
    pub what: String,
    /// Who.
    pub by: Person,
    /// When (Unix ms).
    pub at_ms: u64,
    /// Place in the ledger.
    pub seq: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// A controller works on it, or has died.
    Running,
    /// It waits for an operator.
    Suspended,
    /// It has ended.
    Ended,
}

impl RunState {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Suspended => "suspended",
            RunState::Ended => "ended",
        }
    }
}

/// A host in a run.
#[derive(Debug, Clone, Default)]
pub struct HostView {
    /// Its batch, counted from 0.
    pub batch: usize,
    /// When the first connection was asked for (Unix ms).
    pub started_ms: Option<u64>,
    /// Place in the ledger of what the last session told, or of why there was none.
    pub session_seq: Option<u64>,
    /// Place in the ledger of the last session's opening.
    pub opened_seq: Option<u64>,
    /// Access that it was given for the run, by each controller.
    pub access: Vec<Granted>,
    /// How sessions ended: once, and once more each time that the host was tried again.
    pub closed: Vec<Closed>,
    /// The phase that it is in; `None` before the first and after the last.
    pub phase: Option<Phase>,
    /// When that phase began (Unix ms).
    pub phase_ms: Option<u64>,
    /// How each phase that has begun there ended; `None` while it goes on.
    pub phases: BTreeMap<Phase, Option<bool>>,
    /// What caused the rollback.
    pub rollback_reason: Option<String>,
    /// Until when it must be taken back (Unix ms).
    pub rollback_deadline_ms: Option<u64>,
    /// It was stopped before the end of its window.
    pub cut_off: Option<CutOff>,
    /// It waits for its peers.
    pub held: bool,
    /// How it ended.
    pub outcome: Option<HostOutcome>,
    /// Why.
    pub reason: String,
    /// When (Unix ms).
    pub ended_ms: Option<u64>,
    /// Place in the ledger of its end.
    pub ended_seq: Option<u64>,
    /// What it says of itself.
    pub facts: Option<Facts>,
    /// Who answered.
    pub identity: Option<PeerIdentity>,
    /// Why it could not be connected to, last.
    pub obstacle: Option<Obstacle>,
    /// Measurements that are not a step's: subject, manifest, obstacle.
    pub measured: Vec<(Subject, Option<Sha256>, Option<Obstacle>)>,
    /// Steps that something was recorded of.
    pub steps: BTreeMap<StepId, StepView>,
}

/// A step on a host.
#[derive(Debug, Clone, Default)]
pub struct StepView {
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Its outcome, as it counts.
    pub outcome: Option<AttemptOutcome>,
    /// The rule that decided it.
    pub reason: String,
    /// When it had its outcome (Unix ms).
    pub ended_ms: Option<u64>,
    /// Place in the ledger of its outcome.
    pub ended_seq: Option<u64>,
    /// Where a `once` step was really done.
    pub done_on: Option<HostName>,
    /// The reference that a snapshot's `take` printed.
    pub snapshot: Option<String>,
    /// Who removed that snapshot, and when (Unix ms).
    pub released: Option<(Person, u64)>,
    /// What `unless` said.
    pub unless_done: Option<bool>,
    /// Blob with the changes that it made; with the undeclared ones that it found, when its role is to look for them.
    pub changes: Option<Sha256>,
    /// Place in the ledger of the measurement after it.
    pub measured_seq: Option<u64>,
    /// Why the changes could not be measured.
    pub unmeasured: Option<Obstacle>,
    /// What is waited for before the next attempt: not before (Unix ms), and why.
    pub retry: Option<(u64, String)>,
    /// How an operator settled it.
    pub resolved: Option<Resolved>,
}

/// The controller's clock was set, forwards or back, while it worked; or the machine slept, which the monotonic clock does
/// not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// By how much, in milliseconds; negative: back.
    pub by_ms: i64,
    /// Place in the ledger of the first record after it.
    pub seq: u64,
}

/// How an operator settled an unknown outcome.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Did it happen as it should?
    pub succeeded: bool,
    /// Why they think so.
    pub why: String,
    /// Who.
    pub by: Person,
    /// When (Unix ms).
    pub at_ms: u64,
    /// Place in the ledger.
    pub seq: u64,
}

/// That an attempt's host, connection or controller was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Since when (Unix ms).
    pub since_ms: u64,
    /// What happened.
    pub reason: String,
    /// Until when it is asked after (Unix ms).
    pub until_ms: u64,
    /// It had not begun: what is waited for is its host.
    pub not_begun: bool,
}

/// An attempt.
#[derive(Debug, Clone)]
pub struct AttemptView {
    /// Counted from 1.
    pub attempt: u32,
    /// What was done.
    pub intent: Intent,
    /// When its start was recorded (Unix ms).
    pub started_ms: u64,
    /// Place in the ledger of its start.
    pub started_seq: u64,
    /// Place in the ledger of its end.
    pub ended_seq: Option<u64>,
    /// That it was lost.
    pub lost: Option<Lost>,
    /// Its outcome by the plan's rules.
    pub outcome: Option<AttemptOutcome>,
    /// All that is known.
    pub report: Option<AttemptReport>,
    /// Why it was tried again after it.
    pub retried: Option<String>,
}

impl AttemptView {
    /// It is going on, as far as the record tells.
    pub fn is_running(&self) -> bool {
        self.outcome.is_none()
    }
}

impl RunView {
    /// A run of `plan` of which nothing is known.
    pub fn new(plan: Arc<Plan>) -> Self {
        let mut hosts = BTreeMap::new();
        for (batch, names) in plan.batches.iter().enumerate() {
            for name in names {
                hosts.insert(name.clone(), HostView { batch, ..HostView::default() });
            }
        }
        Self {
            plan,
            header: None,
            state: RunState::Running,
            outcome: None,
            ended_ms: None,
            last_ms: 0,
            records: 0,
            opened_seq: None,
            ended_seq: None,
            last_seq: None,
            batch: None,
            soak_until_ms: None,
            budget: None,
            cancel: None,
            resumed: Vec::new(),
            clock_at_end: None,
            break_glass: Vec::new(),
            permits: Vec::new(),
            mutes: Mutes::default(),
            monitoring: Vec::new(),
            acts: Vec::new(),
            clock_steps: Vec::new(),
            clocks: None,
            hosts,
            elsewhere: BTreeMap::new(),
        }
    }

    /// The whole of `records`.
    pub fn of<'a>(plan: Arc<Plan>, records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut view = Self::new(plan);
        for record in records {
            view.fold(record);
        }
        view
    }

    /// The run's id.
    pub fn run(&self) -> Option<&RunId> {
        self.header.as_ref().map(|header| &header.run)
    }

    /// When it was opened (Unix ms).
    pub fn started_ms(&self) -> u64 {
        self.header.as_ref().map_or(self.last_ms, |header| header.started_ms)
    }

    /// Takes the next record.
    pub fn fold(&mut self, record: &Record) {
        let now = parse_time(&record.time).unwrap_or(self.last_ms);
        self.compare_clocks(now, record);
        self.last_ms = now;
        self.records += 1;
        self.last_seq = Some(record.seq);
        self.event(&record.event, now, record.seq);
    }

    fn event(&mut self, event: &Event, now: u64, seq: u64) {
        match event {
            Event::RunOpened(header) => {
                self.act("opened the run", &header.operator, now, seq);
                self.break_glass.extend(header.break_glass.clone());
                self.header = Some(header.as_ref().clone());
                self.opened_seq = Some(seq);
            }
            Event::RunStarted | Event::TimerFired { .. } | Event::Installation(_) => {}
            Event::RollbackAsked { by } => self.act("asked to take the named run back", by, now, seq),
            Event::RunResumed { by, break_glass, on, .. } => {
                self.break_glass.extend(break_glass.clone());
                let what = "took the run up again";
                match on.as_deref().filter(|on| self.header.as_ref().is_none_or(|header| is_another(header, on))) {
                    None => self.act(what, by, now, seq),
                    Some(on) => {
                        let Controller { engine_version, engine_sha256, name, .. } = on;
                        let with = format!("{what} on {name}, with runbook {engine_version}, {engine_sha256}");
                        self.act(&with, by, now, seq);
                    }
                }
                self.resumed.push((by.clone(), now));
                self.ended_seq = None;
                self.state = RunState::Running;
                self.outcome = None;
                self.ended_ms = None;
            }
            Event::MonitoringMuted { .. } | Event::MonitoringUnmuted { .. } | Event::MonitoringFailed { .. } => {
                self.mutes.observe(event);
                if let Some((system, what, bad)) = crate::monitoring::sentence(event) {
                    let (system, at_ms) = (system.to_owned(), now);
                    self.monitoring.push(MonitoringView { system, what, bad, at_ms, seq });
                }
            }
            Event::PermitChanged { permit, .. } => self.permits.push((*permit, now, seq)),
            Event::CancelAsked { by } => {
                self.act("asked to cancel", by, now, seq);
                self.cancel = Some((by.clone(), now));
            }
            Event::BatchStarted { batch } => {
                self.batch = Some(*batch);
                self.soak_until_ms = None;
            }
            Event::BatchEnded { soak_until_ms, .. } => self.soak_until_ms = *soak_until_ms,
            Event::BudgetSpent { spent, budget } => self.budget = Some((*spent, *budget)),
            Event::RunSuspended { outcome } => {
                self.state = RunState::Suspended;
                self.outcome = Some(*outcome);
            }
            Event::RunEnded { outcome, clock } => {
                self.clock_at_end.clone_from(clock);
                self.state = RunState::Ended;
                self.outcome = Some(*outcome);
                self.ended_ms = Some(now);
                self.ended_seq = Some(seq);
            }
            Event::HostStarted { host, .. } => {
                self.host(host).started_ms.get_or_insert(now);
            }
            Event::AccessGranted { host, grant } => {
                self.host(host).access.push(Granted {
                    at_ms: now,
                    seq,
                    grant: grant.as_ref().clone(),
                    installed: None,
                });
            }
            Event::AccessInstalled { host, installed } => {
                if let Some(granted) = self.host(host).access.last_mut() {
                    granted.installed = Some((seq, installed.as_ref().clone()));
                }
            }
            Event::SessionOpened { host, facts, identity } => {
                let host = self.host(host);
                host.session_seq = Some(seq);
                host.opened_seq = Some(seq);
                host.facts = Some(facts.clone());
                host.identity = Some((**identity).clone());
                host.obstacle = None;
            }
            Event::SessionFailed { host, obstacle } => {
                let host = self.host(host);
                host.session_seq = Some(seq);
                host.obstacle = Some(obstacle.clone());
            }
            Event::SessionClosed { host, closed } => {
                let closed = Closed { at_ms: now, seq, close: closed.as_ref().clone() };
                match self.hosts.get_mut(host) {
                    Some(host) => host.closed.push(closed),
                    None => self.elsewhere.entry(host.clone()).or_default().push(closed),
                }
            }
            Event::PhaseStarted { host, phase, reason, deadline_ms } => {
                let host = self.host(host);
                host.phase = Some(*phase);
                host.phase_ms = Some(now);
                host.phases.insert(*phase, None);
                host.held = false;
                if *phase == Phase::Rollback {
                    host.rollback_reason.clone_from(reason);
                    host.rollback_deadline_ms = *deadline_ms;
                }
            }
            Event::PhaseEnded { host, phase, ok } => {
                let host = self.host(host);
                host.phases.insert(*phase, Some(*ok));
            }
            Event::HostCutOff { host, windows, ends_ms, .. } => {
                let (windows, ends_ms) = (windows.clone(), *ends_ms);
                self.host(host).cut_off = Some(CutOff { windows, ends_ms, at_ms: now, seq });
            }
            Event::HostHeld { host } => self.host(host).held = true,
            Event::HostReopened { host, .. } => {
                let host = self.host(host);
                host.outcome = None;
                host.reason.clear();
                host.ended_ms = None;
                host.ended_seq = None;
            }
            Event::HostEnded { host, outcome, reason } => {
                let host = self.host(host);
                host.phase = None;
                host.held = false;
                host.outcome = Some(*outcome);
                host.reason.clone_from(reason);
                host.ended_ms = Some(now);
                host.ended_seq = Some(seq);
            }
            Event::Measured { host, subject, manifest, changes, obstacle } => {
                if let Subject::Before { step } | Subject::After { step } = subject {
                    let after = matches!(subject, Subject::After { .. });
                    let step = self.step(host, step);
                    if after {
                        step.measured_seq = Some(seq);
                    }
                    if changes.is_some() {
                        step.changes = *changes;
                    }
                    if obstacle.is_some() {
                        step.unmeasured.clone_from(obstacle);
                    }
                } else {
                    self.host(host).measured.push((subject.clone(), *manifest, obstacle.clone()));
                }
            }
            Event::StepPrepared { cell, .. } => {
                self.step(&cell.host, &cell.step);
            }
            Event::UnlessChecked { cell, done } => self.step(&cell.host, &cell.step).unless_done = Some(*done),
            Event::AttemptStarted { attempt, intent, .. } => {
                let step = self.step(&attempt.host, &attempt.step);
                step.retry = None;
                step.outcome = None;
                // Most cells are attempted once, and a vector's first room is for four.
                step.attempts.reserve_exact(usize::from(step.attempts.is_empty()));
                step.attempts.push(AttemptView {
                    attempt: attempt.attempt,
                    intent: intent.clone(),
                    started_ms: now,
                    started_seq: seq,
                    ended_seq: None,
                    lost: None,
                    outcome: None,
                    report: None,
                    retried: None,
                });
            }
            Event::AttemptLost { attempt, reason, deadline_ms, not_begun } => {
                // One that had ended unknown is asked after once more.
                self.step(&attempt.host, &attempt.step).outcome = None;
                if let Some(attempt) = self.attempt(&attempt.host, &attempt.step, attempt.attempt) {
                    let (reason, until_ms, not_begun) = (reason.clone(), *deadline_ms, *not_begun);
                    attempt.lost = Some(Lost { since_ms: now, reason, until_ms, not_begun });
                    attempt.outcome = None;
                    attempt.ended_seq = None;
                }
            }
            Event::AttemptEnded { attempt, outcome, report } => {
                if report.undeclared.is_some() {
                    self.step(&attempt.host, &attempt.step).changes = report.undeclared;
                }
                if let Some(attempt) = self.attempt(&attempt.host, &attempt.step, attempt.attempt) {
                    attempt.outcome = Some(*outcome);
                    attempt.ended_seq = Some(seq);
                    attempt.report = Some(report.as_ref().clone());
                }
            }
            Event::RetryScheduled { attempt, at_ms, reason } => {
                let step = self.step(&attempt.host, &attempt.step);
                step.retry = Some((*at_ms, reason.clone()));
                if let Some(last) = step.attempts.last_mut() {
                    last.retried = Some(reason.clone());
                }
            }
            Event::StepEnded { cell, outcome, reason, done_on, snapshot } => {
                let step = self.step(&cell.host, &cell.step);
                step.retry = None;
                step.outcome = Some(*outcome);
                step.reason.clone_from(reason);
                step.ended_ms = Some(now);
                step.ended_seq = Some(seq);
                if done_on.is_some() {
                    step.done_on.clone_from(done_on);
                }
                if snapshot.is_some() {
                    step.snapshot.clone_from(snapshot);
                }
            }
            Event::StepResolved { cell, succeeded, why, by } => {
                let said = if *succeeded { "succeeded" } else { "failed" };
                self.act(&format!("settled {}/{} as {said}: {why}", cell.host, cell.step), by, now, seq);
                let step = self.step(&cell.host, &cell.step);
                let (why, by) = (why.clone(), by.clone());
                step.resolved = Some(Resolved { succeeded: *succeeded, why, by, at_ms: now, seq });
                step.outcome = Some(if *succeeded { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed });
            }
            Event::SnapshotReleased { cell, by, .. } => {
                self.act(&format!("released the snapshot {}/{}", cell.host, cell.step), by, now, seq);
                self.step(&cell.host, &cell.step).released = Some((by.clone(), now));
            }
        }
    }

    /// Both clocks of one process go on alike, but for what a daemon mends little by little.
    fn compare_clocks(&mut self, now: u64, record: &Record) {
        let before = self.clocks.replace((now, record.mono_ms)).filter(|_| !may_be_first(&record.event));
        // Less than before: another process wrote it.
        if let Some((then, mono)) = before.filter(|(_, mono)| *mono <= record.mono_ms) {
            let by_ms = (i128::from(now) - i128::from(then)) - i128::from(record.mono_ms - mono);
            let by_ms = i64::try_from(by_ms).unwrap_or(i64::MAX);
            if by_ms.unsigned_abs() > CLOCK_STEP_MS {
                self.clock_steps.push(ClockStep { by_ms, seq: record.seq });
            }
        }
    }

    fn act(&mut self, what: &str, by: &Person, at_ms: u64, seq: u64) {
        self.acts.push(Act { what: what.to_owned(), by: by.clone(), at_ms, seq });
    }

    fn host(&mut self, name: &HostName) -> &mut HostView {
        self.hosts.entry(name.clone()).or_default()
    }

    fn step(&mut self, host: &HostName, step: &StepId) -> &mut StepView {
        self.host(host).steps.entry(step.clone()).or_default()
    }

    fn attempt(&mut self, host: &HostName, step: &StepId, attempt: u32) -> Option<&mut AttemptView> {
        self.step(host, step).attempts.iter_mut().rev().find(|known| known.attempt == attempt)
    }
}

impl HostView {
    /// The attempt that is going on there and began first, with its step.
    pub fn running(&self) -> Option<(&StepId, &AttemptView)> {
        self.steps
            .iter()
            .filter(|(_, step)| step.outcome.is_none())
            .filter_map(|(id, step)| Some((id, step.attempts.last().filter(|attempt| attempt.is_running())?)))
            .min_by_key(|(_, attempt)| attempt.started_ms)
    }

    /// Whether anything that may change the host has begun there.
    pub fn may_have_changed(&self, plan: &Plan) -> bool {
        // An attempt that is proved not to have begun changed nothing.
        let may = |attempt: &AttemptView| attempt.outcome != Some(AttemptOutcome::NotStarted);
        self.steps.iter().any(|(id, step)| {
            step.attempts.iter().any(may)
                && plan.step(id).is_some_and(|step| !step.read_only && step.phase == Phase::Execute)
        })
    }
}

/// May be the first that a process wrote: its monotonic clock has nothing to do with that of the record before.
fn may_be_first(event: &Event) -> bool {
    matches!(
        event,
        Event::RunOpened(_)
            | Event::RunStarted
            | Event::RunResumed { .. }
            | Event::CancelAsked { .. }
            | Event::RollbackAsked { .. }
            | Event::StepResolved { .. }
            | Event::SnapshotReleased { .. }
            | Event::MonitoringMuted { .. }
            | Event::MonitoringUnmuted { .. }
            | Event::MonitoringFailed { .. }
    )
}

/// Whether another program than the one that opened the run works on it, or another machine.
fn is_another(header: &RunHeader, on: &Controller) -> bool {
    (header.engine_sha256, &header.controller) != (on.engine_sha256, &on.name)
}
