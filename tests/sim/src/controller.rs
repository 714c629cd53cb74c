//! A controller in simulated time: the driver's loop without its IO, killed at random points.

use std::collections::BTreeSet;
use std::sync::Arc;

use runbook_core::{Run, Status};
use runbook_model::command::Subject;
use runbook_model::event::{AttemptReport, Person, RunHeader};
use runbook_model::host::Facts;
use runbook_model::input::{Intent, Prepared};
use runbook_model::outcome::{Ended, KilledBy, OutputRef};
use runbook_model::permit::Permit;
use runbook_model::plan::{Phase, Plan, Role};
use runbook_model::{AttemptOutcome, Command, Event, HostName, Input, RunId, Sha256, StepId};

use crate::plans;
use crate::seed::Seed;
use crate::windows::{self, Allowed};
use crate::world::{Faults, Seen, World};

/// Rare situations that a run went through: over many seeds each must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Marks {
    Crashed,
    CrashedInRollback,
    Cancelled,
    CancelledInExecute,
    LostAttempt,
    UnknownOutcome,
    Repeated,
    RolledBack,
    Stuck,
    Halted,
    BudgetSpent,
    PeersTakenBack,
    Released,
    Resolved,
    Reopened,
    TakenBackLater,
    SharedOnce,
    CutOff,
    CutOffBeforeItsChange,
    CutOffByAnotherController,
    CutOffByChangedWindows,
    BlockedByItsWindow,
    WindowsChanged,
}

/// What came of a seed.
pub struct Simulated {
    /// The seed.
    pub seed: u64,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Every event that was durable, with its time.
    pub log: Vec<(u64, Event)>,
    /// Steps whose effect is on each host at the end.
    pub applied: Vec<(HostName, BTreeSet<StepId>)>,
    /// Attempts that had their effect more than once (none, one hopes).
    pub doubled: Vec<String>,
    /// Where the run stands at the end.
    pub status: Status,
    /// The log of the run that took it back, if one did.
    pub taken_back: Option<Vec<(u64, Event)>>,
    /// Things that the simulation itself saw go wrong.
    pub broken: Vec<String>,
    /// Rare situations that were reached.
    pub marks: BTreeSet<Marks>,
    /// An operator took part (resume or resolve after a suspension).
    pub operator: bool,
    /// It was cancelled.
    pub cancelled: bool,
    /// What was allowed, each from a place in the log on.
    pub permits: Vec<(usize, Permit)>,
    /// It was a rehearsal.
    pub rehearses: bool,
}

struct Controller {
    seed: Seed,
    plan: Arc<Plan>,
    header: Arc<RunHeader>,
    run: Run,
    world: World,
    log: Vec<(u64, Event)>,
    now: u64,
    /// What will be learned, and when, for which command.
    pending: Vec<(u64, Command, Input)>,
    crashes_left: u32,
    cancel_at: Option<u64>,
    /// Windows that will be changed, the next one last.
    changes: Allowed,
    permits: Vec<(usize, Permit)>,
    marks: BTreeSet<Marks>,
    broken: Vec<String>,
}

/// One in eight is a rehearsal; what else a seed draws does not depend on it.
fn rehearses(run: &str, seed: u64) -> bool {
    run == "run" && seed % 8 == 5
}

fn header(plan: &Plan, run: &str, seed: u64) -> Arc<RunHeader> {
    Arc::new(RunHeader {
        seed,
        rehearses: rehearses(run, seed),
        cells: (plan.steps.len() * plan.hosts.len()) as u64,
        ..RunHeader::new(RunId::from(run), plan.digest(), &plan.runbook.name)
    })
}

