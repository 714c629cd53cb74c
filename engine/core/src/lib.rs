//! The run as a deterministic state machine.
//!
//! [`Run::input`] takes a fact and says what was decided; [`Run::replay`] folds what was decided earlier; after either,
//! [`Run::outstanding`] says what is to be done in the world. It is derived from the state alone, so running and
//! recovering are the same code. No IO, no clock, no randomness: time comes with each input.
//!
//! # A host
//!
//! | stage | entered by | left by |
//! | --- | --- | --- |
//! | waiting | – | `HostStarted`, when its batch has begun and a place is free; `HostEnded` when it never may |
//! | connecting | `HostStarted` | `SessionOpened`, `SessionFailed` |
//! | a phase | `PhaseStarted` | `PhaseEnded`, when its cells have ended or will not begin any more |
//! | ready | `PhaseEnded(prechecks)` | the next `PhaseStarted`, when the whole batch is past its prechecks and the budget allows one more change |
//! | releasing | `PhaseEnded(not ok)` of a host that changed nothing and has snapshots | `PhaseStarted(finally)` |
//! | held | `HostHeld`, with rollback scope `batch` or `run` | `PhaseStarted(rollback)` or `PhaseStarted(finally)`, once the peers are through |
//! | ended | `HostEnded` | `HostReopened` by a resume, if it was halted, stuck or unknown |
//!
//! `HostCutOff` leaves the stage as it is: of a host that is connecting or ready `HostEnded(blocked)` follows in the same
//! append; in a phase what runs is ended, `PhaseEnded(not ok)` follows, and then what follows any failure. While a host may
//! be cut off, `SetTimer(cut off)` is outstanding. See `cut_off`.
//!
//! In a rehearsal a host whose change was made and verified goes from `verify` into `rollback`, as if the verification had
//! failed; that it ends as rolled back is then what was meant, and counts against no budget.
//!
//! Its session is opened by `SessionOpened` and, once the host has ended, closed by `SessionClosed` (until then
//! `CloseSession` is outstanding). The run ends when no session is open any more; one that is left open fails it.
//! `AccessGranted` asks for the same close, whether a session came of it or not; access that the close does not show to be
//! withdrawn suspends the run, and a resume closes again.
//!
//! # A cell
//!
//! | stage | what is outstanding | next |
//! | --- | --- | --- |
//! | waiting, and its needs are met | `Prepare` | prepared, attempting, ended (skipped, refused) |
//! | prepared | `CheckUnless`, else `Measure(before)` | checked, measured, ended (already done) |
//! | checked | `Measure(before)` | measured |
//! | measured, due | `Prepare` | attempting |
//! | attempting | `StartAttempt`, and `CancelAttempt` when it must end | lost, backoff, attempted, ended |
//! | lost | `ProbeAttempt`, likewise | backoff, attempted, ended |
//! | ended (unknown), and its host is to be taken back | `ProbeAttempt` and `CancelAttempt`, before the rollback's first step | ended |
//! | backoff | `SetTimer(retry)` | due |
//! | attempted | `Measure(after)` | ended |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_model::command::Subject;
use runbook_model::event::RunHeader;
use runbook_model::host::Facts;
use runbook_model::permit::Permit;
use runbook_model::{Cell, Command, Event, HostName, Input, Plan, RunOutcome, Sha256};

mod attempts;
mod clocks;
mod commands;
mod counts;
mod cut_off;
mod fold;
mod layout;
mod patience;
mod permit;
mod phases;
mod schedule;
mod state;
mod verdict;

use layout::{HostNo, Layout, StepNo};
use state::{HostState, Stage};

/// How long a host that has not been changed yet is asked after, at most; the plan's `rollback.budget` is the other limit,
/// and the only one from the first change on. Long enough for the restart of a network or of a switch.
pub const UNCHANGED_LIMIT_MS: u64 = 60_000;

/// Attempts of a step that may be repeated after an unknown outcome, when `retry` does not allow more.
pub const UNKNOWN_ATTEMPTS_MAX: u32 = 3;

