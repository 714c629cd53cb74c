//! A store in memory that keeps every promise of the ports but durability, and breaks them when told to.
//!
//! Several "processes" may work on one store: [`MemoryStore::another_process`] gives a second one its own view, and
//! [`MemoryStore::kill`] ends one, so that its leases can be taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use runbook_ledger::Sealer;
use runbook_model::digest::Hasher;
use runbook_model::schedule::Occurrence;
use runbook_model::{Event, HostName, RunId, Sha256};
use runbook_ports::blob::{BlobFile, BlobStore, BlobWriter};
use runbook_ports::store::{Append, Checkpoint, Fence, Head, Holder, RunIndex, Sealed, Settled, Store, StoreError};

/// The run in whose name [`AppendFault::HeadMoved`] appends.
pub const OTHER_RUN: &str = "00000000-0000-7000-8000-00000000ffff";

/// What goes wrong with an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// The store fails and nothing was written.
    Failed,
    /// The store fails, and yet everything was written.
    FailedAfterWriting,
    /// Another process appends a record of another run just before.
    HeadMoved,
    /// Another process takes the run over just before.
    FenceLost,
}

/// A store and a blob store in memory.
#[derive(Clone)]
pub struct MemoryStore {
    world: Arc<Mutex<World>>,
    process: u32,
}

#[derive(Default)]
struct World {
    head: Head,
    records: Vec<Sealed>,
    places: BTreeSet<(RunId, u64)>,
    checkpoints: Vec<Checkpoint>,
    frontiers: BTreeMap<u64, Vec<Sha256>>,
    runs: BTreeMap<RunId, RunIndex>,
    leases: BTreeMap<RunId, Lease>,
    hosts: BTreeMap<HostName, RunId>,
    fences: BTreeMap<RunId, u64>,
    blobs: BTreeMap<Sha256, Vec<u8>>,
    settled: BTreeMap<Occurrence, (RunId, u64)>,
    alive: BTreeMap<u32, bool>,
    appends: u64,
    ledger_reads: u64,
    faults: BTreeMap<u64, AppendFault>,
    broken_from: Option<u64>,
    blobs_broken: bool,
}

#[derive(Clone)]
struct Lease {
    fence: u64,
    operator: String,
    process: u32,
    since_ms: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store, seen by its first process.
    pub fn new() -> Self {
        let world = World { alive: BTreeMap::from([(1, true)]), ..World::default() };
        Self { world: Arc::new(Mutex::new(world)), process: 1 }
    }

    /// The same store as another process sees it.
    pub fn another_process(&self) -> Self {
        let mut world = self.world();
        let process = world.alive.len() as u32 + 1;
        world.alive.insert(process, true);
        Self { world: self.world.clone(), process }
    }

    /// Ends this view's process: its leases count as dead from now on.
    pub fn kill(&self) {
        self.world().alive.insert(self.process, false);
    }

    /// The `n`-th append from now (from 1) goes wrong as told. One without a fence cannot lose it.
    pub fn inject(&self, n: u64, fault: AppendFault) {
        let mut world = self.world();
        let at = world.appends + n;
        world.faults.insert(at, fault);
    }

    /// From the `n`-th append from now (from 1) on nothing can be written any more, as on a full disk.
    pub fn break_from(&self, n: u64) {
        let mut world = self.world();
        world.broken_from = Some(world.appends + n);
    }

    /// From now on blobs can be written (`false`) or not (`true`).
    pub fn break_blobs(&self, broken: bool) {
        self.world().blobs_broken = broken;
    }

    /// What was broken is whole again, and faults still to come do not.
    pub fn mend(&self) {
        let mut world = self.world();
        world.broken_from = None;
        world.blobs_broken = false;
        world.faults.clear();
    }

    /// How many pages of the ledger were read.
    pub fn ledger_reads(&self) -> u64 {
        self.world().ledger_reads
    }

    /// How many appends were asked for so far, failed ones too.
    pub fn appends(&self) -> u64 {
        self.world().appends
    }

    /// Keeps other bytes under a digest than it stands for.
    pub fn corrupt_blob(&self, digest: &Sha256, bytes: &[u8]) {
        self.world().blobs.insert(*digest, bytes.to_vec());
    }

    /// Forgets a blob.
    pub fn lose_blob(&self, digest: &Sha256) {
        self.world().blobs.remove(digest);
    }

