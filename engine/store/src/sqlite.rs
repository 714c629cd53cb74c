//! The store: one connection that writes, a few that read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::schedule::Occurrence;
use runbook_model::{HostName, RunId, RunOutcome, Sha256};
use runbook_ports::store::{
    Append, Checkpoint, Fence, Head, Holder, RunIndex, RunStatus, Sealed, Settled, Store, StoreError,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use crate::append;
use crate::blob::{Packed, SMALL_MAX};
use crate::end::End;
use crate::lease;
use crate::open::{OpenError, Opened, Places, open};
use crate::process::{Mark, wait_for_end};

/// Connections that read at the same time. More readers wait for one of these.
const READERS: u32 = 3;

/// While a lease is waited for, it is looked at so often, beside its process, whose end is told at once.
const LOOK: Duration = Duration::from_secs(5);
/// The same when the end of its process cannot be waited for.
const LOOK_ALONE: Duration = Duration::from_millis(500);

/// The log and the blobs of one installation. Cheap to clone; the clones are one process's view.
#[derive(Clone)]
pub struct SqliteStore(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) places: Places,
    pub(crate) mark: Mark,
    end: End,
    pub(crate) readers: SqlitePool,
    writer: Mutex<Option<SqliteConnection>>,
    options: SqliteConnectOptions,
}

impl SqliteStore {
    /// Opens the store in `folder`, and makes it when it is not there. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be used or the database in it is not one that this version may write; nothing was changed.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        let Opened { places, mark, end, writer, options } = open(folder).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        Ok(Self(Arc::new(Inner { places, mark, end, readers, writer: Mutex::new(Some(writer)), options })))
    }

    /// Whether there is a store in `folder`, without making one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join("runbook.db").exists()
    }

    /// Closes the store: waits for what is being written and folds the write-ahead log into the database when no other
    /// process has it open. Dropping it instead loses nothing.
    pub async fn close(self) {
        self.0.readers.close().await;
        if let Some(writer) = self.0.writer.lock().await.take() {
            // Everything that was promised is durable already.
            let _ = writer.close().await;
        }
    }

    /// Does `work` on its own task, so that a caller who stops waiting does not leave a transaction half done.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::spawn(work)
            .await
            .unwrap_or_else(|error| Err(StoreError::Failed(format!("writing was broken off: {error}"))))
    }
}

impl Inner {
    /// The connection that writes, for one piece of work. After a failure it is opened anew: whatever state the old one
    /// was in is gone with it.
    pub(crate) async fn write<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut slot = self.writer.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => connect_to_write(&self.options).await.map_err(|error| failed(&error))?,
        };
        let result = work(&mut connection).await;
        match &result {
            Ok(_) => *slot = Some(connection),
            Err(StoreError::Failed(_)) => {
                roll_back(&mut connection).await;
                let _ = connection.close().await;
            }
            Err(_) => {
                roll_back(&mut connection).await;
                *slot = Some(connection);
            }
        }
        result
    }

    async fn append(&self, mut append: Append) -> Result<(), StoreError> {
        let mut blobs = Vec::with_capacity(append.blobs.len());
        for (digest, content) in std::mem::take(&mut append.blobs) {
            if content.len() > SMALL_MAX {
                self.put_large(&content).await?;
            } else {
                blobs.push((digest, Packed::of(content)));
            }
        }
        let head = append.head.clone();
        let settles = append.settles.as_ref().map(|settled| settled.occurrence.clone());
        let written = self.write(async |connection| match append::run(connection, append, blobs).await {
            Err(append::Error::Sql(error)) if said(&error, "fence lost") => Err(StoreError::FenceLost),
            Err(append::Error::Sql(error)) if said(&error, "head moved") => {
                roll_back(connection).await;
                Err(StoreError::HeadMoved(read_head(connection).await?))
            }
            Err(append::Error::Sql(error)) if said(&error, "occurrence settled") => {
                Err(settles.map_or_else(|| failed(&error), StoreError::Settled))
            }
            result => Ok(result?),
        });
        written.await?;
        self.end.keep(&head);
        Ok(())
    }
}

