//! Databases that are strange, old, new, cut or not ours; folders that cannot be written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use runbook_ledger::{Checkpoint, Verifier};
use runbook_model::{RunId, Sha256};
use runbook_ports::blob::BlobStore as _;
use runbook_ports::store::{Head, Store as _, StoreError};
use runbook_store::{OpenError, SqliteStore};
use runbook_testkit::store_suite::{append_in_turns, verify};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

fn run() -> RunId {
    "019aab00-0000-7000-8000-000000000001".into()
}

async fn refused(folder: &Path) -> OpenError {
    match SqliteStore::open(folder).await {
        Ok(_) => panic!("the store was opened"),
        Err(error) => error,
    }
}

async fn sql(database: &Path, statements: &'static str) {
    let options = SqliteConnectOptions::new().filename(database).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn everything_in_the_folder_is_private() {
    let parent = TempDir::new().unwrap();
    let folder = parent.path().join("project/.runbook");
    let store = SqliteStore::open(&folder).await.unwrap();
    append_in_turns(&store, &run(), 0, 1, None).await;
    store.put(&vec![1; 100_000]).await.unwrap();
    let mut folders = vec![folder];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
            }
        }
    }
    assert!(seen >= 9, "{seen}");
}

#[tokio::test]
async fn a_folder_open_to_others_is_made_private() {
    let folder = TempDir::new().unwrap();
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    let database = folder.path().join("runbook.db");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    let root = rustix::process::geteuid().is_root();
    // Nobody, root included, can make a folder there.
    let read_only = if root { Path::new("/proc/sys/kernel/.runbook").to_path_buf() } else { locked.join(".runbook") };
    for path in [file.clone(), file.join(".runbook"), read_only] {
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Folder { .. }), "{error}");
        assert_eq!(error.code(), "RB0500");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("runbook.db");
    for content in ["not a database at all\n".repeat(100), "short".to_owned()] {
        fs::write(&database, &content).unwrap();
        let error = refused(folder.path()).await;
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read_to_string(&database).unwrap(), content);
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_alone() {
    for statements in ["CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)", "PRAGMA application_id = 7"] {
        let folder = TempDir::new().unwrap();
        let database = folder.path().join("runbook.db");
        sql(&database, statements).await;
        let before = fs::read(&database).unwrap();
        let error = refused(folder.path()).await;
        assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read(&database).unwrap(), before);
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    sql(&folder.path().join("runbook.db"), "PRAGMA user_version = 99").await;
    let error = refused(folder.path()).await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_database_that_was_cut_is_refused_as_damaged() {
    for part in [50, 4096, 40_000, 100_000] {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        append_in_turns(&store, &run(), 0, 300, None).await;
        store.close().await;
        let database = folder.path().join("runbook.db");
        let length = fs::metadata(&database).unwrap().len();
        assert!(length > part, "{length}");
        fs::OpenOptions::new().write(true).open(&database).unwrap().set_len(part).unwrap();
        let error = refused(folder.path()).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{part} of {length} bytes: {error}");
        assert_eq!(fs::metadata(&database).unwrap().len(), part, "nothing was changed");
    }
}

#[tokio::test]
async fn a_log_whose_end_was_cut_off_is_refused_as_damaged() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run(), 0, 5, None).await;
    store.close().await;
    let statements = "DROP TRIGGER records_never_go; DELETE FROM records WHERE seq = 4";
    sql(&folder.path().join("runbook.db"), statements).await;
    let error = refused(folder.path()).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn records_can_neither_be_changed_nor_removed_by_a_slip() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run(), 0, 2, None).await;
    store.close().await;
    let options = SqliteConnectOptions::new().filename(folder.path().join("runbook.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    for statement in ["DELETE FROM records", "UPDATE records SET run_seq = 9", "UPDATE head SET base = 7"] {
        assert!(sqlx::raw_sql(statement).execute(&mut connection).await.is_err(), "{statement}");
    }
}

/// The write-ahead log holds what was committed last. Without it the database is as it was some time before: whole, and
/// shorter. Only a signed head that is kept elsewhere can tell, and it does.
#[tokio::test]
async fn without_its_write_ahead_log_the_ledger_is_shorter_and_a_signed_head_tells() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run(), 0, 5, None).await;
    store.close().await;
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run(), 5, 5, None).await;
    let head = store.head().await.unwrap();
    let root = runbook_ledger::tree::root_of(&head).unwrap();
    let signed = Checkpoint { origin: "here".to_owned(), size: head.size, root };

    let copy = TempDir::new().unwrap();
    fs::copy(folder.path().join("runbook.db"), copy.path().join("runbook.db")).unwrap();
    let store = SqliteStore::open(copy.path()).await.unwrap();
    assert_eq!(verify(&store).await.size, 5, "whole in itself");
    let mut verifier = Verifier::new([signed]);
    for record in store.ledger(0, 100).await.unwrap() {
        verifier.push_sealed(&record).unwrap();
    }
    let fault = verifier.finish(None).unwrap_err();
    assert!(fault.to_string().contains("a ledger of 10 records was signed"), "{fault}");
}

/// A store that lost its write-ahead log right after it was made is still ours and empty, not somebody's blank file.
#[tokio::test]
async fn a_new_database_is_in_its_file_at_once() {
    let folder = TempDir::new().unwrap();
    let _store = SqliteStore::open(folder.path()).await.unwrap();
    let header = fs::read(folder.path().join("runbook.db")).unwrap();
    assert_eq!(&header[68..72], b"RNBK");
}

#[tokio::test]
async fn a_damaged_blob_is_never_given_out() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let content: Vec<u8> = (0..200_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    let digest = store.put(&content).await.unwrap();
    let name = digest.to_string();
    let path = folder.path().join("blobs/sha256").join(&name[..2]).join(&name);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() / 2], &flipped, b"", b"not zstd"] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(store.get(&digest, u64::MAX).await, Err(StoreError::Corrupt(_))));
        assert!(matches!(store.file(&digest).await.map(|_| ()), Err(StoreError::Corrupt(_))));
    }
    assert_eq!(fs::read_dir(folder.path().join("blobs/tmp")).unwrap().count(), 0);
    // Keeping the content once more mends it.
    store.put(&content).await.unwrap();
    assert_eq!(store.get(&digest, u64::MAX).await.unwrap(), content);

    let small = store.put(b"small").await.unwrap();
    store.close().await;
    sql(&folder.path().join("runbook.db"), "UPDATE blobs SET content = x'00'").await;
    let store = SqliteStore::open(folder.path()).await.unwrap();
    assert!(matches!(store.get(&small, 100).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.get(&Sha256::of(b"?"), 100).await, Err(StoreError::Missing(_))));
}

#[tokio::test]
async fn a_caller_who_stops_waiting_does_not_stop_the_append() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let append = runbook_testkit::store_suite::sealed(&Head::default(), &run(), 0, 500, None);
    let head = append.head.clone();
    // Polled once, then dropped.
    tokio::select! {
        biased;
        _ = store.append(append) => panic!("it cannot be done at once"),
        () = std::future::ready(()) => {}
    }
    // The next one waits its turn behind it.
    append_in_turns(&store, &run(), 500, 1, None).await;
    assert_eq!(verify(&store).await.size, head.size + 1);
}
