//! Opening: whose database is it, is it whole, is it of a format that we know.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use crate::end::{End, Kept};
use crate::folder::{private_file, private_folder, sync_folder};
use crate::process::{Mark, sweep};

/// The newest format of the database that this version writes and reads.
pub const FORMAT: i64 = 4;

/// What each format adds to the one before it.
const MIGRATIONS: [&str; FORMAT as usize] = [
    include_str!("../migrations/0001_ledger.sql"),
    include_str!("../migrations/0002_signed_frontier.sql"),
    include_str!("../migrations/0003_occurrences.sql"),
    include_str!("../migrations/0004_outbox.sql"),
];

/// `application_id` of our databases: "RNBK".
const APPLICATION_ID: i64 = 0x524e_424b;

/// How long a process waits for others to finish what they are writing. An append takes milliseconds; a disk that takes
/// longer than this has failed.
const BUSY: Duration = Duration::from_secs(30);

/// How often the lock is tried for at open, `LOCK_PAUSE` apart.
const LOCK_TRIES: u32 = 3000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be made or written.
    #[error("cannot write in {}: {source}", .path.display())]
    Folder {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database is not one of ours.
    #[error("{} is not a database of runbook: {why}", .path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// How that is known.
        why: String,
    },
    /// A newer version wrote it.
    #[error(
        "{} was written by a newer version of runbook (format {found}; this one knows up to {FORMAT})", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It is damaged.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It is whole in itself, and has fewer records than were written to it: an older copy was put back, or it was begun
    /// anew.
    #[error("{} is damaged: {why}", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another process keeps the store's lock.
    #[error("another process has been opening {} for half a minute", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Another process has the store open, and what is to be done needs it alone.
    #[error("process {pid} has {} open", .path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
        /// The process.
        pid: String,
    },
    /// The database cannot be read or written.
    #[error("the database {} failed: {why}", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
}

impl OpenError {
    /// The code of its page.
    pub fn code(&self) -> &'static str {
        match self {
            OpenError::Folder { .. } => "RB0500",
            OpenError::NotOurs { .. } => "RB0501",
            OpenError::Newer { .. } => "RB0502",
            OpenError::Damaged { .. } | OpenError::Older { .. } => "RB0503",
            OpenError::Failed { .. } => "RB0504",
            OpenError::Locked { .. } => "RB0505",
            OpenError::InUse { .. } => "RB0663",
        }
    }
}

/// A folder made ready.
pub(crate) struct Opened {
    pub(crate) places: Places,
    pub(crate) mark: Mark,
    pub(crate) end: End,
    pub(crate) writer: SqliteConnection,
    pub(crate) options: SqliteConnectOptions,
}

/// Where things are.
pub(crate) struct Places {
    pub(crate) marks: PathBuf,
    pub(crate) blobs: PathBuf,
    pub(crate) temporary: PathBuf,
}

pub(crate) async fn open(folder: &Path) -> Result<Opened, OpenError> {
    let places =
        Places { marks: folder.join("run"), blobs: folder.join("blobs/sha256"), temporary: folder.join("blobs/tmp") };
    let refused = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Folder { path, source }
    };
    for path in [folder, &folder.join("blobs"), &places.marks, &places.blobs, &places.temporary] {
        private_folder(path).map_err(refused(path))?;
    }
    let lock = lock(&folder.join("lock")).await?;
    sweep(&places.marks, &places.temporary).map_err(refused(&places.marks))?;
    let mark = Mark::make(&places.marks).map_err(refused(&places.marks))?;

    let database = folder.join("runbook.db");
    let file = private_file(&database).map_err(refused(&database))?;
    check_header(&database, file)?;
    let end = folder.join("end");
    let end = End::open(&end).map_err(refused(&end))?;
    // Whoever made these may have died before they were durable.
    for path in [folder, &folder.join("blobs"), &places.blobs] {
        sync_folder(path).map_err(refused(path))?;
    }
    let options = settings(&database);
    let writer = open_database(&database, &options, end.read(), true).await?;
    // Set only now: on somebody else's database it would already be a change.
    let options = options.journal_mode(SqliteJournalMode::Wal);
    drop(lock);
    Ok(Opened { places, mark, end, writer, options })
}

/// Opens a database without believing its end. The lock keeps every other process from opening it.
pub(crate) async fn open_for_repair(folder: &Path) -> Result<(File, SqliteConnection), OpenError> {
    let refused = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Folder { path, source }
    };
    let marks = folder.join("run");
    let lock = lock(&folder.join("lock")).await?;
    sweep(&marks, &folder.join("blobs/tmp")).map_err(refused(&marks))?;
    // What is left there belongs to the living.
    if let Some(entry) = std::fs::read_dir(&marks).map_err(refused(&marks))?.next() {
        let entry = entry.map_err(refused(&marks))?;
        let pid = std::fs::read_to_string(entry.path()).unwrap_or_default().trim().to_owned();
        return Err(OpenError::InUse { path: folder.to_path_buf(), pid });
    }
    let database = folder.join("runbook.db");
    check_header(&database, private_file(&database).map_err(refused(&database))?)?;
    let connection = open_database(&database, &settings(&database), None, false).await?;
    Ok((lock, connection))
}

fn settings(database: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        // Bounds what a long reader makes the write-ahead log keep.
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(512)
        .disable_statement_logging()
}

/// Takes the store's lock; given back when the file is dropped.
async fn lock(path: &Path) -> Result<File, OpenError> {
    let file = private_file(path).map_err(|source| OpenError::Folder { path: path.to_path_buf(), source })?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(error) => return Err(OpenError::Folder { path: path.to_path_buf(), source: error.into() }),
        }
    }
    Err(OpenError::Locked { path: path.to_path_buf() })
}

