//! An append as SQL: one statement, so that the thread that owns the connection is woken once per commit, and the one
//! that waits for it too. It inserts into a view of the connection's own; triggers beside that put each row where it
//! belongs. The texts differ only in how many rows they insert; the connection keeps them prepared.

use runbook_model::{RunOutcome, Sha256};
use runbook_ports::store::{Append, Head, RunIndex, RunStatus, Sealed, Settled, StoreError};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::blob::Packed;

/// The head, a checkpoint, an occurrence and the line in the list of runs.
const FIXED: usize = 4;
/// Rows per text. A larger append is sent as several texts of one transaction.
const ROWS_MAX: usize = 24;

/// Where a connection that appends puts its rows: the first column says which kind it is. Nothing of it is in the file.
pub(crate) const PLACES: &str = "
CREATE TEMP VIEW appended (kind, a, b, c, d, e, f) AS SELECT 0, 0, 0, 0, 0, 0, 0 WHERE 0;
CREATE TEMP TRIGGER appended_head INSTEAD OF INSERT ON appended WHEN NEW.kind = 'head' BEGIN
    UPDATE head SET base = NEW.a, run = NEW.b, fence = NEW.c, size = NEW.d, last_leaf = NEW.e, frontier = NEW.f
    WHERE id = 0;
END;
CREATE TEMP TRIGGER appended_record INSTEAD OF INSERT ON appended WHEN NEW.kind = 'record' BEGIN
    INSERT INTO records (seq, run, run_seq, leaf, bytes) VALUES (NEW.a, NEW.b, NEW.c, NEW.d, NEW.e);
END;
CREATE TEMP TRIGGER appended_blob INSTEAD OF INSERT ON appended WHEN NEW.kind = 'blob' BEGIN
    INSERT OR IGNORE INTO blobs (sha256, length, packed, content) VALUES (NEW.a, NEW.b, NEW.c, NEW.d);
END;
CREATE TEMP TRIGGER appended_checkpoint INSTEAD OF INSERT ON appended WHEN NEW.kind = 'checkpoint' BEGIN
    INSERT INTO checkpoints (size, note, frontier) VALUES (NEW.a, NEW.b, NEW.c);
END;
CREATE TEMP TRIGGER appended_occurrence INSTEAD OF INSERT ON appended WHEN NEW.kind = 'occurrence' BEGIN
    INSERT INTO occurrences (schedule, at_ms, run, seq) VALUES (NEW.a, NEW.b, NEW.c, NEW.d);
END;
CREATE TEMP TRIGGER appended_run INSTEAD OF INSERT ON appended WHEN NEW.kind = 'run' BEGIN
    INSERT INTO runs (run, started_ms, header, status, outcome, ended_ms)
    VALUES (NEW.a, NEW.b, NEW.c, NEW.d, NEW.e, NEW.f)
    ON CONFLICT (run) DO UPDATE SET started_ms = excluded.started_ms, header = excluded.header,
        status = excluded.status, outcome = excluded.outcome, ended_ms = excluded.ended_ms;
END;
";

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

    /// One more row of the insert.
    fn row(&mut self, kind: &str, values: impl FnOnce(&mut Row<'_>) -> Result<(), Error>) -> Result<(), Error> {
        self.text.push_str(if self.rows == 0 { "INSERT INTO appended VALUES ('" } else { ", ('" });
        self.text.push_str(kind);
        self.text.push('\'');
        let mut row = Row { script: self, values: 0 };
        values(&mut row)?;
        for _ in row.values..VALUES {
            self.text.push_str(", NULL");
        }
        self.text.push(')');
        self.rows += 1;
        Ok(())
    }

    async fn send(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if self.rows > 0 {
            // Nothing but our own constants and parameters is in it.
            sqlx::query_with(AssertSqlSafe(self.text), self.arguments).execute(connection).await?;
        }
        Ok(())
    }
}

/// Values of a row, beside its kind.
const VALUES: usize = 6;

/// A row under construction.
struct Row<'a> {
    script: &'a mut Script,
    values: usize,
}

impl Row<'_> {
    /// The next value.
    fn with<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + 'q,
    {
        use sqlx::Arguments as _;
        self.script.arguments.add(value).expect("integers, texts and bytes can be encoded");
        self.script.text.push_str(", ?");
        self.values += 1;
        self
    }
}