/// So often a step is begun anew because its start never arrived on the host: not for ever, whatever the link does.
pub const VOID_ATTEMPTS_MAX: u32 = 20;

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    layout: Arc<Layout>,
    header: Arc<RunHeader>,
    permit: permit::Times,
    hosts: Vec<HostState>,
    /// The run takes a finished one back.
    taking_back: bool,
    started: bool,
    /// The batch that is, or was last, under way.
    batch: Option<usize>,
    /// When the next batch may begin; `None` while one is under way.
    soak_until_ms: Option<u64>,
    soaked: bool,
    batch_ended: bool,
    cancel: bool,
    budget_spent: bool,
    /// Hosts with a session whose close is not on record.
    sessions: usize,
    /// Something of a session is left open.
    left_open: bool,
    /// Hosts on which `once` steps are done, by step and first host of those that share it.
    leaders: BTreeMap<(StepNo, HostNo), HostNo>,
    status: Status,
    /// Hosts by what the scheduler asks of them; kept in step with `hosts`.
    tally: schedule::Tally,
    now_ms: u64,
    decided: Vec<Event>,
    /// Hosts about which something new is known.
    unsettled: BTreeSet<HostNo>,
    /// Hosts whose commands are to be derived anew.
    dirty: BTreeSet<HostNo>,
    outstanding: BTreeSet<Command>,
    per_host: Vec<BTreeSet<Command>>,
    run_commands: BTreeSet<Command>,
    delta: Delta,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Something is outstanding.
    Running,
    /// It waits for an operator.
    Suspended(RunOutcome),
    /// It has ended.
    Ended(RunOutcome),
}

/// How [`Run::outstanding`] has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Commands that are outstanding now and were not before.
    pub started: Vec<Command>,
    /// Commands that were outstanding and are not any more.
    pub withdrawn: Vec<Command>,
}

impl Run {
    /// A run that has not begun.
    ///
    /// # Panics
    /// When the plan's references do not hold (a step that needs one that is not there). Plans are checked when they are
    /// made and when they are loaded.
    pub fn new(plan: Arc<Plan>, header: Arc<RunHeader>) -> Self {
        let layout = Arc::new(Layout::new(plan));
        let mut hosts = vec![HostState::new(layout.plan.steps.len()); layout.hosts.len()];
        if let Some((first, others)) = hosts.split_first_mut() {
            first.counts = layout.counts(&first.cells);
            others.iter_mut().for_each(|other| other.counts = first.counts);
        }
        Self {
            tally: schedule::Tally::new(&layout),
            per_host: vec![BTreeSet::new(); hosts.len()],
            layout,
            header,
            permit: permit::Times::default(),
            hosts,
            taking_back: false,
            started: false,
            batch: None,
            soak_until_ms: None,
            soaked: false,
            batch_ended: false,
            cancel: false,
            budget_spent: false,
            sessions: 0,
            left_open: false,
            leaders: BTreeMap::new(),
            status: Status::Running,
            now_ms: 0,
            decided: Vec::new(),
            unsettled: BTreeSet::new(),
            dirty: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            run_commands: BTreeSet::new(),
            delta: Delta::default(),
        }
    }

    /// A run that takes `finished` back, with its own header: every host that it changed is rolled back, then `finally`
    /// runs. What happened in `finished` stays known (effects, snapshots, measured manifests); attempts count anew.
    pub fn taking_back(header: Arc<RunHeader>, finished: Run) -> Self {
        let mut run = Self::new(finished.layout.plan.clone(), header);
        run.taking_back = true;
        for (new, old) in run.hosts.iter_mut().zip(finished.hosts) {
            let rolled_back = old.rollback == Some(true);
            new.facts = old.facts;
            new.measured = old.measured;
            new.done_on = old.done_on;
            if rolled_back {
                continue;
            }
            new.entered = old.entered;
            new.snapshots = old.snapshots;
            for (no, (new, old)) in new.cells.iter_mut().zip(old.cells).enumerate() {
                use runbook_model::plan::Phase;
                if !matches!(run.layout.step(no).phase, Phase::Rollback | Phase::Finally) {
                    *new = state::CellState { attempts: 0, earlier: 0, void: 0, ..old };
                }
            }
            new.counts = run.layout.counts(&new.cells);
        }
        run
    }

    /// The same run, held to what its controller is allowed. It is not part of the state: every controller brings its own,
    /// and the record names it where the controller takes over, and where it changes.
    pub fn permitted(mut self, permit: &Permit) -> Self {
        self.permit = permit::Times::new(permit, &self.layout, 0);
        self.dirty.extend(0..self.hosts.len());
        self
    }

    /// The same run, where the machine's clock, by which windows go, is so far ahead of the time of the inputs.
    pub fn clock_ahead(mut self, ahead_ms: i64) -> Self {
        self.permit.set_ahead(ahead_ms);
        self
    }

    /// Whether hosts may be begun at certain times only, so that the machine's clock matters.
    pub fn goes_by_the_clock(&self) -> bool {
        self.permit.has_times()
    }

    /// Whether something is still to be decided by what is allowed: only then need anybody look whether that has changed.
    pub fn heeds_permit(&self) -> bool {
        let goes_on = self.started && self.status == Status::Running && !self.cancel;
        let decides = !self.taking_back && !self.header.check_only;
        goes_on && decides && (self.tally.has_unstarted() || self.cuts_off() && !self.tally.all_ended())
    }