    /// Appends records of [`OTHER_RUN`] without signing a head.
    pub fn append_unsigned(&self, records: usize) {
        (0..records).for_each(|_| self.world().another_appends());
    }

    /// Changes a record's bytes where they lie.
    pub fn change_record(&self, seq: usize, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.world().records[seq].bytes);
    }

    /// Changes what is kept as the log's end.
    pub fn change_head(&self, change: impl FnOnce(&mut Head)) {
        change(&mut self.world().head);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panics while it holds the store")
    }
}

impl World {
    fn holder(&self, run: &RunId) -> Option<Holder> {
        self.leases.get(run).map(|lease| Holder {
            run: run.clone(),
            operator: lease.operator.clone(),
            pid: lease.process,
            since_ms: lease.since_ms,
            alive: self.alive[&lease.process],
        })
    }

    fn take_over(&mut self, run: &RunId, lease: Lease) -> u64 {
        let fence = self.fences.entry(run.clone()).or_default();
        *fence += 1;
        let lease = Lease { fence: *fence, ..lease };
        let fence = lease.fence;
        self.leases.insert(run.clone(), lease);
        fence
    }

    fn another_appends(&mut self) {
        let mut sealer = Sealer::new(&self.head).expect("the head is one that an append left");
        let run = RunId::from(OTHER_RUN);
        let run_seq = self.records.iter().filter(|record| record.run == run).count() as u64;
        let sealed = sealer.seal(0, 0, &run, run_seq, &Event::RunStarted).expect("the record is short");
        self.places.insert((sealed.run.clone(), sealed.run_seq));
        self.records.push(sealed);
        self.head = sealer.head();
    }

    fn append(&mut self, append: Append) -> Result<(), StoreError> {
        if let Some((run, fence)) = &append.fence
            && self.leases.get(run).map(|lease| lease.fence) != Some(fence.0)
        {
            return Err(StoreError::FenceLost);
        }
        if append.expected_size != self.head.size {
            return Err(StoreError::HeadMoved(self.head.clone()));
        }
        if let Some(Settled { occurrence, .. }) = &append.settles
            && self.settled.contains_key(occurrence)
        {
            return Err(StoreError::Settled(occurrence.clone()));
        }
        let contiguous = append.records.iter().zip(append.expected_size..).all(|(record, seq)| record.seq == seq);
        if !contiguous || append.head.size != append.expected_size + append.records.len() as u64 {
            return Err(StoreError::Failed("the records to append are not in order".to_owned()));
        }
        let mut taken = BTreeSet::new();
        for record in &append.records {
            let place = (record.run.clone(), record.run_seq);
            if self.places.contains(&place) || !taken.insert(place) {
                return Err(StoreError::Failed(format!("record {} of run {} exists", record.run_seq, record.run)));
            }
        }
        if let Some(Settled { occurrence, run, seq }) = append.settles {
            self.settled.insert(occurrence, (run, seq));
        }
        self.places.extend(taken);
        self.records.extend(append.records);
        self.head = append.head;
        if append.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.size == self.head.size) {
            self.frontiers.insert(self.head.size, self.head.frontier.clone());
        }
        self.checkpoints.extend(append.checkpoint);
        self.blobs.extend(append.blobs);
        if let Some(index) = append.index {
            self.runs.insert(index.header.run.clone(), index);
        }
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn head(&self) -> Result<Head, StoreError> {
        Ok(self.world().head.clone())
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let mut world = self.world();
        world.appends += 1;
        let number = world.appends;
        if world.broken_from.is_some_and(|from| number >= from) {
            return Err(StoreError::Failed("no space left on the disk (a test broke it)".to_owned()));
        }
        match world.faults.remove(&number) {
            None => world.append(append),
            Some(AppendFault::Failed) => Err(StoreError::Failed("a test broke this append".to_owned())),
            Some(AppendFault::FailedAfterWriting) => {
                world.append(append)?;
                Err(StoreError::Failed("a test broke this append after it was written".to_owned()))
            }
            Some(AppendFault::HeadMoved) => {
                world.another_appends();
                world.append(append)
            }
            Some(AppendFault::FenceLost) => {
                if let Some((run, _)) = &append.fence {
                    let process = world.alive.len() as u32 + 1;
                    world.alive.insert(process, true);
                    let lease = Lease { fence: 0, operator: "somebody else".to_owned(), process, since_ms: 0 };
                    world.take_over(run, lease);
                }
                world.append(append)
            }
        }
    }

