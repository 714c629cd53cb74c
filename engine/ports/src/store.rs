//! The log of an installation: append-only records, leases with fences, signed heads.

use std::time::Duration;

use async_trait::async_trait;
use runbook_model::event::RunHeader;
pub use runbook_model::record::{Head, Sealed};
use runbook_model::schedule::Occurrence;
use runbook_model::{HostName, RunId, RunOutcome, Sha256};

/// Proof of being the one controller of a run. A later lease of the same run has a larger fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// What is appended at once: all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Append {
    /// The ledger's size that the records were sealed on.
    pub expected_size: u64,
    /// Whose; checked against the run's current lease. `None` only for records that no run owns.
    pub fence: Option<(RunId, Fence)>,
    /// The records, in order.
    pub records: Vec<Sealed>,
    /// The ledger's end after them.
    pub head: Head,
    /// A signed head (C2SP checkpoint text) of the tree after them.
    pub checkpoint: Option<Checkpoint>,
    /// Small contents that the records name.
    pub blobs: Vec<(Sha256, Vec<u8>)>,
    /// What the list of runs should say from now on.
    pub index: Option<RunIndex>,
    /// The occurrence of a schedule that one of its records settles.
    pub settles: Option<Settled>,
}

/// An occurrence that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub occurrence: Occurrence,
    /// The run that is its run; that of the installation when a notice settled it.
    pub run: RunId,
    /// The record that settled it.
    pub seq: u64,
}

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Tree size.
    pub size: u64,
    /// The signed note, exactly.
    pub note: String,
}

/// A line in the list of runs: a projection of the log, kept for quick listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIndex {
    /// The run's opening.
    pub header: RunHeader,
    /// Where it stands.
    pub status: RunStatus,
    /// As it ended, or as things stand when suspended.
    pub outcome: Option<RunOutcome>,
    /// Unix ms of the end.
    pub ended_ms: Option<u64>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// A controller works on it, or has died: its lease tells.
    Running,
    /// It waits for an operator.
    Suspended,
    /// It has ended.
    Ended,
}

/// Who holds a lease, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The run.
    pub run: RunId,
    /// The operator's name.
    pub operator: String,
    /// The controller's process id.
    pub pid: u32,
    /// Unix ms when it was taken.
    pub since_ms: u64,
    /// Whether the process that took it is still alive.
    pub alive: bool,
}

/// What can go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process appended meanwhile: seal again on this head.
    #[error("the ledger has grown meanwhile")]
    HeadMoved(Head),
    /// The run is controlled by somebody else now: nothing was written, and nothing more may be done.
    #[error("another process has taken the run over")]
    FenceLost,
    /// A host (or the run itself) is leased.
    #[error("{what} is held by run {} of {}", .by.run, .by.operator)]
    Held {
        /// `host NAME` or `run ID`.
        what: String,
        /// By whom.
        by: Holder,
    },
    /// It is not there.
    #[error("{0} is not in the store")]
    Missing(String),
    /// What became of the occurrence of a schedule is on record already.
    #[error("{0} is settled already")]
    Settled(Occurrence),
    /// It is there and not as it was written.
    #[error("{0} is damaged: its content does not have its digest")]
    Corrupt(String),
    /// More than the caller allowed.
    #[error("{0} is larger than the limit")]
    TooLarge(String),
    /// A newer version of the program wrote the database.
    #[error("the database was written by a newer version of runbook (format {found}; this one knows up to {known})")]
    Newer {
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The disk or the database failed. Whether what was being written is durable is not known.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// The log.
///
/// Durable means: after power loss it is still there. Reads see every append that has returned.
#[async_trait]
pub trait Store: Send + Sync {
    /// The ledger's end.
    async fn head(&self) -> Result<Head, StoreError>;

    /// Appends. All of it is durable when it returns `Ok`; nothing of it is visible after an error other than `Failed`.
    ///
    /// # Errors
    /// `HeadMoved` when the ledger's size is not `expected_size`; `FenceLost` when the fence is not the current one;
    /// `Settled` when another append has settled the occurrence: of any number that try, one succeeds.
    async fn append(&self, append: Append) -> Result<(), StoreError>;

    /// A run's records from `from` (place in the run), at most `limit`.
    async fn records(&self, run: &RunId, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError>;

    /// The ledger's records from `from`, at most `limit`.
    async fn ledger(&self, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError>;

    /// The signed heads, oldest first.
    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError>;

    /// The newest signed head: what the next one is checked against.
    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.checkpoints().await?.pop())
    }

    /// The frontier (see [`Head::frontier`]) of the tree whose head of this size was signed; `None` when it is not kept.
    /// Not to be believed before it gives the root that was signed.
    async fn signed_frontier(&self, _size: u64) -> Result<Option<Vec<Sha256>>, StoreError> {
        Ok(None)
    }

    /// The occurrences that are settled and were due at `from_ms` (Unix ms) or later, in the order of their keys.
    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError>;

    /// All runs, oldest first.
    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError>;

    /// Takes control of `run` and of `hosts` for it, all or nothing, for this process. A lease whose process is dead is
    /// taken over at once; a live one is never. The hosts of a dead run can go to another run; the dead one must then
    /// wait for them when it is taken up again.
    ///
    /// # Errors
    /// `Held`, naming the first host that another live run holds, or the run itself.
    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError>;

    /// Gives up a run's lease and its hosts.
    ///
    /// # Errors
    /// `FenceLost` when the lease is not this one any more, or was given up already.
    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError>;

    /// Waits until `by` may have given up its lease: until it has, or its process has ended, or a while. The caller asks for
    /// the lease again in any case.
    async fn until_released(&self, _by: &Holder) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Whether this is still the fence of the run's current lease. A store that cannot tell says yes: the append that
    /// follows is refused in any case.
    async fn holds(&self, _run: &RunId, _fence: Fence) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Who holds a run, if anybody.
    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError>;
}
