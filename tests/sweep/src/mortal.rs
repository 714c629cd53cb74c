//! A store under which the program dies, exactly where it is told: as if somebody had sent it SIGKILL there.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use runbook_model::{HostName, RunId, Sha256};
use runbook_ports::Store;
use runbook_ports::store::{Append, Checkpoint, Fence, Head, Holder, RunIndex, Sealed, Settled, StoreError};

/// The variable that says when: `before 17` (as record 17 of the ledger, counted from 0, is about to be written),
/// `after 17` (as soon as it is durable), `each 5` (as soon as this process's fifth append is durable).
pub const VARIABLE: &str = "RUNBOOK_DIES";

/// The variable that names a file in which each append leaves a line with its first record and the one behind its last.
pub const APPENDS: &str = "RUNBOOK_TELLS_APPENDS";

/// When the program dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Never,
    Before(u64),
    After(u64),
    Each(u64),
}

impl Death {
    fn parse(text: &str) -> Option<Self> {
        let (word, number) = text.split_once(' ')?;
        let number = number.parse().ok()?;
        match word {
            "before" => Some(Self::Before(number)),
            "after" => Some(Self::After(number)),
            "each" => Some(Self::Each(number)),
            _ => None,
        }
    }
}

/// Puts the mortal store before the real one, when one of the variables is set.
///
/// # Panics
/// When it says nothing that is known: a death that never comes would prove nothing.
pub fn between(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let told = std::env::var_os(APPENDS).map(PathBuf::from);
    let death = match std::env::var(VARIABLE) {
        Err(_) if told.is_none() => return store,
        Err(_) => Death::Never,
        Ok(text) => Death::parse(&text).unwrap_or_else(|| panic!("{VARIABLE}={text} says nothing")),
    };
    Arc::new(Mortal { store, death, told, appends: AtomicU64::new(0) })
}

struct Mortal {
    store: Arc<dyn Store>,
    death: Death,
    told: Option<PathBuf>,
    appends: AtomicU64,
}

/// Adds an append to the file.
fn tell(path: &Path, first: u64, end: u64) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the file of appends can be opened");
    writeln!(file, "{first} {end}").expect("the file of appends can be written");
}

/// Nothing is written, closed, told or tidied up after this.
async fn die() -> ! {
    // SIGKILL to oneself has no reason to fail; were it to, the process would stand still, and the test with it.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::future::pending().await
}

#[async_trait]
impl Store for Mortal {
    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let first = append.expected_size;
        let end = first + append.records.len() as u64;
        if matches!(self.death, Death::Before(record) if record < end) {
            die().await;
        }
        self.store.append(append).await?;
        if let Some(path) = self.told.as_deref().filter(|_| end > first) {
            tell(path, first, end);
        }
        let appends = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        match self.death {
            Death::After(record) if record < end => die().await,
            Death::Each(number) if appends >= number => die().await,
            _ => Ok(()),
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

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        self.store.last_checkpoint().await
    }

    async fn signed_frontier(&self, size: u64) -> Result<Option<Vec<Sha256>>, StoreError> {
        self.store.signed_frontier(size).await
    }

    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError> {
        self.store.settled(from_ms).await
    }

    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError> {
        self.store.runs().await
    }

    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError> {
        self.store.lease(run, operator, hosts, now_ms).await
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        self.store.release(run, fence).await
    }

    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError> {
        self.store.holder(run).await
    }
}