/// A connection that can append.
pub(crate) async fn connect_to_write(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    prepare_to_write(&mut connection).await?;
    Ok(connection)
}

/// Makes a connection one that can append.
pub(crate) async fn prepare_to_write(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(append::PLACES).execute(connection).await?;
    Ok(())
}

/// Ends a transaction that may be open. That there is none is no error.
async fn roll_back(connection: &mut SqliteConnection) {
    let _ = sqlx::query("ROLLBACK").execute(connection).await;
}

/// Whether a trigger of ours said this.
fn said(error: &sqlx::Error, what: &str) -> bool {
    error.as_database_error().is_some_and(|error| error.message() == what)
}

/// What SQLite said, for people.
pub(crate) fn failed(error: &sqlx::Error) -> StoreError {
    StoreError::Failed(match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    })
}

/// The code of the page on an error that a person sees.
pub fn code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Newer { .. } => "RB0502",
        StoreError::Failed(_) | StoreError::HeadMoved(_) => "RB0504",
        StoreError::Held { .. } => "RB0506",
        StoreError::FenceLost => "RB0507",
        StoreError::Missing(_) => "RB0508",
        StoreError::Corrupt(_) => "RB0509",
        StoreError::TooLarge(_) => "RB0510",
        StoreError::Settled(_) => "RB0746",
    }
}

pub(crate) async fn read_head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    let (size, last_leaf, frontier): (i64, Option<Vec<u8>>, Vec<u8>) =
        sqlx::query_as("SELECT size, last_leaf, frontier FROM head WHERE id = 0")
            .fetch_one(connection)
            .await
            .map_err(|error| failed(&error))?;
    let size = unsigned(size)?;
    let last_leaf = last_leaf.map(|leaf| digest(&leaf)).transpose()?;
    let frontier: Vec<Sha256> = frontier.chunks(32).map(digest).collect::<Result<_, _>>()?;
    if frontier.len() != size.count_ones() as usize || last_leaf.is_some() != (size > 0) {
        return Err(damaged("the end of the log"));
    }
    Ok(Head { size, last_leaf, frontier })
}

pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::Failed(format!("the database is damaged: {what} is not as runbook writes it"))
}

pub(crate) fn unsigned(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| damaged("a number"))
}

fn digest(bytes: &[u8]) -> Result<Sha256, StoreError> {
    bytes.try_into().map(Sha256).map_err(|_| damaged("a digest"))
}

pub(crate) type RecordRow = (i64, String, i64, Vec<u8>, Vec<u8>);

fn record((seq, run, run_seq, leaf, bytes): RecordRow) -> Result<Sealed, StoreError> {
    Ok(Sealed { seq: unsigned(seq)?, run: run.into(), run_seq: unsigned(run_seq)?, leaf: digest(&leaf)?, bytes })
}

type RunRow = (String, String, Option<String>, Option<i64>);

fn run_index((header, status, outcome, ended_ms): RunRow) -> Result<RunIndex, StoreError> {
    let status = match status.as_str() {
        "running" => RunStatus::Running,
        "suspended" => RunStatus::Suspended,
        "ended" => RunStatus::Ended,
        _ => return Err(damaged("a run's status")),
    };
    let outcome: Option<RunOutcome> =
        outcome.map(|name| serde_json::from_value(name.into()).map_err(|_| damaged("a run's outcome"))).transpose()?;
    let header = serde_json::from_str(&header).map_err(|_| damaged("a run's header"))?;
    Ok(RunIndex { header, status, outcome, ended_ms: ended_ms.map(unsigned).transpose()? })
}

