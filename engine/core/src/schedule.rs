//! Between hosts: batches, places, the failure budget, peers that go back together, the end of the run.

use std::collections::BTreeSet;

use runbook_model::plan::{Phase, Scope};
use runbook_model::{Event, HostOutcome};

use crate::layout::{HostNo, Layout};
use crate::state::Stage;
use crate::{Run, Status};

/// Hosts by what the scheduler asks of them, so that it never searches all hosts.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    batches: Vec<BatchTally>,
    /// Hosts between their first change and their end.
    changing: usize,
    /// Hosts that have not begun, or not their change.
    unstarted: usize,
    held: usize,
    /// Some batch is `bad`.
    bad: bool,
    /// Hosts that take one of the `parallel` places.
    active: usize,
    ended: usize,
    /// All of them.
    hosts: usize,
    /// Hosts that ended other than succeeded.
    failed: usize,
}

#[derive(Debug, Clone, Default)]
struct BatchTally {
    waiting: BTreeSet<HostNo>,
    ready: BTreeSet<HostNo>,
    held: BTreeSet<HostNo>,
    /// Before or in their prechecks.
    early: usize,
    changing: usize,
    /// A host of it failed after its first change, or was taken back.
    bad: bool,
}

fn early(stage: Stage) -> bool {
    matches!(stage, Stage::Connecting | Stage::Between(None | Some(Phase::Prechecks)) | Stage::Phase(Phase::Prechecks))
}

impl Tally {
    pub(crate) fn new(layout: &Layout) -> Self {
        let batch =
            |hosts: &std::ops::Range<HostNo>| BatchTally { waiting: hosts.clone().collect(), ..Default::default() };
        Self {
            batches: layout.batches.iter().map(batch).collect(),
            changing: 0,
            unstarted: layout.hosts.len(),
            held: 0,
            bad: false,
            active: 0,
            ended: 0,
            hosts: layout.hosts.len(),
            failed: 0,
        }
    }

    /// Whether every host has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.ended == self.hosts
    }

    /// Whether a host has not begun, or not its change.
    pub(crate) fn has_unstarted(&self) -> bool {
        self.unstarted > 0
    }

    /// `meant`: that it is taken back is what the run is for, and counts against nobody.
    pub(crate) fn moved(&mut self, batch: usize, host: HostNo, before: Stage, after: Stage, meant: bool) {
        self.count(batch, host, before, false, meant);
        self.count(batch, host, after, true, meant);
    }

    fn count(&mut self, batch: usize, host: HostNo, stage: Stage, enters: bool, meant: bool) {
        let adjust = |count: &mut usize| if enters { *count += 1 } else { *count -= 1 };
        let list = &mut self.batches[batch];
        let member = |set: &mut BTreeSet<HostNo>| {
            if enters {
                set.insert(host)
            } else {
                set.remove(&host)
            };
        };
        if stage.active() {
            adjust(&mut self.active);
        }
        match stage {
            Stage::Waiting | Stage::Ready => {
                adjust(&mut self.unstarted);
                member(if stage == Stage::Waiting { &mut list.waiting } else { &mut list.ready });
            }
            Stage::Held => {
                adjust(&mut self.held);
                member(&mut list.held);
            }
            Stage::Ended(outcome) => {
                adjust(&mut self.ended);
                use HostOutcome::{Failed, RolledBack, Stuck, Succeeded, Unknown};
                let as_meant = outcome == Succeeded || meant && outcome == RolledBack;
                if !as_meant {
                    adjust(&mut self.failed);
                }
                list.bad |= enters && !as_meant && matches!(outcome, Failed | RolledBack | Stuck | Unknown);
            }
            stage if early(stage) => adjust(&mut list.early),
            stage => {
                adjust(&mut list.changing);
                adjust(&mut self.changing);
                list.bad |= enters && !meant && stage == Stage::Phase(Phase::Rollback);
            }
        }
        self.bad |= list.bad;
    }
}

