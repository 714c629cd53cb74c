//! What can be done with runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use runbook_core::{Run, Status};
use runbook_model::evaluate::Evaluate;
use runbook_model::event::{ClockState, Controller, Person, Revision, RunHeader};
use runbook_model::monitoring::Mutes;
use runbook_model::permit::Permit;
use runbook_model::plan::Place;
use runbook_model::record::Record;
use runbook_model::retention::Periods;
use runbook_model::schedule::Occurrence;
use runbook_model::{Cell, Event, HostName, Input, Plan, RunId, RunOutcome, Sha256, StepId, canonical};
use runbook_policy::Granted;
use runbook_ports::store::{Fence, RunStatus, StoreError};
use runbook_ports::{Access, BlobStore, Clock, Confirmer, Observer, SecretSource, Signer, Store, Transport};
use tokio::sync::mpsc;

use crate::access::Accesses;
use crate::clock::SteadyClock;
use crate::history::Histories;
use crate::journal::{Group, Journal, Stamped, index};
use crate::leash::Leash;
use crate::leftovers::Leftovers;
use crate::memory::Memory;
use crate::monitoring::{self, Muting, Quiet};
use crate::prepare::{Desk, clipped};
use crate::secrets::Vault;
use crate::sessions::Sessions;
use crate::work::{End, Work};
use crate::world::World;
use crate::{Control, DriverError, Permits, permits};

/// Records are read in pages of so many.
const PAGE: usize = 1_000;

/// A plan of 10,000 hosts and 1,000 steps has a few tens of MiB.
const PLAN_BYTES_MAX: u64 = 1 << 30;

/// Bounds on what a run uses of this machine and of the network.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sessions open at once; idle ones are closed for others.
    pub connections_max: usize,
    /// Handshakes under way at once.
    pub handshakes_max: usize,
    /// An opening of a session may take so long.
    pub open: Duration,
    /// Bytes kept of an output stream, when less than the plan says.
    pub output_bytes_max: Option<u64>,
    /// After its sessions were closed, every host is asked what is left of them, over one more connection. Otherwise it is
    /// asked just before, and again only where that leaves a doubt.
    pub check_closed: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            handshakes_max: 16,
            open: Duration::from_secs(30),
            output_bytes_max: None,
            check_closed: false,
        }
    }
}

/// The driver with its ports.
#[derive(Clone)]
pub struct Engine {
    /// The log.
    pub store: Arc<dyn Store>,
    /// Contents.
    pub blobs: Arc<dyn BlobStore>,
    /// By the name that an inventory's `transport:` has.
    pub transports: BTreeMap<String, Arc<dyn Transport>>,
    /// The language.
    pub evaluate: Arc<dyn Evaluate>,
    /// The ledger's key.
    pub signer: Arc<dyn Signer>,
    /// The ledger's name: the origin of its signed heads.
    pub origin: String,
    /// Where secrets come from.
    pub secrets: Arc<dyn SecretSource>,
    /// Who is asked by `confirm` steps.
    pub confirmer: Arc<dyn Confirmer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Who looks on.
    pub observer: Arc<dyn Observer>,
    /// Bounds.
    pub limits: Limits,
    /// What goes on record when this program takes a run up; `None`: it does not say.
    pub controller: Option<Controller>,
    /// Tells the state of this machine's clock, for the end of a run; it may block for a moment.
    pub clock_state: Option<fn() -> ClockState>,
    /// What is allowed while the run goes on; `None`: what it was granted, to its end.
    pub permits: Option<Arc<dyn Permits>>,
    /// Gives access to hosts, for plans that ask for it.
    pub access: Option<Arc<dyn Access>>,
    /// Who is muted while a run works on its hosts. A run that only looks mutes nobody.
    pub monitors: Vec<Muting>,
}

