//! The SQLite store keeps the promises of a store.

use std::sync::Arc;

use async_trait::async_trait;
use runbook_store::SqliteStore;
use runbook_testkit::store_suite::Place;
use tempfile::TempDir;

struct Folder(TempDir);

#[async_trait]
impl Place for Folder {
    type Store = SqliteStore;

    async fn process(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(self.0.path()).await.unwrap())
    }

    /// Within one process: the kernel gives up the lock with the last descriptor, as it does for a dead one. Real
    /// processes are killed in `processes.rs`.
    async fn kill(&self, store: Arc<SqliteStore>) {
        let store = Arc::into_inner(store).expect("the last one to hold the store");
        store.close().await;
    }
}

runbook_testkit::store_suite!(Folder(TempDir::new().unwrap()));
