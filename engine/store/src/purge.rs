//! Contents that have outlived their time are removed; the log keeps its shape, and every proof stays good.

use runbook_model::{RunId, Sha256};
use runbook_ports::store::StoreError;
use sqlx::AssertSqlSafe;

use crate::blob_file;
use crate::folder::sync_folder;
use crate::sqlite::{SqliteStore, failed};
use crate::tail::lift;

impl SqliteStore {
    /// Removes the bodies of a run's records (their hashes and places stay), its line in the list of runs, and these
    /// blobs. That it may be done, and that
    /// it is on record, is the caller's part. May be repeated: what is gone already is no error. When it returns, nothing
    /// of it can be read from the database's files any more, as far as SQLite and the file system go. It takes as long, and
    /// as much room, as writing the database anew.
    ///
    /// # Errors
    /// When the database or a file fails. Some of it may be gone then: call it again.
    pub async fn purge(&self, run: &RunId, blobs: &[Sha256]) -> Result<(), StoreError> {
        let (inner, run, digests) = (self.0.clone(), run.clone(), blobs.to_vec());
        self.apart(async move {
            inner
                .write(async |connection| {
                    let sql = |error: sqlx::Error| failed(&error);
                    // What is removed is written over, not only forgotten.
                    sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await.map_err(sql)?;
                    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(sql)?;
                    let put_back = lift(connection, &["records_never_change"]).await?;
                    sqlx::query("UPDATE records SET bytes = x'' WHERE run = ?1")
                        .bind(run.as_str())
                        .execute(&mut *connection)
                        .await
                        .map_err(sql)?;
                    sqlx::raw_sql(AssertSqlSafe(put_back)).execute(&mut *connection).await.map_err(sql)?;
                    sqlx::query("DELETE FROM runs WHERE run = ?1")
                        .bind(run.as_str())
                        .execute(&mut *connection)
                        .await
                        .map_err(sql)?;
                    // What people outside were told of it; that they were is on record.
                    sqlx::query("DELETE FROM outbox WHERE run = ?1")
                        .bind(run.as_str())
                        .execute(&mut *connection)
                        .await
                        .map_err(sql)?;
                    for digest in &digests {
                        sqlx::query("DELETE FROM blobs WHERE sha256 = ?1")
                            .bind(digest.0.to_vec())
                            .execute(&mut *connection)
                            .await
                            .map_err(sql)?;
                    }
                    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(sql)?;
                    // A page from which rows had moved to another may still have them where it is free now: pages are written anew.
                    sqlx::query("VACUUM").execute(&mut *connection).await.map_err(sql)?;
                    // The write-ahead log still has the old pages until it is begun anew. A reader may be in the way; the
                    // next process that closes the database last does it then.
                    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(connection).await.map_err(sql)?;
                    Ok(())
                })
                .await?;
            let folder = inner.places.blobs.clone();
            tokio::task::spawn_blocking(move || remove_files(&folder, &digests))
                .await
                .unwrap_or_else(|error| Err(StoreError::Failed(format!("blobs were being removed: {error}"))))
        })
        .await
    }
}

fn remove_files(folder: &std::path::Path, digests: &[Sha256]) -> Result<(), StoreError> {
    for digest in digests {
        let path = blob_file::place(folder, digest);
        let parent = path.parent().expect("a blob's place is in a folder");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(blob_file::io_failed(&path, &error)),
            Ok(()) => sync_folder(parent).map_err(|error| blob_file::io_failed(parent, &error))?,
        }
    }
    Ok(())
}
