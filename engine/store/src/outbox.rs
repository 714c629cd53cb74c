//! What is to be told to people outside, kept until it was. No evidence: what became of a message is a notice in the log.
//!
//! A message is sent by whoever claims it: for a time, and only as long as its process lives. Whoever dies between sending
//! and noting it down leaves the message waiting, and it is sent again under the same id: at least once, never silently
//! not at all.

use runbook_model::{RunId, Sha256};
use runbook_ports::store::StoreError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::append::number;
use crate::process::alive;
use crate::sqlite::{SqliteStore, damaged, failed, unsigned};

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// It will be sent.
    Waiting,
    /// It was taken.
    Delivered,
    /// It was not, and is not sent any more.
    GivenUp,
}

impl MessageState {
    /// The word in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            MessageState::Waiting => "waiting",
            MessageState::Delivered => "delivered",
            MessageState::GivenUp => "given_up",
        }
    }
}

/// A message to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same news to the same channel has the same one.
    pub id: String,
    /// The channel's name in the settings.
    pub channel: String,
    /// What kind of news.
    pub kind: String,
    /// The run that it is about.
    pub run: Option<RunId>,
    /// The news, as JSON.
    pub news: String,
    /// When it was put here (Unix ms).
    pub created_ms: u64,
    /// How often it was tried to send it.
    pub attempts: u32,
    /// It is not tried before that (Unix ms).
    pub next_ms: u64,
    /// Where it stands.
    pub state: MessageState,
    /// What was answered to the last attempt.
    pub answer: String,
    /// Digest of what was sent last.
    pub sha256: Option<Sha256>,
    /// When it was delivered or given up (Unix ms).
    pub settled_ms: Option<u64>,
}

impl Message {
    /// A message that was not tried yet.
    pub fn new(id: String, channel: String, kind: &str, run: Option<RunId>, news: String, now_ms: u64) -> Self {
        Self {
            id,
            channel,
            kind: kind.to_owned(),
            run,
            news,
            created_ms: now_ms,
            attempts: 0,
            next_ms: now_ms,
            state: MessageState::Waiting,
            answer: String::new(),
            sha256: None,
            settled_ms: None,
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Where the message stands from now on.
    pub state: MessageState,
    /// When (Unix ms).
    pub at_ms: u64,
    /// When it is tried again (Unix ms), while it waits.
    pub next_ms: u64,
    /// What was answered.
    pub answer: String,
    /// Digest of what was sent, when anything was.
    pub sha256: Option<Sha256>,
}

const COLUMNS: &str = "id, channel, kind, run, news, created_ms, attempts, next_ms, state, answer, sha256, settled_ms, claimed_by, claimed_ms";

fn message(row: &SqliteRow) -> Result<Message, StoreError> {
    let sql = |error: sqlx::Error| failed(&error);
    let state: String = row.try_get("state").map_err(sql)?;
    let sha256: Option<Vec<u8>> = row.try_get("sha256").map_err(sql)?;
    let settled_ms: Option<i64> = row.try_get("settled_ms").map_err(sql)?;
    let attempts: i64 = row.try_get("attempts").map_err(sql)?;
    Ok(Message {
        id: row.try_get("id").map_err(sql)?,
        channel: row.try_get("channel").map_err(sql)?,
        kind: row.try_get("kind").map_err(sql)?,
        run: row.try_get::<Option<String>, _>("run").map_err(sql)?.map(RunId::from),
        news: row.try_get("news").map_err(sql)?,
        created_ms: unsigned(row.try_get("created_ms").map_err(sql)?)?,
        attempts: u32::try_from(attempts).map_err(|_| damaged("a message"))?,
        next_ms: unsigned(row.try_get("next_ms").map_err(sql)?)?,
        state: match state.as_str() {
            "waiting" => MessageState::Waiting,
            "delivered" => MessageState::Delivered,
            _ => MessageState::GivenUp,
        },
        answer: row.try_get("answer").map_err(sql)?,
        sha256: sha256
            .map(|bytes| bytes.as_slice().try_into().map(Sha256).map_err(|_| damaged("a message")))
            .transpose()?,
        settled_ms: settled_ms.map(unsigned).transpose()?,
    })
}

impl SqliteStore {
    /// Puts messages into the outbox; durable when it returns. One whose id is there already changes nothing. Gives how
    /// many were new.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_put(&self, messages: Vec<Message>) -> Result<usize, StoreError> {
        let inner = self.0.clone();
        self.apart(async move { inner.write(async |connection| put(connection, &messages).await).await }).await
    }

    /// Claims the message that has waited longest of those that are due and whose channel is one of `channels`, for this
    /// process and until `until_ms`. `None`: there is none that nobody sends.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_claim(
        &self,
        channels: &[String],
        now_ms: u64,
        until_ms: u64,
    ) -> Result<Option<Message>, StoreError> {
        let (inner, channels) = (self.0.clone(), serde_json::to_string(channels).expect("names are JSON"));
        self.apart(async move {
            inner
                .write(async |connection| {
                    let sql = |error: sqlx::Error| failed(&error);
                    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(sql)?;
                    let due = format!(
                        "SELECT {COLUMNS} FROM outbox WHERE state = 'waiting' AND next_ms <= ?1 AND channel IN \
                         (SELECT value FROM json_each(?2)) ORDER BY next_ms, id"
                    );
                    // Only our own constants and parameters are in it.
                    let rows = sqlx::query(sqlx::AssertSqlSafe(due))
                        .bind(number(now_ms)?)
                        .bind(&channels)
                        .fetch_all(&mut *connection)
                        .await
                        .map_err(sql)?;
                    let mut free = None;
                    for row in &rows {
                        let by: Option<String> = row.try_get("claimed_by").map_err(sql)?;
                        let until: Option<i64> = row.try_get("claimed_ms").map_err(sql)?;
                        let taken = by.zip(until).is_some_and(|(by, until)| {
                            until > number(now_ms).unwrap_or(i64::MAX) && alive(&inner.places.marks, &by)
                        });
                        if !taken {
                            free = Some(message(row)?);
                            break;
                        }
                    }
                    if let Some(message) = &free {
                        sqlx::query("UPDATE outbox SET claimed_by = ?2, claimed_ms = ?3 WHERE id = ?1")
                            .bind(&message.id)
                            .bind(inner.mark.name())
                            .bind(number(until_ms)?)
                            .execute(&mut *connection)
                            .await
                            .map_err(sql)?;
                    }
                    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(sql)?;
                    Ok(free)
                })
                .await
        })
        .await
    }