/// Who, when, why: what the caller knows of a run that is to be opened.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// Its id, a new UUID version 7.
    pub run: RunId,
    /// Who asks for it.
    pub operator: Person,
    /// The change ticket.
    pub ticket: Option<String>,
    /// Only the prechecks.
    pub check_only: bool,
    /// Seed of all that is drawn at random.
    pub seed: u64,
    /// Version of the program.
    pub engine_version: String,
    /// Digest of its executable.
    pub engine_sha256: Sha256,
    /// This machine's name.
    pub controller: String,
    /// This machine's boot id.
    pub controller_boot_id: String,
    /// State of this machine's clock.
    pub clock: ClockState,
    /// Digest of the inventory's file.
    pub inventory_sha256: Option<Sha256>,
    /// What the inventory was read from; the caller has put the bytes into the store.
    pub inventory_sources: Vec<runbook_model::origin::Origin>,
    /// How long evidence is kept.
    pub retention: Option<Periods>,
    /// Where the runbook's file stands under version control.
    pub revision: Option<Revision>,
    /// Digest of the project's settings.
    pub settings_sha256: Option<Sha256>,
    /// The occurrence of a schedule that it is the run of.
    pub occurrence: Option<Occurrence>,
    /// The folder that the paths in `Plan::files` are relative to.
    pub files: PathBuf,
    /// Wait while another run holds a host, instead of refusing.
    pub wait: bool,
    /// What was decided about it.
    pub granted: Granted,
}

/// How a run stands when the driver leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It has ended.
    Ended(RunOutcome),
    /// It waits for an operator; `resume` goes on.
    Suspended(RunOutcome),
    /// The operator has left it; `resume` goes on.
    Detached,
}

/// What came of working on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// The run.
    pub run: RunId,
    /// How it stands.
    pub state: RunState,
}

impl RunResult {
    /// As it ended, or as things stand; unknown when it was left.
    pub fn outcome(&self) -> RunOutcome {
        match self.state {
            RunState::Ended(outcome) | RunState::Suspended(outcome) => outcome,
            RunState::Detached => RunOutcome::Unknown,
        }
    }

    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        self.outcome().exit_code()
    }

    /// It waits to be resumed.
    pub fn suspended(&self) -> bool {
        !matches!(self.state, RunState::Ended(_))
    }
}

/// A run's frozen plan and its opening.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The plan, checked against its digest.
    pub plan: Arc<Plan>,
    /// The opening.
    pub header: Arc<RunHeader>,
}

/// A run as its log tells it.
pub(crate) struct Told {
    pub(crate) plan: Arc<Plan>,
    pub(crate) header: Arc<RunHeader>,
    pub(crate) run: Run,
    pub(crate) memory: Memory,
    pub(crate) leftovers: Leftovers,
    pub(crate) run_seq: u64,
    pub(crate) begun: bool,
    /// The latest time by which an earlier controller of the run decided (Unix ms).
    pub(crate) decided_ms: u64,
    pub(crate) mutes: Mutes,
}

