//! Controllers one after the other, and an operator, until nothing more is to be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_core::Status;
use runbook_driver::{Control, DriverError, Engine, Limits, RunRequest, RunResult, RunState};
use runbook_ledger::{FileKey, Verifier};
use runbook_model::event::{ClockState, Person};
use runbook_model::outcome::{AttemptOutcome, Obstacle, ObstacleKind};
use runbook_model::plan::SecretRef;
use runbook_model::record::Record;
use runbook_model::{Event, HostName, RunId, Sha256, StepId};
use runbook_ports::person::Answer;
use runbook_ports::{BlobStore as _, Confirmer, Observer, SecretBytes, SecretSource, Signer, Store};
use runbook_testkit::memory_store::MemoryStore;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::controller::Simulated;
use crate::full::clock::SetClock;
use crate::full::disk::{Disk, Fate, SimStore};
use crate::full::evaluate::Verbatim;
use crate::full::host_world::{Begun, World};
use crate::full::hosts::{Hosts, SimTransport};
use crate::full::scenario::{Deed, Fault, Scenario};
use crate::full::truth::{Wonder, wonders};

const RUN: &str = "019aab00-0000-7000-8000-000000000001";
const RUN_BACK: &str = "019aab00-0000-7000-8000-000000000002";

/// A controller that was thought dead is succeeded after this.
const MISSED_AFTER: Duration = Duration::from_secs(1);

/// No scenario needs longer than this in simulated time.
const LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// More controllers than a scenario has faults mean that it does not come to an end.
const CONTROLLERS_MAX: u32 = 60;

/// What came of a scenario.
pub struct Lived {
    /// What the laws of every simulated run look at.
    pub simulated: Simulated,
    /// Appends that were asked for.
    pub appends: u64,
    /// Rare situations that were reached.
    pub wonders: std::collections::BTreeSet<Wonder>,
    pub(crate) begun: Vec<Begun>,
    /// What is kept of standard outputs, by their blob.
    pub(crate) outputs: BTreeMap<Sha256, Vec<u8>>,
}

impl Lived {
    /// How often each step had its effect on each host, as far as it runs under a claim.
    pub fn effects(&self) -> BTreeMap<(HostName, StepId), u32> {
        let mut effects = BTreeMap::new();
        for begun in self.begun.iter().filter(|begun| begun.attempt.is_some()) {
            *effects.entry((begun.host.clone(), begun.step.clone())).or_default() += begun.effects;
        }
        effects
    }
}

/// Lives a scenario through.
pub fn live(scenario: &Scenario) -> Lived {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without threads can always be made").block_on(async {
        let life = Life::new(scenario);
        let (hosts, disk, store) = (life.hosts.clone(), life.disk.clone(), life.store.clone());
        let over = tokio::time::timeout(LIMIT, life.live()).await;
        let told =
            over.unwrap_or_else(|_| Told { operator: false, back: false, broken: vec!["it stands still".into()] });
        gather(scenario, &hosts, &disk, &store, told).await
    })
}

struct Life<'a> {
    scenario: &'a Scenario,
    hosts: Hosts,
    disk: Disk,
    clock: SetClock,
    store: MemoryStore,
    start: Instant,
    process: u32,
    deeds: VecDeque<Deed>,
    crashes_at: BTreeMap<u64, u64>,
    cancel_at: Option<u64>,
    told: Told,
}

struct Told {
    operator: bool,
    back: bool,
    broken: Vec<String>,
}

/// A controller at work: what came of it, and whether the run was still its own then.
type Controller = JoinHandle<(Result<RunResult, DriverError>, bool)>;

/// How a controller's time ended.
enum Turn {
    /// It came back by itself.
    Back(Result<RunResult, DriverError>),
    /// It is dead.
    Dead(Duration),
    /// It is thought dead.
    Stalled,
}

fn ada() -> Person {
    Person { name: "ada".into(), uid: 1000, from: None }
}