impl Run {
    /// Decides what follows from all hosts together. False when there is nothing more to decide.
    pub(crate) fn schedule(&mut self) -> bool {
        if !self.started || self.status != Status::Running {
            return false;
        }
        let before = self.decided.len();
        if self.tally.all_ended() {
            // What is open is closed first.
            if self.sessions == 0 && !self.closes_elsewhere() {
                self.close();
            }
        } else if self.taking_back {
            self.start_taking_back();
        } else {
            self.settle_held();
            self.stop_unstarted();
            self.run_batch();
        }
        self.decided.len() > before
    }

    /// Ends the run, or suspends it.
    pub(crate) fn close(&mut self) {
        if let (Some(batch), false) = (self.batch, self.batch_ended) {
            self.emit(Event::BatchEnded { batch, soak_until_ms: None });
        }
        // A plan without hosts is refused where it is made; it would not be a success.
        let mut outcome = if self.hosts.is_empty() { HostOutcome::Blocked } else { HostOutcome::Succeeded };
        let mut suspended = false;
        for host in 0..self.hosts.len() {
            if let Stage::Ended(of_host) = self.hosts[host].stage {
                outcome = outcome.worse(of_host);
                suspended |= self.awaits_operator(host, of_host);
            }
        }
        if self.hosts.iter().any(|host| host.access_left) {
            // A person must see to it; a resume tries it again.
            outcome = outcome.worse(HostOutcome::Stuck);
            suspended = true;
        }
        if self.left_open {
            outcome = outcome.worse(HostOutcome::Failed);
        }
        self.emit(if suspended { Event::RunSuspended { outcome } } else { Event::RunEnded { outcome, clock: None } });
    }

    /// Why no further host may begin its change in `batch`; `None` while they may.
    fn stopped(&self, batch: usize) -> Option<(HostOutcome, String)> {
        let scope = self.layout.plan.rollback.scope;
        let bad = match scope {
            Scope::Host => false,
            Scope::Batch => self.tally.batches[batch].bad,
            Scope::Run => self.tally.bad,
        };
        if self.cancel {
            Some((HostOutcome::Cancelled, "the run was cancelled before anything was changed here".into()))
        } else if self.budget_spent {
            let budget = self.layout.plan.failure_budget;
            Some((HostOutcome::Blocked, format!("not begun: the failure budget of {budget} is spent")))
        } else if bad {
            let all = if scope == Scope::Run { "run" } else { "batch" };
            Some((
                HostOutcome::Blocked,
                format!("not begun: another host of the {all} failed, and they go back together"),
            ))
        } else {
            None
        }
    }

    /// Ends hosts that will never begin (or never begin their change).
    fn stop_unstarted(&mut self) {
        if self.tally.unstarted == 0 {
            return;
        }
        let budget = self.layout.plan.failure_budget;
        if !self.budget_spent && !self.cancel && self.tally.failed > budget as usize {
            let spent = u32::try_from(self.tally.failed).unwrap_or(u32::MAX);
            self.emit(Event::BudgetSpent { spent, budget });
        }
        if !self.cancel && !self.budget_spent && !self.tally.bad {
            return;
        }
        for batch in 0..self.tally.batches.len() {
            let list = &self.tally.batches[batch];
            if list.waiting.is_empty() && list.ready.is_empty() {
                continue;
            }
            let Some((outcome, reason)) = self.stopped(batch) else { continue };
            let hosts: Vec<HostNo> = list.waiting.iter().chain(&list.ready).copied().collect();
            for host in hosts {
                let host = self.layout.hosts[host].clone();
                self.emit(Event::HostEnded { host, outcome, reason: reason.clone() });
            }
        }
    }