    async fn records(&self, run: &RunId, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        let world = self.world();
        let wanted = world.records.iter().filter(|record| record.run == *run && record.run_seq >= from);
        Ok(wanted.take(limit).cloned().collect())
    }

    async fn ledger(&self, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        let mut world = self.world();
        world.ledger_reads += 1;
        Ok(world.records.iter().filter(|record| record.seq >= from).take(limit).cloned().collect())
    }

    async fn signed_frontier(&self, size: u64) -> Result<Option<Vec<Sha256>>, StoreError> {
        Ok(self.world().frontiers.get(&size).cloned())
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        Ok(self.world().checkpoints.clone())
    }

    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError> {
        let world = self.world();
        let settled = world.settled.iter().filter(|(occurrence, _)| occurrence.at_ms >= from_ms);
        let settled = settled.map(|(occurrence, (run, seq))| Settled {
            occurrence: occurrence.clone(),
            run: run.clone(),
            seq: *seq,
        });
        Ok(settled.collect())
    }

    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError> {
        let mut runs: Vec<_> = self.world().runs.values().cloned().collect();
        runs.sort_by(|a, b| (a.header.started_ms, &a.header.run).cmp(&(b.header.started_ms, &b.header.run)));
        Ok(runs)
    }

    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError> {
        let mut world = self.world();
        if let Some(by) = world.holder(run).filter(|holder| holder.alive) {
            return Err(StoreError::Held { what: format!("run {run}"), by });
        }
        for host in hosts {
            let holder = world.hosts.get(host).filter(|other| *other != run).and_then(|other| world.holder(other));
            if let Some(by) = holder.filter(|holder| holder.alive) {
                return Err(StoreError::Held { what: format!("host {host}"), by });
            }
        }
        let lease = Lease { fence: 0, operator: operator.to_owned(), process: self.process, since_ms: now_ms };
        let fence = world.take_over(run, lease);
        world.hosts.retain(|_, holder| holder != run);
        world.hosts.extend(hosts.iter().map(|host| (host.clone(), run.clone())));
        Ok(Fence(fence))
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        let mut world = self.world();
        if world.leases.get(run).map(|lease| lease.fence) != Some(fence.0) {
            return Err(StoreError::FenceLost);
        }
        world.leases.remove(run);
        world.hosts.retain(|_, holder| holder != run);
        Ok(())
    }

    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError> {
        Ok(self.world().holder(run))
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let mut world = self.world();
        if world.blobs_broken {
            return Err(StoreError::Failed("no space left on the disk (a test broke it)".to_owned()));
        }
        let digest = Sha256::of(bytes);
        world.blobs.insert(digest, bytes.to_vec());
        Ok(digest)
    }

    async fn put_file(&self, path: &Path) -> Result<(Sha256, u64), StoreError> {
        let bytes = std::fs::read(path).map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))?;
        Ok((self.put(&bytes).await?, bytes.len() as u64))
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(MemoryWriter { store: self.clone(), bytes: Vec::new(), hasher: Hasher::default() }))
    }

    async fn get(&self, digest: &Sha256, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.world().blobs.get(digest).cloned();
        let bytes = bytes.ok_or_else(|| StoreError::Missing(format!("blob {digest}")))?;
        if bytes.len() as u64 > bytes_max {
            return Err(StoreError::TooLarge(format!("blob {digest}")));
        }
        if Sha256::of(&bytes) != *digest {
            return Err(StoreError::Corrupt(format!("blob {digest}")));
        }
        Ok(bytes)
    }

    async fn file(&self, digest: &Sha256) -> Result<BlobFile, StoreError> {
        use std::io::Write as _;
        let bytes = self.get(digest, u64::MAX).await?;
        let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        Ok(BlobFile { path: file.path().to_path_buf(), guard: Some(Box::new(file.into_temp_path())) })
    }

    async fn has(&self, digest: &Sha256) -> Result<bool, StoreError> {
        Ok(self.world().blobs.contains_key(digest))
    }
}

struct MemoryWriter {
    store: MemoryStore,
    bytes: Vec<u8>,
    hasher: Hasher,
}

#[async_trait]
impl BlobWriter for MemoryWriter {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(Sha256, u64), StoreError> {
        let digest = self.store.put(&self.bytes).await?;
        assert_eq!(digest, self.hasher.finish(), "the pieces are the whole");
        Ok((digest, self.bytes.len() as u64))
    }
}
