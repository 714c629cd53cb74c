//! The two ways in which records leave the log: a tail that does not read is cut off, and bodies whose time is over go.

use std::fs;
use std::path::Path;

use runbook_ledger::{Sealer, Verifier};
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::blob::BlobStore as _;
use runbook_ports::store::{Append, Head, Store as _, StoreError};
use runbook_store::{OpenError, SqliteStore, Tail};
use runbook_testkit::store_suite::{append_in_turns, verify};
use tempfile::TempDir;

fn run() -> RunId {
    "019aab00-0000-7000-8000-000000000001".into()
}

/// The end after the first `size` records.
async fn end_at(store: &SqliteStore, size: usize) -> Head {
    let mut verifier = Verifier::new([]);
    for sealed in store.ledger(0, size).await.unwrap() {
        verifier.push_sealed(&sealed).unwrap();
    }
    verifier.head()
}

fn notice(keep: &Head, blob: &[u8]) -> Append {
    let mut sealer = Sealer::new(keep).unwrap();
    let event = Event::Installation(Notice::Heartbeat { clock: Default::default(), every_ms: None });
    let sealed = sealer.seal(0, 0, &RunId::installation(), 0, &event).unwrap();
    Append {
        expected_size: keep.size,
        records: vec![sealed],
        head: sealer.head(),
        blobs: vec![(Sha256::of(blob), blob.to_vec())],
        ..Append::default()
    }
}

async fn sql(database: &Path, statements: &'static str) -> Result<(), sqlx::Error> {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let done = sqlx::raw_sql(statements).execute(&mut connection).await.map(|_| ());
    connection.close().await.unwrap();
    done
}

#[tokio::test]
async fn a_tail_is_cut_off_and_the_log_goes_on_before_it() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run(), 0, 9, None).await;
    let keep = end_at(&store, 6).await;
    store.close().await;
    // A database whose end no open accepts.
    let database = folder.path().join("runbook.db");
    sql(&database, "UPDATE head SET base = size; DROP TRIGGER records_never_change; UPDATE records SET leaf = x'00' WHERE seq = 8;
         CREATE TRIGGER records_never_change BEFORE UPDATE ON records BEGIN SELECT RAISE (ABORT, 'records are never changed'); END")
        .await
        .unwrap();
    assert!(matches!(SqliteStore::open(folder.path()).await.map(|_| ()), Err(OpenError::Damaged { .. })));

    let aside = vec![b'x'; 100_000];
    let mut tail = Tail::open(folder.path()).await.unwrap();
    assert_eq!((tail.written(), tail.head().await.unwrap().size), (Some(9), 9));
    let rows = tail.rows(6, 100).await.unwrap();
    assert_eq!((rows.len(), rows[2].leaf.as_slice()), (3, b"\0".as_slice()));
    // One that does not fit what is kept changes nothing.
    let unfit = Append { expected_size: 5, ..notice(&keep, b"") };
    assert!(tail.cut(&keep, unfit).await.is_err());
    let tail = Tail::open(folder.path()).await.unwrap();
    tail.cut(&keep, notice(&keep, &aside)).await.unwrap();

    let store = SqliteStore::open(folder.path()).await.unwrap();
    assert_eq!(verify(&store).await.size, 7);
    assert_eq!(store.get(&Sha256::of(&aside), u64::MAX).await.unwrap(), aside);
    append_in_turns(&store, &run(), 6, 2, None).await;
    assert_eq!(verify(&store).await.size, 9);
    store.close().await;
    for statement in ["DELETE FROM records", "UPDATE records SET run_seq = 9", "UPDATE head SET base = 7"] {
        assert!(sql(&database, statement).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn a_store_that_somebody_has_open_is_not_repaired() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let refused = Tail::open(folder.path()).await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { pid, .. } if *pid == std::process::id().to_string()), "{refused}");
    store.close().await;
    let _tail = Tail::open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn purged_bodies_and_blobs_are_gone_from_the_files_and_the_tree_is_whole() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let other: RunId = "019aab00-0000-7000-8000-000000000002".into();
    append_in_turns(&store, &run(), 0, 3, None).await;
    append_in_turns(&store, &other, 0, 3, None).await;
    let small = store.put(b"a secret that nobody may read any more").await.unwrap();
    let large: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    let large = store.put(&large).await.unwrap();
    let kept = store.put(b"kept").await.unwrap();
    for _ in 0..2 {
        store.purge(&run(), &[small, large]).await.unwrap();
        let mut verifier = Verifier::new([]);
        for sealed in store.ledger(0, 100).await.unwrap() {
            assert_eq!(sealed.bytes.is_empty(), sealed.run == run());
            if sealed.bytes.is_empty() {
                verifier.push_purged(&sealed).unwrap();
            } else {
                verifier.push_sealed(&sealed).unwrap();
            }
        }
        verifier.finish(Some(&store.head().await.unwrap())).unwrap();
        for gone in [&small, &large] {
            assert!(!store.has(gone).await.unwrap());
            assert!(matches!(store.get(gone, u64::MAX).await, Err(StoreError::Missing(_))));
        }
        assert_eq!(store.get(&kept, 10).await.unwrap(), b"kept");
    }
    append_in_turns(&store, &other, 3, 1, None).await;
    store.close().await;
    let database = folder.path().join("runbook.db");
    assert!(sql(&database, "UPDATE records SET bytes = x''").await.is_err());
    let bytes = fs::read(&database).unwrap();
    assert!(!bytes.windows(15).any(|window| window == b"a secret that n"), "it is still in the file");
}
