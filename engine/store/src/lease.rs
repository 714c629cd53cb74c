//! Leases: one controller per run, one run per host.

use runbook_model::{HostName, RunId};
use runbook_ports::store::{Fence, Holder, StoreError};
use sqlx::SqliteConnection;

use crate::append::number;
use crate::process::alive;
use crate::sqlite::{Inner, damaged, failed, unsigned};

/// What is to be leased.
pub(crate) struct Take<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) operator: &'a str,
    pub(crate) hosts: &'a [HostName],
    pub(crate) now_ms: u64,
}

/// Takes the lease in one transaction. On an error the caller rolls it back.
pub(crate) async fn take(
    connection: &mut SqliteConnection,
    inner: &Inner,
    take: &Take<'_>,
) -> Result<Fence, StoreError> {
    let sql = |error: sqlx::Error| failed(&error);
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(sql)?;
    if let Some(by) = holder(connection, inner, take.run).await?.filter(|holder| holder.alive) {
        return Err(StoreError::Held { what: format!("run {}", take.run), by });
    }
    let hosts = serde_json::to_string(take.hosts).expect("host names are representable as JSON");
    // In the order in which they were given, so that the first one that is held is named.
    let held: Vec<(String, String)> = sqlx::query_as(
        "SELECT h.host, h.run FROM json_each(?1) AS wanted JOIN leased_hosts AS h ON h.host = wanted.value \
         WHERE h.run <> ?2 ORDER BY wanted.key",
    )
    .bind(&hosts)
    .bind(take.run.as_str())
    .fetch_all(&mut *connection)
    .await
    .map_err(sql)?;
    let mut dead = std::collections::BTreeSet::new();
    for (host, run) in held {
        if dead.contains(&run) {
            continue;
        }
        match holder(connection, inner, &run.as_str().into()).await? {
            Some(by) if by.alive => return Err(StoreError::Held { what: format!("host {host}"), by }),
            _ => dead.insert(run),
        };
    }
    let fence: i64 = sqlx::query_scalar(
        "INSERT INTO leases (run, fence, process, pid, operator, since_ms) VALUES (?1, 1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (run) DO UPDATE SET fence = fence + 1, process = excluded.process, pid = excluded.pid, \
         operator = excluded.operator, since_ms = excluded.since_ms RETURNING fence",
    )
    .bind(take.run.as_str())
    .bind(inner.mark.name())
    .bind(i64::from(std::process::id()))
    .bind(take.operator)
    .bind(number(take.now_ms)?)
    .fetch_one(&mut *connection)
    .await
    .map_err(sql)?;
    sqlx::query("DELETE FROM leased_hosts WHERE run = ?1")
        .bind(take.run.as_str())
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    sqlx::query("INSERT OR REPLACE INTO leased_hosts (host, run) SELECT value, ?2 FROM json_each(?1)")
        .bind(&hosts)
        .bind(take.run.as_str())
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(sql)?;
    Ok(Fence(unsigned(fence)?))
}

/// Gives a lease up in one transaction. On an error the caller rolls it back.
pub(crate) async fn release(connection: &mut SqliteConnection, run: &RunId, fence: Fence) -> Result<(), StoreError> {
    let sql = |error: sqlx::Error| failed(&error);
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(sql)?;
    let released =
        sqlx::query("UPDATE leases SET process = NULL WHERE run = ?1 AND fence = ?2 AND process IS NOT NULL")
            .bind(run.as_str())
            .bind(number(fence.0)?)
            .execute(&mut *connection)
            .await
            .map_err(sql)?;
    if released.rows_affected() == 0 {
        return Err(StoreError::FenceLost);
    }
    sqlx::query("DELETE FROM leased_hosts WHERE run = ?1")
        .bind(run.as_str())
        .execute(&mut *connection)
        .await
        .map_err(sql)?;
    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(sql)?;
    Ok(())
}

/// Whether the lease with this fence is the run's current one.
pub(crate) async fn holds(connection: &mut SqliteConnection, run: &RunId, fence: Fence) -> Result<bool, StoreError> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT fence FROM leases WHERE run = ?1 AND fence = ?2 AND process IS NOT NULL")
            .bind(run.as_str())
            .bind(number(fence.0)?)
            .fetch_optional(connection)
            .await
            .map_err(|error| failed(&error))?;
    Ok(found.is_some())
}

/// The mark of the process that holds a run.
pub(crate) async fn mark_of(connection: &mut SqliteConnection, run: &RunId) -> Result<Option<String>, StoreError> {
    sqlx::query_scalar("SELECT process FROM leases WHERE run = ?1 AND process IS NOT NULL")
        .bind(run.as_str())
        .fetch_optional(connection)
        .await
        .map_err(|error| failed(&error))
}

/// Who holds a run.
pub(crate) async fn holder(
    connection: &mut SqliteConnection,
    inner: &Inner,
    run: &RunId,
) -> Result<Option<Holder>, StoreError> {
    let row: Option<(String, i64, String, i64)> =
        sqlx::query_as("SELECT process, pid, operator, since_ms FROM leases WHERE run = ?1 AND process IS NOT NULL")
            .bind(run.as_str())
            .fetch_optional(connection)
            .await
            .map_err(|error| failed(&error))?;
    let Some((process, pid, operator, since_ms)) = row else {
        return Ok(None);
    };
    Ok(Some(Holder {
        run: run.clone(),
        operator,
        pid: u32::try_from(pid).map_err(|_| damaged("a process id"))?,
        since_ms: unsigned(since_ms)?,
        alive: alive(&inner.places.marks, &process),
    }))
}