/// An empty file, or one that begins as SQLite's do.
fn check_header(path: &Path, file: File) -> Result<(), OpenError> {
    let mut header = Vec::new();
    let read = file.take(100).read_to_end(&mut header);
    read.map_err(|source| OpenError::Folder { path: path.to_path_buf(), source })?;
    if header.is_empty() || header.len() == 100 && header.starts_with(b"SQLite format 3\0") {
        return Ok(());
    }
    let path = path.to_path_buf();
    if header.starts_with(b"SQLite format 3\0") {
        return Err(OpenError::Damaged { path, why: "it ends within its header".to_owned() });
    }
    Err(OpenError::NotOurs { path, why: "it is no SQLite database".to_owned() })
}

async fn open_database(
    path: &Path,
    options: &SqliteConnectOptions,
    kept: Option<Kept>,
    check: bool,
) -> Result<SqliteConnection, OpenError> {
    let failed = |error: sqlx::Error| sql_error(path, &error);
    let mut connection = SqliteConnection::connect_with(options).await.map_err(failed)?;
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await.map_err(failed)?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await.map_err(failed)?;
    let objects: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(&mut connection).await.map_err(failed)?;
    let fresh = application == 0 && found == 0 && objects == 0;
    if let (true, Some(kept)) = (fresh, &kept) {
        let why = format!("{} records were written to it, and it is empty", kept.size);
        return Err(OpenError::Older { path: path.to_path_buf(), why });
    }
    if application != APPLICATION_ID && !fresh {
        let why = "it belongs to another program".to_owned();
        return Err(OpenError::NotOurs { path: path.to_path_buf(), why });
    }
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_path_buf(), found });
    }
    let mode: String =
        sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut connection).await.map_err(failed)?;
    if mode != "wal" {
        let why = format!("its journal cannot be a write-ahead log here, only {mode:?}: is it on a network drive?");
        return Err(OpenError::Failed { path: path.to_path_buf(), why });
    }
    if found < FORMAT {
        migrate(&mut connection, found).await.map_err(failed)?;
        // The file itself says from now on whose it is, with or without its write-ahead log.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.map_err(failed)?;
    }
    if check {
        check_end(path, &mut connection, kept).await?;
    }
    // What a process that died or whose disk failed has left in the write-ahead log may be in the system's memory alone:
    // after a failed sync the next one succeeds without it. Written into the database it is written anew.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await.map_err(failed)?;
    crate::sqlite::prepare_to_write(&mut connection).await.map_err(failed)?;
    Ok(connection)
}

async fn migrate(connection: &mut SqliteConnection, found: i64) -> Result<(), sqlx::Error> {
    let mut script = String::from("BEGIN IMMEDIATE;\n");
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        script.push_str(step);
    }
    script.push_str(&format!("PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {FORMAT};\nCOMMIT;\n"));
    // Only our own constants are in it.
    sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(connection).await?;
    Ok(())
}

/// The stored end fits the last record. A database that was cut or patched together mostly does not survive this; all of
/// it is only checked by verifying the ledger.
async fn check_end(path: &Path, connection: &mut SqliteConnection, kept: Option<Kept>) -> Result<(), OpenError> {
    let damaged = |why: &str| OpenError::Damaged { path: path.to_path_buf(), why: why.to_owned() };
    let failed = |error: sqlx::Error| sql_error(path, &error);
    // One transaction: other processes may be appending.
    sqlx::query("BEGIN").execute(&mut *connection).await.map_err(failed)?;
    let head = crate::sqlite::read_head(connection).await.map_err(|error| damaged(&error.to_string()))?;
    let last: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT seq, leaf, bytes FROM records ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
    let first: Option<i64> =
        sqlx::query_scalar("SELECT min(seq) FROM records").fetch_one(&mut *connection).await.map_err(failed)?;
    let before = |kept: &Kept| i64::try_from(kept.size).unwrap_or(i64::MAX) - 1;
    let leaf: Option<Vec<u8>> = sqlx::query_scalar("SELECT leaf FROM records WHERE seq = ?1")
        .bind(kept.as_ref().map(before))
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed)?;
    if let Some(kept) = kept {
        let (found, written) = (head.size, kept.size);
        if found < written {
            let why = format!(
                "{written} records were written to it, and it has {found}: the last ones are gone, or an older copy was put back"
            );
            return Err(OpenError::Older { path: path.to_path_buf(), why });
        }
        if leaf.is_none_or(|leaf| leaf != kept.leaf.0) {
            return Err(damaged(&format!("its record {} is not the one that was written", written - 1)));
        }
    }
    match (last, head.last_leaf) {
        (None, None) if head.size == 0 => Ok(()),
        (Some((seq, leaf, _)), Some(stored))
            if seq + 1 == i64::try_from(head.size).unwrap_or(-1) && leaf == stored.0 && first == Some(0) =>
        {
            Ok(())
        }
        _ => Err(damaged("the end of its log is not the end of its records")),
    }
}

/// What SQLite said, as one of ours.
fn sql_error(path: &Path, error: &sqlx::Error) -> OpenError {
    let path = path.to_path_buf();
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i64>().ok());
    let why = error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    // The low byte is the primary code: 11 is SQLITE_CORRUPT, 26 SQLITE_NOTADB.
    match code.map(|code| code & 0xff) {
        Some(11) => OpenError::Damaged { path, why },
        Some(26) => OpenError::NotOurs { path, why },
        _ => OpenError::Failed { path, why },
    }
}
