//! The end of a database that does not read, and the one way to put it right: everything from a place on is taken out, in
//! one transaction with the record that says so. What place that is, is for the caller to know: nothing below a signed
//! head may go.

use std::fs::File;
use std::path::{Path, PathBuf};

use runbook_ports::store::{Append, Checkpoint, Head, StoreError};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::append::{self, number};
use crate::blob::SMALL_MAX;
use crate::blob_file::Writing;
use crate::end::End;
use crate::folder::sync_folder;
use crate::open::{OpenError, open_for_repair};
use crate::sqlite::{RecordRow, damaged, failed, read_head, unsigned};

/// A row of the log as it stands there, readable or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place in the ledger.
    pub seq: u64,
    /// The run.
    pub run: String,
    /// Place in the run.
    pub run_seq: i64,
    /// What is kept as the record's hash.
    pub leaf: Vec<u8>,
    /// The record.
    pub bytes: Vec<u8>,
}

/// A database whose end is looked at without believing it. While it is there no other process has the store open, and
/// none can open it.
pub struct Tail {
    folder: PathBuf,
    _lock: File,
    connection: SqliteConnection,
}

impl Tail {
    /// Opens the store in `folder`, whatever its end is like.
    ///
    /// # Errors
    /// As [`SqliteStore::open`](crate::SqliteStore::open), but for the end; `InUse` while a process has it open.
    pub async fn open(folder: &Path) -> Result<Self, OpenError> {
        let (lock, connection) = open_for_repair(folder).await?;
        Ok(Self { folder: folder.to_path_buf(), _lock: lock, connection })
    }

    /// The log's end, as it is kept.
    ///
    /// # Errors
    /// When it does not read.
    pub async fn head(&mut self) -> Result<Head, StoreError> {
        read_head(&mut self.connection).await
    }

    /// How many records were written according to the file beside the database; `None` when it does not tell.
    pub fn written(&self) -> Option<u64> {
        End::open(&self.folder.join("end")).ok()?.read().map(|kept| kept.size)
    }

    /// The newest signed head.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_checkpoint(&mut self) -> Result<Option<Checkpoint>, StoreError> {
        let row: Option<(i64, String)> = sqlx::query_as("SELECT size, note FROM checkpoints ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut self.connection)
            .await
            .map_err(|error| failed(&error))?;
        row.map(|(size, note)| Ok(Checkpoint { size: unsigned(size)?, note })).transpose()
    }

    /// Rows from `from` on, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rows(&mut self, from: u64, limit: u32) -> Result<Vec<Row>, StoreError> {
        let rows: Vec<RecordRow> =
            sqlx::query_as("SELECT seq, run, run_seq, leaf, bytes FROM records WHERE seq >= ?1 ORDER BY seq LIMIT ?2")
                .bind(number(from)?)
                .bind(limit)
                .fetch_all(&mut self.connection)
                .await
                .map_err(|error| failed(&error))?;
        rows.into_iter()
            .map(|(seq, run, run_seq, leaf, bytes)| Ok(Row { seq: unsigned(seq)?, run, run_seq, leaf, bytes }))
            .collect()
    }

    /// Takes every record from `keep.size` on out of the log, makes `keep` its end and appends to it: all or nothing,
    /// durable when it returns. Runs that lose records count as running again, by nobody; one that loses all of them is
    /// gone from the list of runs.
    ///
    /// # Errors
    /// When it failed; may be repeated.
    pub async fn cut(mut self, keep: &Head, mut append: Append) -> Result<(), StoreError> {
        let mut small = Vec::new();
        for (n, (digest, content)) in std::mem::take(&mut append.blobs).into_iter().enumerate() {
            if content.len() <= SMALL_MAX {
                small.push((digest, content));
                continue;
            }
            let mut writing = Writing::begin(self.folder.join(format!("blobs/tmp/repair-{n}")))?;
            writing.write(&content)?;
            writing.finish(&self.folder.join("blobs/sha256"))?;
        }
        append.blobs = small;
        let cut = self.cut_within(keep, append).await;
        if cut.is_err() {
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        }
        let closed = self.connection.close().await.map_err(|error| failed(&error));
        cut.and(closed)?;
        forget_end(&self.folder)
    }

    async fn cut_within(&mut self, keep: &Head, append: Append) -> Result<(), StoreError> {
        let connection = &mut self.connection;
        let size = number(keep.size)?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(|error| failed(&error))?;
        let put_back = lift(connection, &["records_never_go", "head_moves_from_its_base"]).await?;
        for statement in [
            "UPDATE runs SET status = 'running', outcome = NULL, ended_ms = NULL
             WHERE run IN (SELECT run FROM records WHERE seq >= ?1)",
            "DELETE FROM runs WHERE run NOT IN (SELECT run FROM records WHERE seq < ?1)",
            "DELETE FROM records WHERE seq >= ?1",
            "DELETE FROM checkpoints WHERE size > ?1",
        ] {
            sqlx::query(statement).bind(size).execute(&mut *connection).await.map_err(|error| failed(&error))?;
        }
        sqlx::query(
            "UPDATE head SET base = ?1, run = NULL, fence = NULL, size = ?1, last_leaf = ?2, frontier = ?3 WHERE id = 0",
        )
        .bind(size)
        .bind(keep.last_leaf.map(|leaf| leaf.0.to_vec()))
        .bind(keep.frontier.iter().flat_map(|root| root.0).collect::<Vec<u8>>())
        .execute(&mut *connection)
        .await
        .map_err(|error| failed(&error))?;
        sqlx::raw_sql(AssertSqlSafe(put_back)).execute(&mut *connection).await.map_err(|error| failed(&error))?;
        append::rows(connection, append).await?;
        sqlx::query("COMMIT").execute(connection).await.map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Takes the database for what it is, whatever the file beside it says was written. Nothing else is changed.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub async fn accept(self) -> Result<(), StoreError> {
        self.connection.close().await.map_err(|error| failed(&error))?;
        forget_end(&self.folder)
    }
}

/// Removes the file that says how many records were written.
fn forget_end(folder: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(folder.join("end")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Failed(format!("{}: {error}", folder.join("end").display())))
        }
        _ => sync_folder(folder).map_err(|error| StoreError::Failed(format!("{}: {error}", folder.display()))),
    }
}

/// Takes triggers away, within a transaction that is open, and gives the text that puts them back.
pub(crate) async fn lift(connection: &mut SqliteConnection, triggers: &[&str]) -> Result<String, StoreError> {
    let mut put_back = String::new();
    for trigger in triggers {
        let text: Option<String> =
            sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?1")
                .bind(*trigger)
                .fetch_optional(&mut *connection)
                .await
                .map_err(|error| failed(&error))?;
        put_back.push_str(&text.ok_or_else(|| damaged("a trigger"))?);
        put_back.push_str(";\n");
        // Only our own constants are in it.
        let drop = AssertSqlSafe(format!("DROP TRIGGER {trigger}"));
        sqlx::query(drop).execute(&mut *connection).await.map_err(|error| failed(&error))?;
    }
    Ok(put_back)
}