    fn run_batch(&mut self) {
        let Some(batch) = self.batch else {
            if !self.tally.batches.is_empty() {
                self.emit(Event::BatchStarted { batch: 0 });
            }
            return;
        };
        if self.batch_ended {
            if self.soaked && batch + 1 < self.tally.batches.len() && self.stopped(batch + 1).is_none() {
                self.emit(Event::BatchStarted { batch: batch + 1 });
            }
            return;
        }
        let parallel = self.layout.plan.parallel as usize;
        while self.tally.active < parallel
            && let Some(&host) = self.tally.batches[batch].waiting.first()
        {
            let name = self.layout.hosts[host].clone();
            self.emit(match self.outside(host) {
                None => Event::HostStarted { host: name, begun_ms: self.cuts_off().then_some(self.wall_ms()) },
                Some(reason) => Event::HostEnded { host: name, outcome: HostOutcome::Blocked, reason },
            });
        }
        let list = &self.tally.batches[batch];
        if !list.waiting.is_empty() || list.early > 0 {
            return;
        }
        if self.header.check_only {
            for host in list.ready.clone() {
                let host = self.layout.hosts[host].clone();
                let reason = "only the prechecks were asked for".to_owned();
                self.emit(Event::HostEnded { host, outcome: HostOutcome::Succeeded, reason });
            }
        }
        // In flight hosts are reserved: even if all of them fail, the budget is passed by the one that spends it alone.
        let budget = self.layout.plan.failure_budget as usize;
        while self.tally.active < parallel
            && self.tally.failed + self.tally.changing <= budget
            && self.stopped(batch).is_none()
            && let Some(&host) = self.tally.batches[batch].ready.first()
        {
            match self.outside(host).or_else(|| self.clock_off(host)) {
                None => self.start_change(host),
                Some(reason) => {
                    let host = self.layout.hosts[host].clone();
                    self.emit(Event::HostEnded { host, outcome: HostOutcome::Blocked, reason });
                }
            }
        }
        let list = &self.tally.batches[batch];
        let through = list.ready.is_empty() && list.changing == 0;
        if through && (list.held.is_empty() || self.layout.plan.rollback.scope == Scope::Run) {
            let next = batch + 1 < self.tally.batches.len() && self.stopped(batch + 1).is_none();
            let soak = self.layout.plan.soak_ms;
            let soak_until_ms = (next && soak > 0).then(|| self.now_ms.saturating_add(soak));
            self.emit(Event::BatchEnded { batch, soak_until_ms });
        }
    }

    /// Hosts that wait for their peers go back with them, or on to their end.
    fn settle_held(&mut self) {
        if self.tally.held == 0 {
            return;
        }
        let scope = self.layout.plan.rollback.scope;
        for batch in 0..self.tally.batches.len() {
            if self.tally.batches[batch].held.is_empty() {
                continue;
            }
            let peers = match scope {
                Scope::Run => 0..self.tally.batches.len(),
                Scope::Host | Scope::Batch => batch..batch + 1,
            };
            let bad = self.tally.batches[peers.clone()].iter().any(|peer| peer.bad);
            let through = self.tally.batches[peers]
                .iter()
                .all(|peer| peer.waiting.is_empty() && peer.ready.is_empty() && peer.early == 0 && peer.changing == 0);
            let held: Vec<HostNo> = self.tally.batches[batch].held.iter().copied().collect();
            if bad || self.cancel {
                let reason =
                    if bad { "another host failed, and they go back together" } else { "the run was cancelled" };
                for host in held {
                    if self.halts(host) {
                        self.finish(host);
                    } else {
                        self.start_rollback(host, Some(reason.to_owned()));
                    }
                }
            } else if through {
                for host in held {
                    self.finish(host);
                }
            }
        }
    }

    /// Takes back the hosts of a finished run: last batch first.
    fn start_taking_back(&mut self) {
        let parallel = self.layout.plan.parallel as usize;
        let next = |run: &Self| run.tally.batches.iter().rev().find_map(|batch| batch.waiting.first().copied());
        while let Some(host) = next(self) {
            let name = self.layout.hosts[host].clone();
            let end =
                |outcome, reason: &str| Event::HostEnded { host: name.clone(), outcome, reason: reason.to_owned() };
            if !self.changed(host) {
                self.emit(end(HostOutcome::RolledBack, "nothing is changed here any more, or never was"));
            } else if self.halts(host) {
                self.emit(end(
                    HostOutcome::Failed,
                    "what was done here cannot be taken back: the plan calls it irreversible",
                ));
            } else if self.cancel {
                self.emit(end(HostOutcome::Cancelled, "the run was cancelled before this host was taken back"));
            } else if self.tally.active < parallel {
                self.emit(Event::HostStarted { host: name, begun_ms: None });
            } else {
                return;
            }
        }
    }
}