/// The rows of a small append without blobs of more than a row, within a transaction that is open.
pub(crate) async fn rows(connection: &mut SqliteConnection, mut append: Append) -> Result<(), Error> {
    let blobs: Vec<_> =
        std::mem::take(&mut append.blobs).into_iter().map(|(digest, content)| (digest, Packed::of(content))).collect();
    if FIXED + append.records.len() + blobs.len() > ROWS_MAX {
        return Err(Error::Unfit("too many rows for one statement"));
    }
    run(connection, append, blobs).await
}

/// Sends the whole append: a statement is a transaction, and so are several between `BEGIN` and `COMMIT`. On an error it
/// may still be open: the caller rolls it back.
pub(crate) async fn run(
    connection: &mut SqliteConnection,
    append: Append,
    blobs: Vec<(Sha256, Packed)>,
) -> Result<(), Error> {
    check(&append)?;
    let rows = FIXED + append.records.len() + blobs.len();
    let whole = rows <= ROWS_MAX;
    if !whole {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    }
    let mut script = Script::new();
    head(&mut script, &append)?;
    if let Some(checkpoint) = append.checkpoint {
        let size = number(checkpoint.size)?;
        // Of a head of another size it would be the wrong one.
        let frontier = (checkpoint.size == append.head.size).then(|| frontier(&append.head));
        script.row("checkpoint", |row| {
            row.with(size).with(checkpoint.note).with(frontier);
            Ok(())
        })?;
    }
    if let Some(Settled { occurrence, run, seq }) = append.settles {
        script.row("occurrence", |row| {
            row.with(occurrence.schedule).with(number(occurrence.at_ms)?);
            row.with(run.as_str().to_owned()).with(number(seq)?);
            Ok(())
        })?;
    }
    if let Some(index) = &append.index {
        run_index(&mut script, index)?;
    }
    for record in append.records {
        script = room(script, connection).await?;
        sealed(&mut script, record)?;
    }
    for (digest, blob) in blobs {
        script = room(script, connection).await?;
        script.row("blob", |row| {
            row.with(digest.0.to_vec()).with(number(blob.length)?);
            row.with(i64::from(blob.packed)).with(blob.content);
            Ok(())
        })?;
    }
    script.send(connection).await?;
    if !whole {
        sqlx::query("COMMIT").execute(connection).await?;
    }
    Ok(())
}

/// The script with room for one more row: sent and begun anew when it has none.
async fn room(script: Script, connection: &mut SqliteConnection) -> Result<Script, sqlx::Error> {
    if script.rows < ROWS_MAX {
        return Ok(script);
    }
    script.send(connection).await?;
    Ok(Script::new())
}

/// The ledger's end. First of all: a trigger of the database refuses what does not go on from where it stands.
fn head(script: &mut Script, append: &Append) -> Result<(), Error> {
    script.row("head", |row| {
        row.with(number(append.expected_size)?);
        row.with(append.fence.as_ref().map(|(run, _)| run.as_str().to_owned()));
        row.with(append.fence.as_ref().map(|(_, fence)| number(fence.0)).transpose()?);
        row.with(number(append.head.size)?);
        row.with(append.head.last_leaf.map(|leaf| leaf.0.to_vec()));
        row.with(frontier(&append.head));
        Ok(())
    })
}

fn frontier(head: &Head) -> Vec<u8> {
    head.frontier.iter().flat_map(|root| root.0).collect()
}

fn sealed(script: &mut Script, record: Sealed) -> Result<(), Error> {
    script.row("record", |row| {
        row.with(number(record.seq)?).with(record.run.as_str().to_owned()).with(number(record.run_seq)?);
        row.with(record.leaf.0.to_vec()).with(record.bytes);
        Ok(())
    })
}

fn run_index(script: &mut Script, index: &RunIndex) -> Result<(), Error> {
    let header = serde_json::to_string(&index.header).expect("a run's header is representable as JSON");
    script.row("run", |row| {
        row.with(index.header.run.as_str().to_owned()).with(number(index.header.started_ms)?).with(header);
        row.with(status_name(index.status)).with(index.outcome.map(RunOutcome::name));
        row.with(index.ended_ms.map(number).transpose()?);
        Ok(())
    })
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
