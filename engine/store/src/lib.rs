//! The log and the blobs of an installation, in SQLite and on disk.
//!
//! One folder (`.runbook/` of a project) holds all of it:
//!
//! | path | what |
//! | --- | --- |
//! | `runbook.db`, `-wal`, `-shm` | the database: records, signed heads, leases, the list of runs, small blobs, what is to be told |
//! | `blobs/sha256/ab/<hex>` | large blobs, compressed with zstd, named by the digest of their content |
//! | `blobs/tmp/` | blobs being written, and uncompressed copies being read; what dead processes left goes at the next open |
//! | `run/<mark>` | one file per process that has the store open, locked as long as it lives: how the others know |
//! | `end` | the log's end once more, written after each append: a database that has lost records is seen |
//! | `lock` | held while a process opens the store |
//!
//! Any number of processes may have it open. Appends are conditional on the ledger's size and on the run's fence, and a
//! trigger in the database itself enforces both, so processes are served one after the other or refused; they cannot
//! write over each other. Durable means `synchronous=FULL`: when a call that promises it returns, power may fail.

mod append;
mod blob;
mod blob_file;
mod end;
mod folder;
mod lease;
mod open;
mod outbox;
mod process;
mod purge;
mod sqlite;
mod tail;

pub use blob_file::Reading;
pub use open::{FORMAT, OpenError};
pub use outbox::{Attempt, Message, MessageState};
pub use sqlite::{SqliteStore, code};
pub use tail::{Row, Tail};