/// At most as many as asked for.
fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// From a place that the database may not even be able to hold.
fn from(from: u64) -> i64 {
    i64::try_from(from).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for SqliteStore {
    async fn head(&self) -> Result<Head, StoreError> {
        let mut reader = self.0.readers.acquire().await.map_err(|error| failed(&error))?;
        read_head(&mut reader).await
    }

    async fn append(&self, append: Append) -> Result<(), StoreError> {
        let inner = self.0.clone();
        self.apart(async move { inner.append(append).await }).await
    }

    async fn records(&self, run: &RunId, from_seq: u64, limit_to: usize) -> Result<Vec<Sealed>, StoreError> {
        let rows: Vec<RecordRow> = sqlx::query_as(
            "SELECT seq, run, run_seq, leaf, bytes FROM records WHERE run = ?1 AND run_seq >= ?2 \
             ORDER BY run_seq LIMIT ?3",
        )
        .bind(run.as_str())
        .bind(from(from_seq))
        .bind(limit(limit_to))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| failed(&error))?;
        rows.into_iter().map(record).collect()
    }

    async fn ledger(&self, from_seq: u64, limit_to: usize) -> Result<Vec<Sealed>, StoreError> {
        let rows: Vec<RecordRow> =
            sqlx::query_as("SELECT seq, run, run_seq, leaf, bytes FROM records WHERE seq >= ?1 ORDER BY seq LIMIT ?2")
                .bind(from(from_seq))
                .bind(limit(limit_to))
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| failed(&error))?;
        rows.into_iter().map(record).collect()
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as("SELECT size, note FROM checkpoints ORDER BY id")
            .fetch_all(&self.0.readers)
            .await
            .map_err(|error| failed(&error))?;
        rows.into_iter().map(|(size, note)| Ok(Checkpoint { size: unsigned(size)?, note })).collect()
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let row: Option<(i64, String)> = sqlx::query_as("SELECT size, note FROM checkpoints ORDER BY id DESC LIMIT 1")
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| failed(&error))?;
        row.map(|(size, note)| Ok(Checkpoint { size: unsigned(size)?, note })).transpose()
    }

    async fn signed_frontier(&self, size: u64) -> Result<Option<Vec<Sha256>>, StoreError> {
        let row: Option<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT frontier FROM checkpoints WHERE size = ?1 ORDER BY id DESC LIMIT 1")
                .bind(from(size))
                .fetch_optional(&self.0.readers)
                .await
                .map_err(|error| failed(&error))?;
        row.flatten().map(|frontier| frontier.chunks(32).map(digest).collect()).transpose()
    }

    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError> {
        let rows: Vec<(String, i64, String, i64)> = sqlx::query_as(
            "SELECT schedule, at_ms, run, seq FROM occurrences WHERE at_ms >= ?1 ORDER BY schedule, at_ms",
        )
        .bind(from(from_ms))
        .fetch_all(&self.0.readers)
        .await
        .map_err(|error| failed(&error))?;
        let settled = rows.into_iter().map(|(schedule, at_ms, run, seq)| {
            let occurrence = Occurrence { schedule, at_ms: unsigned(at_ms)? };
            Ok(Settled { occurrence, run: run.into(), seq: unsigned(seq)? })
        });
        settled.collect()
    }

    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError> {
        let rows: Vec<RunRow> =
            sqlx::query_as("SELECT header, status, outcome, ended_ms FROM runs ORDER BY started_ms, run")
                .fetch_all(&self.0.readers)
                .await
                .map_err(|error| failed(&error))?;
        rows.into_iter().map(run_index).collect()
    }

    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError> {
        let inner = self.0.clone();
        let (run, operator, hosts) = (run.clone(), operator.to_owned(), hosts.to_vec());
        self.apart(async move {
            let take = lease::Take { run: &run, operator: &operator, hosts: &hosts, now_ms };
            inner.write(async |connection| lease::take(connection, &inner, &take).await).await
        })
        .await
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        let inner = self.0.clone();
        let run = run.clone();
        self.apart(async move { inner.write(async |connection| lease::release(connection, &run, fence).await).await })
            .await
    }

    async fn until_released(&self, by: &Holder) {
        let mark = async || {
            let mut reader = self.0.readers.acquire().await.map_err(|error| failed(&error))?;
            lease::mark_of(&mut reader, &by.run).await
        };
        let Ok(Some(held)) = mark().await else {
            return;
        };
        let (folder, name) = (self.0.places.marks.clone(), held.clone());
        let (say, mut ended) = tokio::sync::oneshot::channel();
        // A thread of its own: a lock that is waited for cannot be given up, and must not keep the program from ending.
        let waiting = std::thread::Builder::new().name("lease".into()).spawn(move || {
            wait_for_end(&folder, &name);
            let _ = say.send(());
        });
        // A process may give up a lease and live on; that is rare, so it is looked after rarely.
        let mut look = tokio::time::interval(if waiting.is_ok() { LOOK } else { LOOK_ALONE });
        look.tick().await;
        loop {
            tokio::select! {
                _ = &mut ended, if waiting.is_ok() => return,
                _ = look.tick() => match mark().await {
                    Ok(Some(now)) if now == held => {}
                    _ => return,
                },
            }
        }
    }

    async fn holds(&self, run: &RunId, fence: Fence) -> Result<bool, StoreError> {
        let mut reader = self.0.readers.acquire().await.map_err(|error| failed(&error))?;
        lease::holds(&mut reader, run, fence).await
    }

    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError> {
        let mut reader = self.0.readers.acquire().await.map_err(|error| failed(&error))?;
        lease::holder(&mut reader, &self.0, run).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_that_writes_is_durable_even_one_opened_after_a_failure() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let settings = async || {
            let read = async |connection: &mut SqliteConnection| {
                let mut values = Vec::new();
                for pragma in ["PRAGMA synchronous", "PRAGMA foreign_keys", "PRAGMA trusted_schema"] {
                    values.push(sqlx::query_scalar::<_, i64>(pragma).fetch_one(&mut *connection).await.unwrap());
                }
                let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(connection).await.unwrap();
                Ok((values, mode))
            };
            store.0.write(read).await.unwrap()
        };
        // 2 is FULL.
        let wanted = (vec![2, 1, 0], "wal".to_owned());
        assert_eq!(settings().await, wanted);
        let failed = store.0.write(async |_| Err::<(), _>(StoreError::Failed("a test".to_owned()))).await;
        assert!(failed.is_err());
        assert!(store.0.writer.lock().await.is_none(), "the connection that failed is gone");
        assert_eq!(settings().await, wanted);
    }

    #[tokio::test]
    async fn connections_that_read_cannot_write() {
        let folder = tempfile::TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let written =
            sqlx::query("INSERT INTO checkpoints (size, note) VALUES (0, '')").execute(&store.0.readers).await;
        assert!(written.unwrap_err().to_string().contains("readonly"));
    }

    #[test]
    fn every_code_has_a_page() {
        let holder = Holder { run: "r".into(), operator: "o".into(), pid: 1, since_ms: 0, alive: true };
        let errors = [
            StoreError::HeadMoved(Head::default()),
            StoreError::FenceLost,
            StoreError::Held { what: "host web1".into(), by: holder },
            StoreError::Missing("x".into()),
            StoreError::Corrupt("x".into()),
            StoreError::TooLarge("x".into()),
            StoreError::Newer { found: 2, known: 1 },
            StoreError::Failed("x".into()),
        ];
        let (path, why) = (std::path::PathBuf::new, String::new);
        let opening = [
            OpenError::Folder { path: path(), source: std::io::Error::other("x") },
            OpenError::NotOurs { path: path(), why: why() },
            OpenError::Newer { path: path(), found: 2 },
            OpenError::Damaged { path: path(), why: why() },
            OpenError::Older { path: path(), why: why() },
            OpenError::Locked { path: path() },
            OpenError::InUse { path: path(), pid: "1".into() },
            OpenError::Failed { path: path(), why: why() },
        ];
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        for code in errors.iter().map(code).chain(opening.iter().map(OpenError::code)) {
            let page = std::fs::read_to_string(pages.join(format!("{code}.md"))).unwrap();
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
        }
    }
}