impl Engine {
    /// Opens a run of `plan` and works on it until it has ended, waits for an operator, or is left.
    ///
    /// # Errors
    /// Before anything was done: a file, a transport, a lease. Later only `Evidence` and `TakenOver`.
    pub async fn apply(&self, plan: Plan, request: RunRequest, control: &Control) -> Result<RunResult, DriverError> {
        self.check_parts(&plan)?;
        self.keep_files(&plan, &request).await?;
        let plan = Arc::new(plan);
        let plan_sha256 = self.keep_plan(&plan, &request.run).await?;
        let fence = self.lease(&request.run, &request.operator, &plan, request.wait.then_some(control)).await?;
        // Only now: while the hosts were waited for, the windows may have changed, and another run of the same plan may have
        // begun and ended.
        let opened = async {
            let (allowed, permit) = self.in_force(&request.granted).await?;
            let header = Arc::new(self.header(&plan, plan_sha256, permit, &request, None));
            self.approvals_hold(&header).await?;
            if !header.check_only {
                self.could_mute().await?;
            }
            Ok((allowed, header))
        };
        let (allowed, header) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                self.release_lease(&request.run, fence).await;
                return Err(error);
            }
        };
        let run = Run::new(Arc::clone(&plan), Arc::clone(&header));
        let memory = Memory::new(&plan);
        let leftovers = Leftovers::of(&plan);
        let told = Told {
            plan,
            header: Arc::clone(&header),
            run,
            memory,
            leftovers,
            run_seq: 0,
            begun: false,
            decided_ms: 0,
            mutes: Mutes::default(),
        };
        let mut work = self.work(told, fence, &allowed, control).await?;
        work.opening(Some(Event::RunOpened(Box::new((*header).clone()))));
        work.first(Input::Begin);
        self.drive(work).await
    }

    /// Goes on with a run that a dead or departed controller left, or that waits for an operator, with the same plan.
    ///
    /// # Errors
    /// `Ended` when there is nothing to go on with; `Held` when its controller is alive.
    pub async fn resume(
        &self,
        run: &RunId,
        by: Person,
        granted: &Granted,
        control: &Control,
    ) -> Result<RunResult, DriverError> {
        self.take_up(run, by, granted, control, false).await
    }

    /// The same, but waits while the run, or a host of it, is held.
    ///
    /// # Errors
    /// `Ended` when there is nothing to go on with; `NotWaited` when somebody had it stop waiting.
    pub async fn resume_when_free(
        &self,
        run: &RunId,
        by: Person,
        granted: &Granted,
        control: &Control,
    ) -> Result<RunResult, DriverError> {
        self.take_up(run, by, granted, control, true).await
    }

    async fn take_up(
        &self,
        run: &RunId,
        by: Person,
        granted: &Granted,
        control: &Control,
        wait: bool,
    ) -> Result<RunResult, DriverError> {
        let loaded = self.load(run).await?;
        self.check_parts(&loaded.plan)?;
        let fence = self.lease(run, &by, &loaded.plan, wait.then_some(control)).await?;
        let (allowed, permit) = match self.in_force(granted).await {
            Ok(in_force) => in_force,
            Err(error) => {
                self.release_lease(run, fence).await;
                return Err(error);
            }
        };
        // Told only now: until the lease was ours, another process may have appended.
        let mut told = self.told(&loaded).await?;
        if let Status::Ended(outcome) = told.run.status() {
            self.release_lease(run, fence).await;
            return Err(DriverError::Ended { run: run.clone(), outcome: outcome.name() });
        }
        let begun = told.begun;
        let asked = told.header.takes_back.is_some().then(|| told.header.operator.clone());
        let cancel = control.cancel_asked();
        let leftovers = std::mem::take(&mut told.leftovers);
        let mut work = self.work(told, fence, &allowed, control).await?;
        work.opening(None);
        work.left_before(leftovers);
        // First of all, so that nothing is begun again only to be ended.
        if let Some(by) = cancel {
            work.first(Input::CancelAsked { by });
        }
        match (begun, asked) {
            (true, _) => {
                let break_glass = granted.break_glass().map(str::to_owned);
                let on = self.controller.clone().map(Box::new);
                work.first(Input::Resume { by, permit, break_glass, on });
            }
            (false, None) => work.first(Input::Begin),
            (false, Some(by)) => {
                work.first(Input::RollbackAsked { by });
                work.first(Input::Begin);
            }
        }
        self.drive(work).await
    }

    /// Takes a finished run back, by a new run.
    ///
    /// # Errors
    /// `NotEnded` while it still runs; `WayBackGone` when a snapshot that it needs was released.
    pub async fn roll_back(
        &self,
        finished: &RunId,
        request: RunRequest,
        control: &Control,
    ) -> Result<RunResult, DriverError> {
        let loaded = self.load(finished).await?;
        self.check_parts(&loaded.plan)?;
        let fence = self.lease(&request.run, &request.operator, &loaded.plan, request.wait.then_some(control)).await?;
        let opened = async {
            let told = self.told(&loaded).await?;
            if told.run.status() == Status::Running {
                return Err(DriverError::NotEnded(finished.clone()));
            }
            let gone = told.run.released_snapshots();
            if !gone.is_empty() {
                let gone =
                    gone.iter().map(|cell| format!("snapshot {} on {} was released", cell.step, cell.host)).collect();
                return Err(DriverError::WayBackGone { run: finished.clone(), gone });
            }
            let (allowed, permit) = self.in_force(&request.granted).await?;
            Ok((told, allowed, permit))
        };
        let (told, allowed, permit) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                self.release_lease(&request.run, fence).await;
                return Err(error);
            }
        };
        let plan_sha256 = loaded.header.plan_sha256;
        let header = Arc::new(self.header(&loaded.plan, plan_sha256, permit, &request, Some(finished.clone())));
        if let Err(error) = self.approvals_hold(&header).await {
            self.release_lease(&request.run, fence).await;
            return Err(error);
        }
        let run = Run::taking_back(Arc::clone(&header), told.run);
        let mutes = Mutes::default();
        let told = Told { header: Arc::clone(&header), run, run_seq: 0, begun: false, decided_ms: 0, mutes, ..told };
        let by = request.operator.clone();
        let mut work = self.work(told, fence, &allowed, control).await?;
        work.opening(Some(Event::RunOpened(Box::new((*header).clone()))));
        work.first(Input::RollbackAsked { by });
        work.first(Input::Begin);
        self.drive(work).await
    }

    /// Settles an unknown outcome, on the record. The run is then resumed by `resume`.
    ///
    /// # Errors
    /// `NothingToResolve` when the cell's outcome is known; `Held` while the run is being worked on.
    pub async fn resolve(
        &self,
        run: &RunId,
        host: HostName,
        step: StepId,
        succeeded: bool,
        why: String,
        by: Person,
    ) -> Result<(), DriverError> {
        let loaded = self.load(run).await?;
        let name = by.name.clone();
        let fence = self.lease_hosts(run, &name, &[], None).await?;
        let result = async {
            let mut told = self.told(&loaded).await?;
            let now_ms = self.clock.now_ms();
            let input = Input::Resolved { host: host.clone(), step: step.clone(), succeeded, why: clipped(why), by };
            let events = told.run.input(now_ms, input);
            if events.is_empty() {
                return Err(DriverError::NothingToResolve { run: run.clone(), host, step });
            }
            let (status, outcome, ended_ms) = match told.run.status() {
                Status::Running => (RunStatus::Suspended, None, None),
                Status::Suspended(outcome) => (RunStatus::Suspended, Some(outcome), None),
                Status::Ended(outcome) => (RunStatus::Ended, Some(outcome), Some(now_ms)),
            };
            let mut journal = self.journal(run, fence, told.run_seq).await?;
            let mono_ms = self.clock.mono_ms();
            let group = Group {
                events: events.into_iter().map(|event| Stamped { now_ms, mono_ms, event }).collect(),
                index: Some(index(&told.header, status, outcome, ended_ms)),
                sign: true,
                ..Group::default()
            };
            for record in journal.append(group).await? {
                self.observer.committed(&record);
            }
            Ok(())
        };
        let result = result.await;
        self.release_lease(run, fence).await;
        result
    }

    /// Runs the `release` of snapshots that a run took and that still exist; all of them when `cells` is `None`. Says
    /// which were released.
    ///
    /// # Errors
    /// `NotReleased` when some could not be; the others are released and on record.
    pub async fn release_snapshots(
        &self,
        run: &RunId,
        cells: Option<&[Cell]>,
        by: Person,
    ) -> Result<Vec<Cell>, DriverError> {
        crate::release::release(self, run, cells, by).await
    }

    /// A run's frozen plan and its opening, for views; [`Engine::records`] has the rest.
    ///
    /// # Errors
    /// `UnknownRun`, or `Unreadable` when the record or the plan is not what was written.
    pub async fn load(&self, run: &RunId) -> Result<Loaded, DriverError> {
        let first = self.records(run, 0, 1).await?.into_iter().next();
        let Some(Event::RunOpened(header)) = first.map(|record| record.event) else {
            return Err(DriverError::UnknownRun(run.clone()));
        };
        let unreadable = |cause: String| DriverError::Unreadable { what: format!("the plan of run {run}"), cause };
        let bytes = self.blobs.get(&header.plan_sha256, PLAN_BYTES_MAX).await.map_err(|e| unreadable(e.to_string()))?;
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        Ok(Loaded { plan: Arc::new(plan), header: Arc::new(*header) })
    }

    /// A run's records from place `from` on, at most `limit`.
    ///
    /// # Errors
    /// When the store fails or a record does not read.
    pub async fn records(&self, run: &RunId, from: u64, limit: usize) -> Result<Vec<Record>, DriverError> {
        let unreadable = |cause: String| DriverError::Unreadable { what: format!("the record of run {run}"), cause };
        let sealed = self.store.records(run, from, limit).await.map_err(|error| unreadable(error.to_string()))?;
        sealed
            .iter()
            .map(|sealed| runbook_ledger::record::parse(&sealed.bytes).map_err(|error| unreadable(error.to_string())))
            .collect()
    }

    /// The run folded from its log.
    pub(crate) async fn told(&self, loaded: &Loaded) -> Result<Told, DriverError> {
        let header = &loaded.header;
        let mut memory = Memory::new(&loaded.plan);
        let mut run = match &header.takes_back {
            None => Run::new(Arc::clone(&loaded.plan), Arc::clone(header)),
            Some(finished) => {
                let opened = self.load(finished).await?.header;
                let mut earlier = Run::new(Arc::clone(&loaded.plan), opened);
                let (leftovers, mutes) = (&mut Leftovers::of(&loaded.plan), &mut Mutes::default());
                self.replay(finished, &mut earlier, &mut memory, leftovers, mutes).await?;
                Run::taking_back(Arc::clone(header), earlier)
            }
        };
        let (mut leftovers, mut mutes) = (Leftovers::of(&loaded.plan), Mutes::default());
        let (run_seq, begun, decided_ms) =
            self.replay(&header.run, &mut run, &mut memory, &mut leftovers, &mut mutes).await?;
        let (plan, header) = (Arc::clone(&loaded.plan), Arc::clone(header));
        Ok(Told { plan, header, run, memory, leftovers, run_seq, begun, decided_ms, mutes })
    }

    async fn replay(
        &self,
        id: &RunId,
        run: &mut Run,
        memory: &mut Memory,
        leftovers: &mut Leftovers,
        mutes: &mut Mutes,
    ) -> Result<(u64, bool, u64), DriverError> {
        let (mut run_seq, mut begun, mut decided_ms) = (0, false, 0);
        loop {
            let page = self.records(id, run_seq, PAGE).await?;
            if page.is_empty() {
                return Ok((run_seq, begun, decided_ms));
            }
            for record in page {
                if record.run_seq != run_seq {
                    let what = format!("record {run_seq} of run {id}");
                    return Err(DriverError::Unreadable { what, cause: "it is missing".into() });
                }
                run_seq += 1;
                begun |= record.event == Event::RunStarted;
                run.replay(&record.event);
                let time_ms = self.time_ms(&record);
                let ended_ms = match &record.event {
                    Event::AttemptEnded { report, .. } => report.ended_ms,
                    _ => 0,
                };
                decided_ms = decided_ms.max(time_ms).max(ended_ms);
                memory.observe(&record.event, time_ms);
                leftovers.observe(&record.event, time_ms);
                mutes.observe(&record.event);
                memory.refill(&record.event, &*self.blobs).await.map_err(|error| DriverError::Unreadable {
                    what: format!("an output of run {id}"),
                    cause: error.to_string(),
                })?;
            }
        }
    }

    /// A record's time in Unix milliseconds. One that does not read counts as now, so that no attempt seems to have run
    /// for longer than it did.
    fn time_ms(&self, record: &Record) -> u64 {
        crate::journal::unix_ms(&record.time).unwrap_or_else(|| self.clock.now_ms())
    }

    async fn work(&self, told: Told, fence: Fence, allowed: &Permit, control: &Control) -> Result<Work, DriverError> {
        let (world, messages) = self.world(Arc::clone(&told.plan), &told.header, fence, told.decided_ms);
        // Before anything more is printed: an earlier process resolved them, and what it masked is to be masked still.
        for name in told.memory.secrets_used() {
            if let Err(obstacle) = world.vault.resolve(&told.plan, name).await {
                let run = told.header.run.clone();
                self.release_lease(&run, fence).await;
                return Err(DriverError::Secret { run, cause: obstacle.message });
            }
        }
        let journal = self.journal(&told.header.run, fence, told.run_seq).await?;
        control.attach(world.answers.clone());
        let desk = Desk::new(told.plan, Arc::clone(&self.evaluate), &told.header);
        world.access.permitted(allowed);
        let allowed = permits::Told::new(allowed, world.ahead_ms());
        let run = told.run.permitted(allowed.permit()).clock_ahead(allowed.ahead_ms());
        let systems = if told.header.check_only { Vec::new() } else { self.monitors.clone() };
        let may_refuse = !told.begun && told.header.takes_back.is_none();
        let closes_ms = monitoring::closes_ms(allowed.permit(), world.plan.hosts.len(), self.clock.now_ms());
        let quiet = Quiet::of(systems, told.mutes, may_refuse, closes_ms);
        Ok(Work::new(run, told.header, desk, told.memory, world, messages, journal, allowed, quiet))
    }

    pub(crate) fn world(
        &self,
        plan: Arc<Plan>,
        header: &RunHeader,
        fence: Fence,
        decided_ms: u64,
    ) -> (Arc<World>, mpsc::UnboundedReceiver<crate::world::Message>) {
        let (answers, messages) = mpsc::unbounded_channel();
        let limits = self.limits;
        let access = Accesses::new(
            self.access.clone(),
            header.run.clone(),
            Arc::clone(&plan),
            header.plan_sha256,
            Arc::clone(&self.clock),
            answers.clone(),
        );
        let world = World {
            run: header.run.clone(),
            plan,
            blobs: Arc::clone(&self.blobs),
            vault: Vault::new(Arc::clone(&self.secrets)),
            confirmer: Arc::clone(&self.confirmer),
            clock: Arc::new(SteadyClock::new(Arc::clone(&self.clock), decided_ms)),
            wall: Arc::clone(&self.clock),
            clock_state: self.clock_state,
            permits: self.permits.clone(),
            observer: Arc::clone(&self.observer),
            signer: Arc::clone(&self.signer),
            sessions: Sessions::new(
                self.transports.clone(),
                limits.connections_max,
                limits.handshakes_max,
                limits.open,
                Histories::new(Arc::clone(&self.clock)),
                Arc::clone(&access),
            ),
            access,
            limits,
            seed: header.seed,
            leash: Leash::new(Arc::clone(&self.store), Arc::clone(&self.clock), header.run.clone(), fence),
            answers,
            parked: Mutex::default(),
            output_secret: OnceLock::new(),
            known: Mutex::default(),
        };
        (Arc::new(world), messages)
    }

    pub(crate) async fn journal(&self, run: &RunId, fence: Fence, run_seq: u64) -> Result<Journal, DriverError> {
        let (store, signer, clock) = (Arc::clone(&self.store), Arc::clone(&self.signer), Arc::clone(&self.clock));
        Journal::open(store, signer, clock, &self.origin, run.clone(), fence, run_seq).await
    }

    async fn drive(&self, work: Work) -> Result<RunResult, DriverError> {
        let run = work.header.run.clone();
        let state = match work.drive().await? {
            End::NotMuted(why) => return Err(DriverError::NotMuted { run: Some(run), why }),
            End::Ended(outcome) => RunState::Ended(outcome),
            End::Suspended(outcome) => RunState::Suspended(outcome),
            End::Detached => RunState::Detached,
        };
        Ok(RunResult { run, state })
    }

    async fn lease(&self, run: &RunId, by: &Person, plan: &Plan, wait: Option<&Control>) -> Result<Fence, DriverError> {
        let hosts: Vec<HostName> = plan.hosts.keys().cloned().collect();
        self.lease_hosts(run, &by.name, &hosts, wait).await
    }

    pub(crate) async fn lease_hosts(
        &self,
        run: &RunId,
        operator: &str,
        hosts: &[HostName],
        wait: Option<&Control>,
    ) -> Result<Fence, DriverError> {
        let mut told = None;
        loop {
            match (self.store.lease(run, operator, hosts, self.clock.now_ms()).await, wait) {
                (Ok(fence), _) => return Ok(fence),
                (Err(StoreError::Held { what, by }), Some(control)) => {
                    let holder = (by.run.clone(), by.since_ms);
                    if told.as_ref() != Some(&holder) {
                        self.observer.held(&what, &by);
                        told = Some(holder);
                    }
                    tokio::select! {
                        biased;
                        () = control.asked() => return Err(DriverError::NotWaited { what, by: Box::new(by) }),
                        () = self.store.until_released(&by) => {}
                    }
                }
                (Err(error), _) => return Err(DriverError::from_store(error, None)),
            }
        }
    }

    pub(crate) async fn release_lease(&self, run: &RunId, fence: Fence) {
        if let Err(error) = self.store.release(run, fence).await {
            tracing::debug!(%run, %error, "the lease was not given up");
        }
    }

    fn header(
        &self,
        plan: &Plan,
        plan_sha256: Sha256,
        permit: Option<Sha256>,
        request: &RunRequest,
        takes_back: Option<RunId>,
    ) -> RunHeader {
        RunHeader {
            run: request.run.clone(),
            plan_sha256,
            runbook: plan.runbook.name.clone(),
            operator: request.operator.clone(),
            ticket: request.ticket.clone(),
            check_only: request.check_only,
            takes_back,
            started_ms: self.clock.now_ms(),
            seed: request.seed,
            cells: plan.steps.len() as u64 * plan.hosts.len() as u64,
            engine_version: request.engine_version.clone(),
            engine_sha256: request.engine_sha256,
            controller: request.controller.clone(),
            controller_boot_id: request.controller_boot_id.clone(),
            clock: request.clock.clone(),
            policy: request.granted.policy(),
            people: request.granted.people(),
            approvals: request.granted.approvals().to_vec(),
            permit,
            break_glass: request.granted.break_glass().map(str::to_owned),
            reason: request.granted.reason().map(str::to_owned),
            reviews: request.granted.reviews().to_vec(),
            clock_max_offset_ms: request.granted.clock_max_offset_ms(),
            inventory_sha256: request.inventory_sha256,
            inventory_sources: request.inventory_sources.clone(),
            retention: request.retention.map(|periods| periods.promise(plan, request.granted.retention())),
            revision: request.revision.clone(),
            settings_sha256: request.settings_sha256,
            occurrence: request.occurrence.clone(),
            rehearses: request.granted.rehearses(),
            rehearsed: request.granted.rehearsed().cloned(),
            change: request.granted.change().cloned().map(Box::new),
        }
    }

    /// This program has all that the plan needs.
    pub(crate) fn check_parts(&self, plan: &Plan) -> Result<(), DriverError> {
        if plan.access.is_some() && self.access.is_none() {
            return Err(DriverError::NoAccess);
        }
        let controller = crate::world::controller();
        let places = plan.steps.iter().filter_map(|step| match &step.on {
            Place::Host => None,
            Place::Controller => Some(&controller),
            Place::Named(host) => Some(&**host),
        });
        for host in plan.hosts.values().chain(places) {
            if !self.transports.contains_key(&host.transport) {
                return Err(DriverError::UnknownTransport {
                    host: host.name.clone(),
                    transport: host.transport.clone(),
                });
            }
        }
        Ok(())
    }

    /// Puts the files that the plan sends into the store. One that is not there any more may be there already.
    async fn keep_files(&self, plan: &Plan, request: &RunRequest) -> Result<(), DriverError> {
        for (expected, file) in &plan.files {
            let path = request.files.join(&file.path);
            let missing = |cause: String| DriverError::FileMissing { path: path.display().to_string(), cause };
            match tokio::fs::metadata(&path).await {
                Ok(_) => {
                    let (found, _) = self.blobs.put_file(&path).await.map_err(|error| missing(error.to_string()))?;
                    if found != *expected {
                        let (path, expected) = (path.display().to_string(), *expected);
                        return Err(DriverError::FileChanged { path, expected, found });
                    }
                }
                Err(error) => match self.blobs.has(expected).await {
                    Ok(true) => {}
                    _ => return Err(missing(error.to_string())),
                },
            }
        }
        Ok(())
    }

    /// What is allowed by now, with the digest of its blob (`None` when it restricts nothing).
    async fn in_force(&self, granted: &Granted) -> Result<(Permit, Option<Sha256>), DriverError> {
        let changed = match &self.permits {
            Some(permits) => permits.changed().await,
            None => None,
        };
        let permit = changed.as_ref().unwrap_or(granted).permit().clone();
        let Some((_, bytes)) = permits::blob(&permit) else { return Ok((permit, None)) };
        let kept = self.blobs.put(&bytes).await.map_err(|error| DriverError::from_store(error, None))?;
        Ok((permit, Some(kept)))
    }

    /// The approvals of the run to be opened still count, and no run has begun with one of them but the one that it takes
    /// back.
    async fn approvals_hold(&self, header: &RunHeader) -> Result<(), DriverError> {
        if let Some(over) = header.approvals.iter().find(|approval| approval.valid_until_ms <= header.started_ms) {
            return Err(DriverError::ApprovalOver { signer: over.signer.clone() });
        }
        // A way back is part of what was approved; it may be tried again.
        if header.approvals.is_empty() || header.takes_back.is_some() {
            return Ok(());
        }
        let runs = self.store.runs().await.map_err(|error| DriverError::from_store(error, None))?;
        for index in runs {
            for used in &index.header.approvals {
                if header.approvals.iter().any(|approval| approval.nonce == used.nonce) {
                    let signer = used.signer.clone();
                    return Err(DriverError::ApprovalUsed { run: index.header.run, signer });
                }
            }
        }
        Ok(())
    }

    async fn keep_plan(&self, plan: &Plan, run: &RunId) -> Result<Sha256, DriverError> {
        let bytes = canonical::bytes(plan);
        let kept = self.blobs.put(&bytes).await.map_err(|error| DriverError::from_store(error, None))?;
        debug_assert_eq!(kept, plan.digest(), "run {run}: a plan's blob has the plan's digest");
        Ok(kept)
    }
}