    /// Makes all that waits due at once.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_hurry(&self) -> Result<(), StoreError> {
        let inner = self.0.clone();
        self.apart(async move {
            inner
                .write(async |connection| {
                    sqlx::query("UPDATE outbox SET next_ms = created_ms WHERE state = 'waiting'")
                        .execute(connection)
                        .await
                        .map_err(|error| failed(&error))?;
                    Ok(())
                })
                .await
        })
        .await
    }

    /// Notes down what became of an attempt with a message that this process has claimed, and gives the claim up. False:
    /// the claim was over and somebody else has it, or has settled the message; nothing was changed.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_tried(&self, id: &str, attempt: Attempt) -> Result<bool, StoreError> {
        let (inner, id) = (self.0.clone(), id.to_owned());
        self.apart(async move {
            inner
                .write(async |connection| {
                    let settled = (attempt.state != MessageState::Waiting).then_some(attempt.at_ms);
                    let done = sqlx::query(
                        "UPDATE outbox SET attempts = attempts + 1, state = ?3, next_ms = ?4, answer = ?5, \
                         sha256 = coalesce(?6, sha256), settled_ms = ?7, claimed_by = NULL, claimed_ms = NULL \
                         WHERE id = ?1 AND claimed_by = ?2 AND state = 'waiting'",
                    )
                    .bind(&id)
                    .bind(inner.mark.name())
                    .bind(attempt.state.name())
                    .bind(number(attempt.next_ms)?)
                    .bind(&attempt.answer)
                    .bind(attempt.sha256.map(|digest| digest.0.to_vec()))
                    .bind(settled.map(number).transpose()?)
                    .execute(connection)
                    .await
                    .map_err(|error| failed(&error))?;
                    Ok(done.rows_affected() == 1)
                })
                .await
        })
        .await
    }

    /// The messages that were settled and whose notice is not in the log yet, oldest first.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_unrecorded(&self) -> Result<Vec<Message>, StoreError> {
        self.messages("state <> 'waiting' AND recorded = 0", "settled_ms").await
    }

    /// That the notices of these messages are in the log.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_recorded(&self, ids: &[String]) -> Result<(), StoreError> {
        let (inner, ids) = (self.0.clone(), serde_json::to_string(ids).expect("ids are JSON"));
        self.apart(async move {
            inner
                .write(async |connection| {
                    sqlx::query("UPDATE outbox SET recorded = 1 WHERE id IN (SELECT value FROM json_each(?1))")
                        .bind(&ids)
                        .execute(connection)
                        .await
                        .map_err(|error| failed(&error))?;
                    Ok(())
                })
                .await
        })
        .await
    }

    /// All messages, oldest first.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox(&self) -> Result<Vec<Message>, StoreError> {
        self.messages("1", "created_ms").await
    }

    /// When the next message of these channels is due (Unix ms); `None`: none waits.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn outbox_next_ms(&self, channels: &[String]) -> Result<Option<u64>, StoreError> {
        let channels = serde_json::to_string(channels).expect("names are JSON");
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT min(next_ms) FROM outbox WHERE state = 'waiting' AND channel IN (SELECT value FROM json_each(?1))",
        )
        .bind(channels)
        .fetch_one(&self.0.readers)
        .await
        .map_err(|error| failed(&error))?;
        next.map(unsigned).transpose()
    }

    async fn messages(&self, which: &str, order: &str) -> Result<Vec<Message>, StoreError> {
        // Only our own constants are in it.
        let text = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM outbox WHERE {which} ORDER BY {order}, id"));
        let rows = sqlx::query(text).fetch_all(&self.0.readers).await.map_err(|error| failed(&error))?;
        rows.iter().map(message).collect()
    }
}

async fn put(connection: &mut SqliteConnection, messages: &[Message]) -> Result<usize, StoreError> {
    let sql = |error: sqlx::Error| failed(&error);
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(sql)?;
    let mut new = 0;
    for message in messages {
        let done = sqlx::query(
            "INSERT OR IGNORE INTO outbox (id, channel, kind, run, news, created_ms, next_ms) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(&message.id)
        .bind(&message.channel)
        .bind(&message.kind)
        .bind(message.run.as_ref().map(RunId::as_str))
        .bind(&message.news)
        .bind(number(message.created_ms)?)
        .bind(number(message.next_ms)?)
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
        new += usize::try_from(done.rows_affected()).unwrap_or(0);
    }
    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(sql)?;
    Ok(new)
}
