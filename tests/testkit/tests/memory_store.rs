//! The store in memory keeps the promises of a store.

use std::sync::Arc;

use async_trait::async_trait;
use runbook_model::record::Head;
use runbook_ports::store::{Store as _, StoreError};
use runbook_testkit::memory_store::{AppendFault, MemoryStore};
use runbook_testkit::store_suite::{Place, sealed, verify};

struct Memory(MemoryStore);

#[async_trait]
impl Place for Memory {
    type Store = MemoryStore;

    async fn process(&self) -> Arc<MemoryStore> {
        Arc::new(self.0.another_process())
    }

    async fn kill(&self, store: Arc<MemoryStore>) {
        store.kill();
    }
}

runbook_testkit::store_suite!(Memory(MemoryStore::new()));

#[tokio::test]
async fn it_goes_wrong_when_told_to_and_only_then() {
    let store = MemoryStore::new();
    let run = "019aab00-0000-7000-8000-000000000001".into();
    let fence = store.lease(&run, "ada", &[], 0).await.unwrap();
    store.inject(2, AppendFault::Failed);
    store.inject(3, AppendFault::HeadMoved);
    store.inject(5, AppendFault::FailedAfterWriting);
    store.inject(6, AppendFault::FenceLost);
    let append = async |run_seq| {
        let head = store.head().await.unwrap();
        store.append(sealed(&head, &run, run_seq, 1, Some(fence))).await
    };
    append(0).await.unwrap();
    assert!(matches!(append(1).await, Err(StoreError::Failed(_))));
    assert!(matches!(append(1).await, Err(StoreError::HeadMoved(Head { size: 2, .. }))));
    append(1).await.unwrap();
    assert!(matches!(append(2).await, Err(StoreError::Failed(_))));
    assert_eq!(store.head().await.unwrap().size, 4, "it was written all the same");
    assert!(matches!(append(3).await, Err(StoreError::FenceLost)));
    assert!(matches!(append(3).await, Err(StoreError::FenceLost)), "lost for good");
    assert_eq!(store.appends(), 7);
    assert_eq!(verify(&store).await.size, 4);
}
