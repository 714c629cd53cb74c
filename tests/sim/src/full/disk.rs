//! The store of one controller: a store in memory whose disk fails, and at whose appends controllers die.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::{Event, HostName, RunId};
use runbook_ports::store::{Append, Checkpoint, Fence, Head, Holder, RunIndex, Sealed, Settled, Store, StoreError};
use runbook_testkit::memory_store::MemoryStore;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::full::hosts::Hosts;
use crate::full::scenario::{Fault, Scenario};
use crate::full::truth::Wonder;

/// What the appends of all controllers of a scenario share.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    appends: u64,
    planned: BTreeMap<u64, Planned>,
    broken_until: Option<Instant>,
    /// The newest controller that has taken the run.
    leader: u32,
}

#[derive(Debug, Clone, Copy)]
enum Planned {
    Crash { written: bool, down: Duration },
    Fail { written: bool, mended_after: Duration },
    Stall(Duration),
}

/// What became of a controller, told by its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is dead; the next one comes after this.
    Dead(Duration),
    /// It is thought dead, and will wake.
    Stalled,
}

impl Disk {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let planned = scenario.faults.iter().filter_map(|fault| match fault {
            Fault::Crash { append, written, down_ms } => {
                Some((*append, Planned::Crash { written: *written, down: Duration::from_millis(*down_ms) }))
            }
            Fault::Disk { append, written, for_ms } => {
                Some((*append, Planned::Fail { written: *written, mended_after: Duration::from_millis(*for_ms) }))
            }
            Fault::Takeover { append, stall_ms } => Some((*append, Planned::Stall(Duration::from_millis(*stall_ms)))),
            _ => None,
        });
        let inner = Inner { appends: 0, planned: planned.collect(), broken_until: None, leader: 0 };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// When the disk is whole again, if it is not.
    pub(crate) fn broken_until(&self) -> Option<Instant> {
        self.inner().broken_until.filter(|until| *until > Instant::now())
    }

    /// The newest controller that has taken the run.
    pub(crate) fn leader(&self) -> u32 {
        self.inner().leader
    }

    /// How many appends were asked for.
    pub(crate) fn appends(&self) -> u64 {
        self.inner().appends
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store of one controller.
pub(crate) struct SimStore {
    pub(crate) disk: Disk,
    pub(crate) store: MemoryStore,
    pub(crate) hosts: Hosts,
    pub(crate) process: u32,
    pub(crate) fate: Mutex<Option<Fate>>,
    pub(crate) told: Notify,
}

impl SimStore {
    /// What the store has done to its controller, as soon as it has.
    pub(crate) async fn fate(&self) -> Fate {
        loop {
            let told = self.told.notified();
            if let Some(fate) = self.fate.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return fate;
            }
            told.await;
        }
    }

    fn seal(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
        self.told.notify_one();
    }

    /// Writes, and knows what is durable then.
    async fn write(&self, append: Append) -> Result<(), StoreError> {
        let intents: Vec<_> = append
            .records
            .iter()
            .filter(|sealed| String::from_utf8_lossy(&sealed.bytes).contains("attempt_started"))
            .filter_map(|sealed| match runbook_ledger::record::parse(&sealed.bytes).ok()?.event {
                Event::AttemptStarted { attempt, .. } => Some(attempt),
                _ => None,
            })
            .collect();
        let empty = append.records.is_empty();
        let result = self.store.append(append).await;
        let mut world = self.hosts.world();
        match &result {
            Ok(()) => {
                if !empty && self.process < self.disk.inner().leader {
                    world.broken.push(format!("controller {} wrote after it had lost its lease", self.process));
                }
                world.intents.extend(intents);
            }
            Err(StoreError::HeadMoved(_)) => {}
            Err(_) => {
                world.stopped.insert(self.process);
            }
        }
        result
    }

    fn full(&self) -> StoreError {
        self.hosts.world().stopped.insert(self.process);
        StoreError::Failed("no space left on the simulated disk".into())
    }
}

#[async_trait]
impl Store for SimStore {
    async fn append(&self, append: Append) -> Result<(), StoreError> {
        // A disk takes its time; answers gather meanwhile.
        sleep(Duration::from_millis(5)).await;
        let planned = {
            let mut inner = self.disk.inner();
            inner.appends += 1;
            let number = inner.appends;
            inner.planned.remove(&number)
        };
        if self.disk.broken_until().is_some() {
            return Err(self.full());
        }
        match planned {
            None => self.write(append).await,
            Some(Planned::Crash { written, down }) => {
                if written {
                    self.write(append).await?;
                }
                let wonder = if written { Wonder::CrashedAfter } else { Wonder::CrashedBefore };
                self.hosts.world().wonders.insert(wonder);
                self.seal(Fate::Dead(down));
                std::future::pending().await
            }
            Some(Planned::Fail { written, mended_after }) => {
                if written {
                    self.write(append).await?;
                }
                let wonder = if written { Wonder::DiskFailedAfterWriting } else { Wonder::DiskFailed };
                self.hosts.world().wonders.insert(wonder);
                self.disk.inner().broken_until = Some(Instant::now() + mended_after);
                Err(self.full())
            }
            Some(Planned::Stall(stall)) => {
                self.seal(Fate::Stalled);
                sleep(stall).await;
                self.write(append).await
            }
        }
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.store.head().await
    }

    async fn records(&self, run: &RunId, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        self.store.records(run, from, limit).await
    }

    async fn ledger(&self, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        self.store.ledger(from, limit).await
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        self.store.checkpoints().await
    }

    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError> {
        self.store.settled(from_ms).await
    }

    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError> {
        self.store.runs().await
    }

    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError> {
        let fence = self.store.lease(run, operator, hosts, now_ms).await?;
        self.disk.inner().leader = self.process;
        Ok(fence)
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        if self.disk.broken_until().is_some() {
            return Err(StoreError::Failed("no space left on the simulated disk".into()));
        }
        self.store.release(run, fence).await
    }

    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError> {
        self.store.holder(run).await
    }
}