impl<'a> Life<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut life = Self {
            scenario,
            hosts: Hosts::new(World::new(scenario)),
            disk: Disk::new(scenario),
            clock: SetClock::new(scenario),
            store: MemoryStore::new(),
            start: Instant::now(),
            process: 1,
            deeds: VecDeque::new(),
            crashes_at: BTreeMap::new(),
            cancel_at: None,
            told: Told { operator: false, back: false, broken: Vec::new() },
        };
        for fault in &scenario.faults {
            match fault {
                Fault::Operator(deed) => life.deeds.push_back(*deed),
                Fault::CrashAt { at_ms, down_ms } => {
                    life.crashes_at.insert(*at_ms, *down_ms);
                }
                Fault::Cancel { at_ms } => life.cancel_at = Some(*at_ms),
                _ => {}
            }
        }
        life
    }

    async fn live(mut self) -> Told {
        let mut sleepers: Vec<Controller> = Vec::new();
        let mut run = RUN;
        let mut deed = None;
        loop {
            if self.process > CONTROLLERS_MAX {
                self.told.broken.push("there is no end of controllers".into());
                break;
            }
            let (turn, task) = self.turn(run, deed.take()).await;
            match turn {
                Turn::Dead(down) => {
                    self.store.kill();
                    sleep(down).await;
                }
                Turn::Stalled => {
                    sleepers.extend(task);
                    self.store.kill();
                    self.hosts.world().wonders.insert(Wonder::TakenOver);
                    sleep(MISSED_AFTER).await;
                }
                Turn::Back(Ok(RunResult { state: RunState::Suspended(_), .. })) => {
                    deed = self.deeds.pop_front();
                    if deed.is_none() {
                        break;
                    }
                    self.told.operator = true;
                }
                Turn::Back(Ok(RunResult { state: RunState::Ended(_), .. }) | Err(DriverError::Ended { .. })) => {
                    if run == RUN_BACK || !self.scenario.faults.contains(&Fault::TakeBack) {
                        break;
                    }
                    self.told.back = true;
                    run = RUN_BACK;
                }
                Turn::Back(Err(error)) if self.disk_failed(&error) => {
                    if let Some(until) = self.disk.broken_until() {
                        sleep_until(until).await;
                    }
                    self.store.kill();
                }
                Turn::Back(other) => {
                    self.told.broken.push(format!("controller {}: {other:?}", self.process));
                    break;
                }
            }
            self.process += 1;
            self.store = self.store.another_process();
            // Going on with a run that waits for an operator is the operator's doing, whoever died meanwhile.
            if deed.is_none() && matches!(status(&log(&self.store, run).await), Status::Suspended(_)) {
                deed = self.deeds.pop_front();
                if deed.is_none() {
                    break;
                }
                self.told.operator = true;
            }
        }
        for sleeper in sleepers {
            match sleeper.await {
                Ok((Err(DriverError::TakenOver(_)), false)) => {
                    self.hosts.world().wonders.insert(Wonder::WokenRefused);
                }
                Ok((Err(error), _)) if self.disk_failed(&error) => {}
                // Whoever was to succeed it died before that.
                Ok((Ok(_), true)) => {}
                other => self.told.broken.push(format!("a controller that had lost its run woke up: {other:?}")),
            }
        }
        self.told
    }

    /// The record could not be written, and that is said so, and the disk is why.
    fn disk_failed(&self, error: &DriverError) -> bool {
        let disk = matches!(error, DriverError::Evidence { cause, .. } if cause.contains("simulated disk"));
        if disk {
            self.hosts.world().wonders.insert(Wonder::StoppedByDisk);
        }
        disk && error.exit_code() == 9
    }

    /// One controller's time.
    async fn turn(&mut self, run: &'static str, deed: Option<Deed>) -> (Turn, Option<Controller>) {
        let (engine, store) = self.engine();
        let control = Control::new();
        if deed == Some(Deed::Cancel) {
            control.cancel(ada());
        }
        let (hosts, later) = (self.hosts.clone(), self.process > 1);
        let (plan, cancel) = (self.scenario.plan.clone(), control.clone());
        let work = async move {
            if deed == Some(Deed::Resolve) {
                resolve(&engine, &hosts, run).await?;
            }
            match engine.load(&run.into()).await {
                Ok(_) => engine.resume(&run.into(), ada(), &runbook_testkit::unrestricted(), &control).await,
                Err(DriverError::UnknownRun(_)) if run == RUN => {
                    if later {
                        hosts.world().wonders.insert(Wonder::BegunAnew);
                    }
                    engine.apply(plan, request(run), &control).await
                }
                Err(DriverError::UnknownRun(_)) => engine.roll_back(&RUN.into(), request(run), &control).await,
                Err(error) => Err(error),
            }
        };
        let (disk, process) = (self.disk.clone(), self.process);
        let mut task = tokio::spawn(async move {
            let result = work.await;
            (result, disk.leader() <= process)
        });
        let now = |at: u64| self.start + Duration::from_millis(at);
        loop {
            let crash = self.crashes_at.first_key_value().map(|(at, down)| (*at, *down));
            let crash_at = async {
                match crash {
                    Some((at, _)) => sleep_until(now(at)).await,
                    None => std::future::pending().await,
                }
            };
            let cancel_at = async {
                match self.cancel_at {
                    Some(at) => sleep_until(now(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                fate = store.fate() => match fate {
                    Fate::Dead(down) => {
                        end(task).await;
                        return (Turn::Dead(down), None);
                    }
                    Fate::Stalled => return (Turn::Stalled, Some(task)),
                },
                result = &mut task => {
                    return (Turn::Back(result.expect("a controller does not panic").0), None);
                }
                () = crash_at => {
                    self.crashes_at.pop_first();
                    end(task).await;
                    self.hosts.world().wonders.insert(Wonder::CrashedBetween);
                    return (Turn::Dead(Duration::from_millis(crash.map_or(0, |(_, down)| down))), None);
                }
                () = cancel_at => {
                    self.cancel_at = None;
                    cancel.cancel(ada());
                }
            }
        }
    }

    fn engine(&self) -> (Engine, Arc<SimStore>) {
        let store = Arc::new(SimStore {
            disk: self.disk.clone(),
            store: self.store.clone(),
            hosts: self.hosts.clone(),
            process: self.process,
            fate: Mutex::new(None),
            told: Notify::new(),
        });
        let transport = SimTransport { hosts: self.hosts.clone(), process: self.process };
        let engine = Engine {
            store: Arc::clone(&store) as _,
            blobs: Arc::new(self.store.clone()),
            transports: BTreeMap::from([("simulated".to_owned(), Arc::new(transport) as _)]),
            evaluate: Arc::new(Verbatim),
            signer: Arc::new(Key(FileKey::from_seed([7; 32]))),
            origin: "runbook/simulated".into(),
            secrets: Arc::new(Nothing),
            confirmer: Arc::new(Nothing),
            clock: Arc::new(self.clock.clone()),
            observer: Arc::new(Nothing),
            limits: Limits::default(),
            controller: None,
            clock_state: None,
            permits: None,
            access: None,
            monitors: Vec::new(),
        };
        (engine, store)
    }
}

/// SIGKILL.
async fn end(task: Controller) {
    task.abort();
    let _ = task.await;
}

/// An operator looks at the hosts and settles what is unknown.
async fn resolve(engine: &Engine, hosts: &Hosts, run: &str) -> Result<(), DriverError> {
    let sealed = engine.store.records(&run.into(), 0, usize::MAX).await.expect("reading does not fail");
    let mut unknown = std::collections::BTreeSet::new();
    for record in &sealed {
        match parsed(&record.bytes).event {
            Event::StepEnded { cell, outcome: AttemptOutcome::Unknown, .. } => unknown.insert(cell),
            Event::StepEnded { cell, .. } | Event::StepResolved { cell, .. } => unknown.remove(&cell),
            _ => false,
        };
    }
    for cell in unknown {
        let succeeded = hosts.world().hosts[&cell.host].applied.contains(&cell.step);
        let resolved =
            engine.resolve(&run.into(), cell.host, cell.step, succeeded, "looked at the host".into(), ada()).await;
        match resolved {
            Ok(()) | Err(DriverError::NothingToResolve { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn request(run: &str) -> RunRequest {
    RunRequest {
        run: run.into(),
        operator: ada(),
        ticket: None,
        check_only: false,
        seed: 7,
        engine_version: "0.0.0".into(),
        engine_sha256: Sha256::of(b"engine"),
        controller: "here".into(),
        controller_boot_id: "boot".into(),
        clock: ClockState::default(),
        inventory_sha256: None,
        inventory_sources: Vec::new(),
        retention: None,
        revision: None,
        settings_sha256: None,
        occurrence: None,
        files: "/nowhere".into(),
        wait: false,
        granted: runbook_testkit::unrestricted(),
    }
}

fn parsed(bytes: &[u8]) -> Record {
    runbook_ledger::record::parse(bytes).expect("what was sealed can be read")
}

async fn log(store: &MemoryStore, run: &str) -> Vec<(u64, Event)> {
    let sealed = store.records(&RunId::from(run), 0, usize::MAX).await.expect("a store in memory can be read");
    let records = sealed.iter().map(|sealed| parsed(&sealed.bytes));
    records.map(|record| (record.mono_ms, record.event)).collect()
}

/// Where a run stands, as its log says.
fn status(log: &[(u64, Event)]) -> Status {
    log.iter().fold(Status::Running, |status, (_, event)| match event {
        Event::RunEnded { outcome, .. } => Status::Ended(*outcome),
        Event::RunSuspended { outcome } => Status::Suspended(*outcome),
        Event::RunResumed { .. } => Status::Running,
        _ => status,
    })
}

async fn gather(scenario: &Scenario, hosts: &Hosts, disk: &Disk, store: &MemoryStore, told: Told) -> Lived {
    let (log_of_run, back) = (log(store, RUN).await, log(store, RUN_BACK).await);
    let status = status(&log_of_run);
    let mut broken = told.broken;
    if status == Status::Running {
        broken.push("the run is not over, and nobody works on it".into());
    }
    let mut verifier = Verifier::new([]);
    for record in store.ledger(0, usize::MAX).await.expect("a store in memory can be read") {
        if let Err(fault) = verifier.push_sealed(&record) {
            broken.push(format!("the ledger does not verify: {fault}"));
            break;
        }
    }
    let mut outputs = BTreeMap::new();
    for (_, event) in log_of_run.iter().chain(&back) {
        if let Event::AttemptEnded { report, .. } = event
            && let Some(blob) = report.stdout.blob
        {
            outputs.insert(blob, store.get(&blob, u64::MAX).await.expect("what a record names is in the store"));
        }
    }
    let mut world = hosts.world();
    broken.append(&mut world.broken);
    let mut effects: BTreeMap<_, u32> = BTreeMap::new();
    for begun in &world.begun {
        if let Some(attempt) = &begun.attempt {
            *effects.entry(attempt.clone()).or_default() += begun.effects;
        }
    }
    let cancelled = log_of_run.iter().any(|(_, event)| matches!(event, Event::CancelAsked { .. }));
    let mut lived = Lived {
        simulated: Simulated {
            rehearses: false,
            seed: 0,
            plan: Arc::new(scenario.plan.clone()),
            log: log_of_run,
            applied: world.hosts.iter().map(|(name, host)| (name.clone(), host.applied.clone())).collect(),
            doubled: effects.iter().filter(|(_, n)| **n > 1).map(|(attempt, _)| attempt.to_string()).collect(),
            status,
            taken_back: (told.back && !back.is_empty()).then_some(back),
            broken,
            marks: std::collections::BTreeSet::new(),
            operator: told.operator,
            cancelled,
            permits: Vec::new(),
        },
        appends: disk.appends(),
        wonders: std::mem::take(&mut world.wonders),
        begun: std::mem::take(&mut world.begun),
        outputs,
    };
    lived.wonders.extend(wonders(scenario, &lived));
    lived
}

struct Key(FileKey);

impl Signer for Key {
    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.0.sign(bytes))
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }
}

/// Ports that simulated plans do not use.
struct Nothing;

#[async_trait]
impl SecretSource for Nothing {
    async fn resolve(&self, _secret: &SecretRef) -> Result<SecretBytes, Obstacle> {
        Err(Obstacle { kind: ObstacleKind::Local, message: "no secrets".into() })
    }
}

#[async_trait]
impl Confirmer for Nothing {
    async fn confirm(&self, _host: &str, _question: &str) -> Answer {
        Answer::Nobody("no terminal".into())
    }
}

impl Observer for Nothing {
    fn committed(&self, _record: &Record) {}
}