    /// Takes a fact and says what was decided, in order; the events are already folded into the state. All events of one
    /// input belong into one append. Facts that no longer matter (an answer to a withdrawn command) decide nothing.
    pub fn input(&mut self, now_ms: u64, input: Input) -> Vec<Event> {
        self.now_ms = self.now_ms.max(now_ms);
        self.accept(input);
        self.settle();
        self.derive_commands();
        std::mem::take(&mut self.decided)
    }

    /// Folds an event that was decided earlier.
    pub fn replay(&mut self, event: &Event) {
        self.fold(event);
        self.derive_commands();
    }

    /// What is to be done in the world now.
    pub fn outstanding(&self) -> &BTreeSet<Command> {
        &self.outstanding
    }

    /// How that has changed since this was last called (or since the run was made).
    pub fn delta(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    /// Where the run stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// A host's facts, once it was connected.
    pub fn facts(&self, host: &HostName) -> Option<&Facts> {
        self.hosts[self.layout.host_no(host)?].facts.as_ref()
    }

    /// Whether something of `execute` may have happened on the host.
    pub fn may_have_changed(&self, host: &HostName) -> bool {
        self.layout.host_no(host).is_some_and(|no| self.changed(no))
    }

    /// The reference of the snapshot that the cell took.
    pub fn snapshot(&self, cell: &Cell) -> Option<&str> {
        let (host, step) = self.layout.locate(cell)?;
        self.hosts[host].snapshots.get(&step).map(String::as_str)
    }

    /// Snapshots that taking the run back needs, and that were released after it: of hosts that it changed.
    pub fn released_snapshots(&self) -> Vec<Cell> {
        let restored = |take: &StepNo| {
            let restores = self.layout.phase(runbook_model::Phase::Rollback).iter();
            restores.copied().any(|step| {
                let restore = matches!(self.layout.step(step).role, runbook_model::plan::Role::Restore { .. });
                restore && self.layout.about[step] == Some(*take)
            })
        };
        let of_host = |(host, state): (HostNo, &HostState)| {
            let gone: Vec<Cell> = match self.changed(host) && state.rollback != Some(true) {
                true => state
                    .released
                    .iter()
                    .filter(|take| restored(take))
                    .map(|&take| self.layout.cell(host, take))
                    .collect(),
                false => Vec::new(),
            };
            gone
        };
        self.hosts.iter().enumerate().flat_map(of_host).collect()
    }

    /// The manifest that was measured.
    pub fn measured(&self, host: &HostName, subject: &Subject) -> Option<Sha256> {
        *self.hosts[self.layout.host_no(host)?].measured.get(subject)?
    }

    /// The host on which a `once` step that this cell shares was really done.
    pub fn done_on(&self, cell: &Cell) -> Option<&HostName> {
        let (host, step) = self.layout.locate(cell)?;
        self.hosts[host].done_on.get(&step).map(|no| &self.layout.hosts[*no])
    }

    /// Decides and folds at once.
    fn emit(&mut self, event: Event) {
        self.fold(&event);
        self.decided.push(event);
    }

    /// Decides until nothing more follows from the state.
    fn settle(&mut self) {
        loop {
            while let Some(host) = self.unsettled.pop_first() {
                self.advance(host);
            }
            if !self.schedule() {
                return;
            }
        }
    }

    fn set_session(&mut self, host: HostNo, open: bool) {
        let before = std::mem::replace(&mut self.hosts[host].session, open);
        self.sessions = self.sessions + usize::from(open) - usize::from(before);
    }

    /// Nothing is left to do but to close sessions at places that are no hosts of the plan.
    fn closes_elsewhere(&self) -> bool {
        let through = self.started && self.tally.all_ended() && self.sessions == 0;
        through && self.layout.works_elsewhere && !self.hosts.is_empty() && self.status == Status::Running
    }

    fn set_stage(&mut self, host: HostNo, stage: Stage) {
        let before = std::mem::replace(&mut self.hosts[host].stage, stage);
        // Which of them have something outstanding is seen when the commands are derived.
        let live = &mut self.hosts[host].live;
        live.clear();
        match stage {
            Stage::Phase(phase) => live.extend(self.layout.phase(phase)),
            Stage::Releasing => live.extend(&self.layout.releases),
            _ => {}
        }
        let state = &self.hosts[host];
        let meant = self.header.rehearses && state.failed_in.is_none() && !state.cancelled;
        self.tally.moved(self.layout.batch_of[host], host, before, stage, meant);
    }
}