/// Runs the seed.
pub fn simulate(number: u64) -> Simulated {
    let mut seed = Seed::new(number);
    let mut plan = plans::plan(&mut seed);
    let mut changes = windows::draw(number, &mut plan);
    changes.reverse();
    let permits: Vec<_> = changes.pop().map(|(_, permit)| (0, permit)).into_iter().collect();
    let plan = Arc::new(plan);
    let faults = Faults {
        fail: seed.pick(&[0, 2, 10, 30]),
        lost: seed.pick(&[0, 0, 3, 10]),
        timeout: seed.pick(&[0, 0, 5]),
        unreachable: seed.pick(&[0, 0, 3, 15]),
        forgotten: seed.pick(&[0, 20, 60]),
    };
    let world = World::new(&plan, faults);
    let header = header(&plan, "run", number);
    let mut controller = Controller {
        run: Run::new(plan.clone(), header.clone())
            .permitted(&permits.first().map(|(_, permit)| permit.clone()).unwrap_or_default()),
        changes,
        permits,
        cancel_at: seed.percent(20).then(|| seed.below(120_000)),
        crashes_left: seed.pick(&[0, 0, 1, 3]),
        seed,
        plan: plan.clone(),
        header,
        world,
        log: Vec::new(),
        now: 0,
        pending: Vec::new(),
        marks: BTreeSet::new(),
        broken: Vec::new(),
    };
    let cancelling = controller.cancel_at.is_some();
    controller.feed(Input::Begin);
    controller.work();
    let mut operator = false;
    for _ in 0..2 {
        if matches!(controller.run.status(), Status::Suspended(_)) && controller.seed.percent(60) {
            operator = true;
            controller.operator();
            controller.work();
        }
    }
    let cancelled = cancelling && controller.log.iter().any(|(_, event)| matches!(event, Event::CancelAsked { .. }));
    let status = controller.run.status();
    let mut log = std::mem::take(&mut controller.log);
    let mut taken_back = None;
    if matches!(status, Status::Ended(_)) && controller.seed.percent(30) && plan.irreversible.is_none() {
        controller.take_back();
        taken_back = Some(std::mem::take(&mut controller.log));
    }
    log.shrink_to_fit();
    let doubled = controller.world.effects.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id.to_string());
    Simulated {
        seed: number,
        doubled: doubled.collect(),
        applied: controller.world.hosts.iter().map(|(name, host)| (name.clone(), host.applied.clone())).collect(),
        plan,
        log,
        status,
        taken_back,
        broken: controller.broken,
        marks: controller.marks,
        operator,
        cancelled,
        permits: controller.permits,
        rehearses: rehearses("run", number),
    }
}

impl Controller {
    /// Feeds an input, answers what is pure, commits (or is killed before that), and sets the world to work.
    fn feed(&mut self, input: Input) {
        let mut events = self.run.input(self.now, input);
        let mut delta = self.run.delta();
        while let Some(at) = delta.started.iter().position(|command| matches!(command, Command::Prepare { .. })) {
            let Command::Prepare { cell } = delta.started.remove(at) else { unreachable!("found by its kind") };
            let intent = Intent {
                command_sha256: Sha256::of(b"true"),
                template_sha256: Sha256::of(b"true"),
                variables: Vec::new(),
                account: None,
            };
            events.extend(self.run.input(self.now, Input::Prepared { cell, result: Prepared::Ready(intent) }));
            let more = self.run.delta();
            delta.started.retain(|command| !more.withdrawn.contains(command));
            delta.started.extend(more.started);
            delta.withdrawn.extend(more.withdrawn);
        }
        if self.crashes_left > 0 && self.seed.percent(4) {
            return self.crash();
        }
        for event in &events {
            self.mark(event);
        }
        self.log.extend(events.into_iter().map(|event| (self.now, event)));
        self.pending.retain(|(_, command, _)| {
            // An attempt that was started goes on in the world; its answer just does not matter any more.
            !delta.withdrawn.contains(command)
        });
        for command in delta.started {
            self.carry_out(command);
        }
        if self.crashes_left > 0 && self.seed.percent(2) {
            self.crash();
        }
    }

