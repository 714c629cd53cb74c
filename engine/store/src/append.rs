//! An append as SQL: one text with all its statements, sent at once, so that the thread that owns the connection is
//! woken once per commit. The texts differ only in how many rows they insert; the connection keeps them prepared.

use runbook_model::{RunOutcome, Sha256};
use runbook_ports::store::{Append, RunIndex, RunStatus, Sealed, StoreError};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::blob::Packed;

/// Rows per text. A larger append is sent as several texts of one transaction.
const ROWS_MAX: usize = 24;

/// A text under construction, with the values of its parameters.
struct Script {
    text: String,
    arguments: SqliteArguments,
    rows: usize,
}

impl Script {
    fn new() -> Self {
        Self { text: String::with_capacity(512), arguments: SqliteArguments::default(), rows: 0 }
    }

    fn sql(&mut self, sql: &str) {
        self.text.push_str(sql);
    }

    /// Binds the next value and writes its parameter.
    fn bind<'q, T>(&mut self, value: T)
    where
        T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + 'q,
    {
        use sqlx::Arguments as _;
        self.arguments.add(value).expect("integers, texts and bytes can be encoded");
        // Without a number: each statement of a text takes the values that follow those of the one before it.
        self.text.push('?');
    }

    /// `(?, ?), (?, …`: one more row of an insert.
    fn row(&mut self, first: bool) {
        self.sql(if first { " (" } else { ", (" });
        self.rows += 1;
    }

    async fn send(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        // Nothing but our own constants and parameters is in it.
        sqlx::query_with(AssertSqlSafe(self.text), self.arguments).execute(connection).await?;
        Ok(())
    }
}

/// Sends the whole transaction. On an error it may still be open: the caller rolls it back.
pub(crate) async fn run(
    connection: &mut SqliteConnection,
    append: &Append,
    blobs: &[(Sha256, Packed)],
) -> Result<(), Error> {
    check(append)?;
    let mut script = Script::new();
    script.sql("BEGIN IMMEDIATE; UPDATE head SET base = ");
    script.bind(number(append.expected_size)?);
    script.sql(", run = ");
    script.bind(append.fence.as_ref().map(|(run, _)| run.as_str().to_owned()));
    script.sql(", fence = ");
    script.bind(append.fence.as_ref().map(|(_, fence)| number(fence.0)).transpose()?);
    script.sql(", size = ");
    script.bind(number(append.head.size)?);
    script.sql(", last_leaf = ");
    script.bind(append.head.last_leaf.map(|leaf| leaf.0.to_vec()));
    script.sql(", frontier = ");
    script.bind(append.head.frontier.iter().flat_map(|root| root.0).collect::<Vec<u8>>());
    script.sql(" WHERE id = 0;");

    for records in append.records.chunks(ROWS_MAX) {
        script = room(script, records.len(), connection).await?;
        script.sql(" INSERT INTO records (seq, run, run_seq, leaf, bytes) VALUES");
        for (n, record) in records.iter().enumerate() {
            insert_record(&mut script, record, n == 0)?;
        }
        script.sql(";");
    }
    for blobs in blobs.chunks(ROWS_MAX) {
        script = room(script, blobs.len(), connection).await?;
        script.sql(" INSERT OR IGNORE INTO blobs (sha256, length, packed, content) VALUES");
        for (n, (digest, blob)) in blobs.iter().enumerate() {
            script.row(n == 0);
            script.bind(digest.0.to_vec());
            script.sql(", ");
            script.bind(number(blob.length)?);
            script.sql(", ");
            script.bind(i64::from(blob.packed));
            script.sql(", ");
            script.bind(blob.content.clone());
            script.sql(")");
        }
        script.sql(";");
    }
    if let Some(checkpoint) = &append.checkpoint {
        script.sql(" INSERT INTO checkpoints (size, note) VALUES (");
        script.bind(number(checkpoint.size)?);
        script.sql(", ");
        script.bind(checkpoint.note.clone());
        script.sql(");");
    }
    if let Some(index) = &append.index {
        upsert_index(&mut script, index)?;
    }
    script.sql(" COMMIT;");
    script.send(connection).await?;
    Ok(())
}

/// The script with room for `rows` more rows: sent and begun anew when it has none.
async fn room(script: Script, rows: usize, connection: &mut SqliteConnection) -> Result<Script, sqlx::Error> {
    if script.rows + rows <= ROWS_MAX {
        return Ok(script);
    }
    script.send(connection).await?;
    Ok(Script::new())
}

fn insert_record(script: &mut Script, record: &Sealed, first: bool) -> Result<(), Error> {
    script.row(first);
    script.bind(number(record.seq)?);
    script.sql(", ");
    script.bind(record.run.as_str().to_owned());
    script.sql(", ");
    script.bind(number(record.run_seq)?);
    script.sql(", ");
    script.bind(record.leaf.0.to_vec());
    script.sql(", ");
    script.bind(record.bytes.clone());
    script.sql(")");
    Ok(())
}

fn upsert_index(script: &mut Script, index: &RunIndex) -> Result<(), Error> {
    script.sql(" INSERT INTO runs (run, started_ms, header, status, outcome, ended_ms) VALUES (");
    script.bind(index.header.run.as_str().to_owned());
    script.sql(", ");
    script.bind(number(index.header.started_ms)?);
    script.sql(", ");
    script.bind(serde_json::to_string(&index.header).expect("a run's header is representable as JSON"));
    script.sql(", ");
    script.bind(status_name(index.status));
    script.sql(", ");
    script.bind(index.outcome.map(RunOutcome::name));
    script.sql(", ");
    script.bind(index.ended_ms.map(number).transpose()?);
    script.sql(
        ") ON CONFLICT (run) DO UPDATE SET started_ms = excluded.started_ms, header = excluded.header, \
         status = excluded.status, outcome = excluded.outcome, ended_ms = excluded.ended_ms;",
    );
    Ok(())
}

/// What cannot be the continuation of the ledger is not written, whoever made it.
fn check(append: &Append) -> Result<(), Error> {
    let in_order = append.records.iter().zip(append.expected_size..).all(|(record, seq)| record.seq == seq);
    let size = append.expected_size + append.records.len() as u64;
    let last = append.records.last().is_none_or(|record| append.head.last_leaf == Some(record.leaf));
    let frontier = append.head.frontier.len() == append.head.size.count_ones() as usize;
    if in_order && last && frontier && append.head.size == size {
        return Ok(());
    }
    Err(Error::Unfit("the records to append are not in order, or do not come to the end given with them"))
}

pub(crate) fn status_name(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Suspended => "suspended",
        RunStatus::Ended => "ended",
    }
}

/// SQLite's integers have a sign.
pub(crate) fn number(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::Unfit("a number is too large for the database"))
}

/// Why an append did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    #[error("{0}")]
    Unfit(&'static str),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(error) => crate::sqlite::failed(&error),
            Error::Unfit(why) => StoreError::Failed(why.to_owned()),
        }
    }
}