    /// SIGKILL: what was not committed is gone, what runs on hosts goes on.
    fn crash(&mut self) {
        self.crashes_left -= 1;
        self.marks.insert(Marks::Crashed);
        self.pending.clear();
        self.now += self.seed.below(60_000);
        let mut run = Run::new(self.plan.clone(), self.header.clone());
        for (_, event) in &self.log {
            run.replay(event);
        }
        run.delta();
        run = run.permitted(&self.permit());
        let in_rollback = self.log.iter().rev().find_map(|(_, event)| match event {
            Event::PhaseStarted { phase, .. } => Some(*phase == Phase::Rollback),
            _ => None,
        });
        if in_rollback == Some(true) {
            self.marks.insert(Marks::CrashedInRollback);
        }
        self.run = run;
        let resumed = self
            .run
            .input(self.now, Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
        for event in &resumed {
            self.mark(event);
            if matches!(event, Event::HostCutOff { .. }) {
                self.marks.insert(Marks::CutOffByAnotherController);
            }
        }
        self.log.extend(resumed.into_iter().map(|event| (self.now, event)));
        self.run.delta();
        for command in self.run.outstanding().clone() {
            match command {
                Command::Prepare { cell } => self.prepare_late(cell),
                other => self.carry_out(other),
            }
        }
    }

    /// After a crash the pure commands come back as ordinary pending ones.
    fn prepare_late(&mut self, cell: runbook_model::Cell) {
        let intent = Intent {
            command_sha256: Sha256::of(b"true"),
            template_sha256: Sha256::of(b"true"),
            variables: Vec::new(),
            account: None,
        };
        let input = Input::Prepared { cell: cell.clone(), result: Prepared::Ready(intent) };
        self.pending.push((self.now, Command::Prepare { cell }, input));
    }

    fn carry_out(&mut self, command: Command) {
        let mut after = 1 + self.seed.below(20_000);
        let answer = match &command {
            Command::Prepare { cell } => return self.prepare_late(cell.clone()),
            Command::Connect { host } if self.world.reachable(&mut self.seed) => {
                Input::Connected { host: host.clone(), facts: Facts::default(), identity: Box::default() }
            }
            Command::Connect { host } => Input::ConnectFailed { host: host.clone(), obstacle: World::obstacle() },
            Command::CloseSession { host } => Input::SessionClosed { host: host.clone(), closed: Box::default() },
            Command::CloseElsewhere => Input::ElsewhereClosed { closed: Vec::new() },
            Command::CheckUnless { cell } => {
                let done = match self.world.reachable(&mut self.seed) {
                    true => Ok(self.seed.percent(20)),
                    false => Err(World::obstacle()),
                };
                Input::UnlessChecked { cell: cell.clone(), done }
            }
            Command::Measure { host, subject } => {
                let reachable = self.world.reachable(&mut self.seed);
                let manifest = if reachable { Ok(Sha256::of(b"{}")) } else { Err(World::obstacle()) };
                let changes = matches!(subject, Subject::After { .. }).then(|| Sha256::of(b"[]"));
                Input::Measured { host: host.clone(), subject: subject.clone(), manifest, changes }
            }
            Command::StartAttempt { attempt } => {
                let durable = self.log.iter().any(
                    |(_, event)| matches!(event, Event::AttemptStarted { attempt: started, .. } if started == attempt),
                );
                if !durable {
                    self.broken.push(format!("{attempt} was started before its intent was durable"));
                }
                let step = self.plan.step(&attempt.step).expect("a step of the plan").clone();
                match self.world.attempt(&mut self.seed, &step, attempt) {
                    Seen::Ended(ended) => Self::ended(attempt, &step.role, ended),
                    Seen::Lost => Input::AttemptLost { attempt: attempt.clone(), reason: "the link broke".into() },
                }
            }
            Command::ProbeAttempt { attempt, .. } => {
                let step = self.plan.step(&attempt.step).expect("a step of the plan").clone();
                let ended = self.world.probe(&mut self.seed, &step, attempt);
                Self::ended(attempt, &step.role, ended)
            }
            Command::CancelAttempt { attempt } => {
                for (_, command, answer) in &mut self.pending {
                    let same = matches!(command, Command::StartAttempt { attempt: running } if running == attempt);
                    if same && let Input::AttemptEnded { report, .. } = answer {
                        report.ended = Ended::Killed { by: KilledBy::Cancel };
                    }
                }
                return;
            }
            Command::SetTimer { timer, at_ms } => {
                after = at_ms.saturating_sub(self.now);
                Input::TimerFired { timer: timer.clone() }
            }
        };
        self.pending.push((self.now + after, command, answer));
    }

    fn ended(attempt: &runbook_model::AttemptId, role: &Role, ended: Ended) -> Input {
        let report = AttemptReport {
            ended,
            started_ms: 0,
            ended_ms: 0,
            duration_ms: 0,
            stdout: OutputRef::empty(),
            stderr: OutputRef::empty(),
            last_line: matches!(role, Role::Take).then(|| "reference".into()),
            transfers: None,
            timing: None,
            undeclared: None,
        };
        Input::AttemptEnded { attempt: attempt.clone(), report: Box::new(report) }
    }

    /// Lets time pass until nothing is outstanding.
    fn work(&mut self) {
        for _ in 0..20_000 {
            if let Some(at) = self.cancel_at
                && self.pending.iter().all(|(due, ..)| *due >= at)
                && self.run.status() == Status::Running
            {
                self.cancel_at = None;
                self.now = self.now.max(at);
                self.feed(Input::CancelAsked { by: Person::default() });
                continue;
            }
            if self.run.status() != Status::Running {
                return;
            }
            if let Some((at, _)) = self.changes.last()
                && self.pending.iter().all(|(due, ..)| due >= at)
            {
                let (at, permit) = self.changes.pop().expect("just looked at");
                self.now = self.now.max(at);
                self.permits.push((self.log.len(), permit.clone()));
                let before = self.log.len();
                self.feed(Input::PermitChanged { permit: None, allowed: Box::new(permit), ahead_ms: 0 });
                if self.log[before..].iter().any(|(_, event)| matches!(event, Event::HostCutOff { .. })) {
                    self.marks.insert(Marks::CutOffByChangedWindows);
                }
                continue;
            }
            let next = self.pending.iter().enumerate().min_by_key(|(_, (due, ..))| *due).map(|(no, _)| no);
            let Some(next) = next else {
                self.broken.push("the run is not over, and nothing is outstanding".into());
                return;
            };
            let (due, _, input) = self.pending.remove(next);
            self.now = self.now.max(due);
            self.feed(input);
        }
        self.broken.push("the run does not come to an end".into());
    }

    /// An operator mends the world, settles what is unknown (mostly) and resumes.
    fn operator(&mut self) {
        self.world.faults = Faults::NONE;
        let unknown: Vec<_> = self
            .log
            .iter()
            .filter_map(|(_, event)| match event {
                Event::StepEnded { cell, outcome: AttemptOutcome::Unknown, .. } => Some(cell.clone()),
                _ => None,
            })
            .collect();
        for cell in unknown {
            if self.seed.percent(70) {
                let succeeded = self.world.hosts[&cell.host].applied.contains(&cell.step);
                let (host, step) = (cell.host, cell.step);
                let why = "looked at the host".to_owned();
                self.feed(Input::Resolved { host, step, succeeded, why, by: Person::default() });
            }
        }
        if matches!(self.run.status(), Status::Suspended(_)) {
            self.feed(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
        }
    }

    fn take_back(&mut self) {
        self.marks.insert(Marks::TakenBackLater);
        self.crashes_left = 0;
        self.cancel_at = None;
        self.changes.clear();
        self.pending.clear();
        self.world.faults = Faults::NONE;
        self.header = header(&self.plan, "back", 0);
        let fresh = Run::new(self.plan.clone(), self.header.clone());
        let finished = std::mem::replace(&mut self.run, fresh);
        self.run = Run::taking_back(self.header.clone(), finished);
        self.feed(Input::RollbackAsked { by: Person::default() });
        self.feed(Input::Begin);
        self.work();
    }

    fn permit(&self) -> Permit {
        self.permits.last().map(|(_, permit)| permit.clone()).unwrap_or_default()
    }

    fn mark(&mut self, event: &Event) {
        let mark = match event {
            Event::CancelAsked { .. } => {
                let executing = self
                    .log
                    .iter()
                    .any(|(_, event)| matches!(event, Event::AttemptStarted { phase: Phase::Execute, .. }));
                if executing {
                    self.marks.insert(Marks::CancelledInExecute);
                }
                Marks::Cancelled
            }
            Event::AttemptLost { .. } => Marks::LostAttempt,
            Event::StepEnded { outcome: AttemptOutcome::Unknown, .. } => Marks::UnknownOutcome,
            Event::StepEnded { done_on: Some(_), .. } => Marks::SharedOnce,
            Event::StepEnded { cell, .. } if cell.step.as_str().ends_with(".release") => Marks::Released,
            Event::RetryScheduled { .. } => Marks::Repeated,
            Event::HostEnded { outcome: runbook_model::HostOutcome::RolledBack, .. } => Marks::RolledBack,
            Event::HostEnded { outcome: runbook_model::HostOutcome::Stuck, .. } => Marks::Stuck,
            Event::HostEnded { outcome: runbook_model::HostOutcome::Failed, .. } => Marks::Halted,
            Event::BudgetSpent { .. } => Marks::BudgetSpent,
            Event::HostCutOff { .. } => Marks::CutOff,
            Event::PermitChanged { .. } => Marks::WindowsChanged,
            Event::HostEnded { outcome: runbook_model::HostOutcome::Blocked, reason, .. }
                if reason.starts_with("not begun: ") =>
            {
                Marks::BlockedByItsWindow
            }
            Event::HostEnded { outcome: runbook_model::HostOutcome::Blocked, reason, .. }
                if reason.starts_with("it was cut off") =>
            {
                Marks::CutOffBeforeItsChange
            }
            Event::StepResolved { .. } => Marks::Resolved,
            Event::HostReopened { .. } => Marks::Reopened,
            Event::PhaseStarted { phase: Phase::Rollback, reason: Some(reason), .. }
                if reason.starts_with("another host") =>
            {
                Marks::PeersTakenBack
            }
            _ => return,
        };
        self.marks.insert(mark);
    }
}
