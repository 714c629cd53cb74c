//! A real process on a disk that fails: at every sync, at every write, when it is full, and in the middle of a write.
//! Whatever happens, what was promised is there afterwards, or the store says clearly that it is not.
//!
//! The process is this test program itself: `one_writer` below.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use runbook_ledger::Verifier;
use runbook_model::{HostName, RunId, Sha256};
use runbook_ports::blob::BlobStore as _;
use runbook_ports::store::{Fence, Store as _, StoreError};
use runbook_store::{OpenError, SqliteStore};
use runbook_testkit::bad_disk::{BadDisk, Calls, EIO, ENOSPC, Failure};
use runbook_testkit::lab::skip;
use runbook_testkit::store_suite::{append_in_turns, sealed, verify};
use tempfile::TempDir;

const FOLDER: &str = "RUNBOOK_TEST_STORE_FOLDER";

/// Appends of the writer; the fourth also has a blob that is a file.
const APPENDS: u64 = 6;

fn run_id() -> RunId {
    "019aab00-0000-7000-8000-000000000001".into()
}

fn small(n: u64) -> Vec<u8> {
    (0..40).flat_map(|m: u64| Sha256::of(&(n * 1000 + m).to_be_bytes()).0).collect()
}

fn large(n: u64) -> Vec<u8> {
    (0..4_000).flat_map(|m: u64| Sha256::of(&(n * 10_000 + m).to_be_bytes()).0).collect()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "the other process of the tests in this file"]
fn one_writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = match SqliteStore::open(Path::new(&folder)).await {
            Ok(store) => store,
            Err(error) => return say(&format!("refused {error}")),
        };
        let host = HostName::from("web1");
        let fence = match store.lease(&run_id(), "writer", &[host], 1).await {
            Ok(fence) => fence,
            Err(error) => return say(&format!("stopped {error}")),
        };
        let from = store.records(&run_id(), 0, usize::MAX).await.unwrap().len() as u64;
        for n in from..APPENDS {
            if let Err(error) = append(&store, n, fence).await {
                // As the driver does: nothing more.
                return say(&format!("stopped {error}"));
            }
            say(&format!("kept {n}"));
        }
        store.close().await;
        say("done");
    });
}

async fn append(store: &SqliteStore, n: u64, fence: Fence) -> Result<(), StoreError> {
    if n == 3 {
        let mut writer = store.writer().await?;
        writer.write(&large(n)).await?;
        writer.finish().await?;
    }
    let mut append = sealed(&store.head().await?, &run_id(), n, 1, Some(fence));
    append.blobs = vec![(Sha256::of(&small(n)), small(n))];
    store.append(append).await
}

struct Wrote {
    lines: Vec<String>,
}

impl Wrote {
    /// How many records were promised to be durable.
    fn promised(&self) -> u64 {
        let number = |line: &String| line.strip_prefix("kept ").and_then(|n| n.parse::<u64>().ok());
        self.lines.iter().filter_map(number).max().map_or(0, |n| n + 1)
    }

    fn last(&self) -> &str {
        self.lines.last().map_or("", String::as_str)
    }
}

/// The writer on a folder, with a disk that fails or a limit that a shell sets.
fn writer(folder: &Path, bad: Option<(&BadDisk, Failure)>, limit: &str) -> Wrote {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{limit} exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "one_writer", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null());
    if let Some((disk, failure)) = bad {
        disk.under(&mut command, folder, failure);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "it stops by itself: {text}{}", String::from_utf8_lossy(&output.stderr));
    // libtest begins its own line before the first of ours.
    let ours = |line: &str| {
        let at = ["kept ", "stopped ", "refused ", "done"].iter().find_map(|word| line.find(word))?;
        Some(line[at..].to_owned())
    };
    Wrote { lines: text.lines().filter_map(ours).collect() }
}

/// On a healthy disk again: what was promised is there, whole, and can be gone on with.
async fn goes_on(folder: &Path, promised: u64, told: &str) {
    let store = SqliteStore::open(folder).await.unwrap_or_else(|error| panic!("{told}: {error}"));
    let found = whole(&store).await;
    assert!(found == promised || found == promised + 1, "{told}: {found} of {promised}: only the last is in doubt");
    store.close().await;
    let wrote = writer(folder, None, "");
    assert_eq!(wrote.last(), "done", "{told}: {:?}", wrote.lines);
    let store = SqliteStore::open(folder).await.unwrap();
    assert_eq!(whole(&store).await, APPENDS, "{told}");
    assert_eq!(fs::read_dir(folder.join("blobs/tmp")).unwrap().count(), 0, "{told}: nothing is left over");
    store.close().await;
}

/// How many records there are; all of them verify, and have their contents.
async fn whole(store: &SqliteStore) -> u64 {
    let size = verify(store).await.size;
    for record in store.records(&run_id(), 0, usize::MAX).await.unwrap() {
        let content = small(record.run_seq);
        assert_eq!(store.get(&Sha256::of(&content), u64::MAX).await.unwrap(), content, "blobs come with their records");
        if record.run_seq == 3 {
            let content = large(3);
            assert_eq!(store.get(&Sha256::of(&content), u64::MAX).await.unwrap(), content);
        }
    }
    size
}

/// Each call of a kind fails in turn. Says how many there were.
async fn sweep(calls: Calls, errno: i32, torn: bool, every: usize) -> u64 {
    let Some(disk) = BadDisk::make() else {
        skip("there is no `cc` that makes a shared library");
        return 0;
    };
    let none = Failure { calls, at: 0, errno, torn, once: false };
    let folder = TempDir::new().unwrap();
    assert_eq!(writer(folder.path(), Some((&disk, none)), "").last(), "done");
    let count = disk.count();
    assert!(count >= APPENDS, "{count} calls: the library is not under the program");
    for (at, once) in (1..=count).flat_map(|at| [(at, false), (at, true)]).step_by(every) {
        let folder = TempDir::new().unwrap();
        let wrote = writer(folder.path(), Some((&disk, Failure { at, once, ..none })), "");
        let told = format!("{calls:?} {at} of {count} ({errno}, torn: {torn}, once: {once}): {:?}", wrote.lines);
        // A failure while it closes, or in what can be made good later, is not one of the record.
        let said = wrote.last();
        assert!(said.starts_with("stopped ") || said.starts_with("refused ") || said == "done", "{told}");
        if said == "done" {
            assert_eq!(wrote.promised(), APPENDS, "{told}");
        }
        goes_on(folder.path(), wrote.promised(), &told).await;
    }
    count
}

#[tokio::test]
async fn a_sync_that_fails_is_never_taken_for_durable() {
    sweep(Calls::Sync, EIO, false, 1).await;
}

#[tokio::test]
async fn a_write_that_finds_no_room_leaves_what_was_promised() {
    sweep(Calls::Write, ENOSPC, false, 3).await;
}

#[tokio::test]
async fn a_write_that_is_torn_leaves_what_was_promised() {
    sweep(Calls::Write, EIO, true, 3).await;
}

/// A failed sync may have dropped what it was to write, and the next one succeeds without it: a process that comes after a
/// failure writes it anew, into the database itself.
#[tokio::test]
async fn what_a_failed_process_left_in_the_write_ahead_log_is_written_anew() {
    let Some(disk) = BadDisk::make() else { return skip("there is no `cc` that makes a shared library") };
    let folder = TempDir::new().unwrap();
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    let late = Failure { calls: Calls::Sync, at: 9, errno: EIO, torn: false, once: false };
    let wrote = writer(folder.path(), Some((&disk, late)), "");
    assert!(wrote.last().starts_with("stopped "), "{:?}", wrote.lines);
    assert!(wrote.promised() > 0, "{:?}", wrote.lines);
    let _store = SqliteStore::open(folder.path()).await.unwrap();
    let copy = TempDir::new().unwrap();
    fs::copy(folder.path().join("runbook.db"), copy.path().join("runbook.db")).unwrap();
    let alone = SqliteStore::open(copy.path()).await.unwrap();
    assert!(verify(&alone).await.size >= wrote.promised(), "the database has it without its write-ahead log");
}

/// Real ENOSPC: a file system in memory that fills up.
#[tokio::test]
async fn a_file_system_that_is_full_leaves_what_was_promised() {
    if !rustix::process::geteuid().is_root() {
        return skip("a small file system can only be mounted by root");
    }
    // In steps of less than a page of the database, so that it fills up at different places.
    let mut full = 0;
    for kib in (160..520).step_by(24) {
        let place = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(place.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            return skip("nothing can be mounted here");
        }
        let folder = place.path().join("state");
        let wrote = writer(&folder, None, "");
        let told = format!("{kib} KiB: {:?}", wrote.lines);
        full += u32::from(wrote.last() != "done");
        // Room is made.
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(place.path()).status();
        assert!(grown.unwrap().success());
        goes_on(&folder, wrote.promised(), &told).await;
        assert!(Command::new("umount").arg(place.path()).status().unwrap().success());
    }
    assert!(full > 4, "it was full only {full} times");
}

/// A process that is killed for writing beyond its limit is a process that was killed.
#[tokio::test]
async fn a_file_that_may_not_grow_leaves_what_was_promised() {
    let mut stopped = 0;
    for blocks in (64..400).step_by(48) {
        let folder = TempDir::new().unwrap();
        let wrote = writer(folder.path(), None, &format!("trap '' XFSZ; ulimit -f {blocks};"));
        stopped += u32::from(wrote.last() != "done");
        goes_on(folder.path(), wrote.promised(), &format!("{blocks} blocks: {:?}", wrote.lines)).await;
    }
    assert!(stopped > 2, "it was stopped only {stopped} times");
}

/// Copies a store as it lies there, with one file cut.
fn cut(from: &Path, name: &str, length: u64) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                fs::create_dir(&target).unwrap();
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let to = TempDir::new().unwrap();
    copy(from, to.path());
    fs::OpenOptions::new().write(true).open(to.path().join(name)).unwrap().set_len(length).unwrap();
    // What is in it belongs to a process on the same machine; after a power failure it is not there.
    let _ = fs::remove_file(to.path().join("runbook.db-shm"));
    to
}

/// A store of 12 records, some of them in the write-ahead log alone, as a power failure would find it.
async fn as_it_lies() -> (TempDir, SqliteStore) {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(), 0, 8, None).await;
    store.close().await;
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(), 8, 4, None).await;
    (folder, store)
}

/// The log that was cut is seen, wherever it was cut: nothing but all of the records is ever taken for all of them.
#[tokio::test]
async fn a_write_ahead_log_that_was_cut_anywhere_is_refused_or_whole() {
    let (folder, _store) = as_it_lies().await;
    let length = fs::metadata(folder.path().join("runbook.db-wal")).unwrap().len();
    let (mut refused, mut opened) = (0, 0);
    for cut_at in (0..=length).rev().step_by(512) {
        let copy = cut(folder.path(), "runbook.db-wal", cut_at);
        match SqliteStore::open(copy.path()).await {
            Ok(store) => {
                assert_eq!(verify(&store).await.size, 12, "cut at {cut_at} of {length}");
                opened += 1;
            }
            Err(OpenError::Older { why, .. }) => {
                assert!(why.contains("12 records were written to it, and it has "), "{why}");
                refused += 1;
            }
            Err(error) => panic!("cut at {cut_at} of {length}: {error}"),
        }
    }
    assert!(refused > 8 && opened > 0, "{refused} refused, {opened} opened");
}

/// How many records verify; `None` when something cannot be read, or is not what was signed. SQLite takes a last page that
/// is not whole for one that ends with zeros.
async fn verified(store: &SqliteStore) -> Option<u64> {
    let mut verifier = Verifier::new([]);
    for record in store.ledger(0, usize::MAX).await.ok()? {
        verifier.push_sealed(&record).ok()?;
    }
    Some(verifier.size())
}

#[tokio::test]
async fn a_database_that_was_cut_anywhere_is_refused_or_whole() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(), 0, 12, None).await;
    store.close().await;
    let length = fs::metadata(folder.path().join("runbook.db")).unwrap().len();
    let mut refused = 0;
    for cut_at in (1..length).rev().step_by(512) {
        let copy = cut(folder.path(), "runbook.db", cut_at);
        match SqliteStore::open(copy.path()).await {
            Err(OpenError::Damaged { .. } | OpenError::Older { .. } | OpenError::NotOurs { .. }) => refused += 1,
            Err(error) => panic!("cut at {cut_at} of {length}: {error}"),
            Ok(store) => {
                let size = verified(&store).await;
                assert!(size.is_none_or(|size| size == 12), "cut at {cut_at} of {length}: {size:?}");
            }
        }
    }
    assert!(refused as u64 > length / 512 - 16, "{refused} of {}", length / 512);
    let copy = cut(folder.path(), "runbook.db", 0);
    let emptied = SqliteStore::open(copy.path()).await.map(|_| ());
    assert!(matches!(emptied, Err(OpenError::Older { .. })), "an emptied one is not a new one: {emptied:?}");
}

#[tokio::test]
async fn a_blob_that_was_cut_anywhere_is_never_given_out() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let digest = store.put(&large(3)).await.unwrap();
    let name = digest.to_string();
    let path = folder.path().join("blobs/sha256").join(&name[..2]).join(&name);
    let file = fs::read(&path).unwrap();
    for cut_at in (0..file.len()).rev().step_by(512) {
        fs::write(&path, &file[..cut_at]).unwrap();
        let got = store.get(&digest, u64::MAX).await;
        assert!(matches!(got, Err(StoreError::Corrupt(_))), "cut at {cut_at}");
    }
}

#[tokio::test]
async fn an_older_database_put_back_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(), 0, 3, None).await;
    store.close().await;
    let old = fs::read(folder.path().join("runbook.db")).unwrap();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(), 3, 3, None).await;
    store.close().await;
    fs::write(folder.path().join("runbook.db"), &old).unwrap();
    let error = SqliteStore::open(folder.path()).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("6 records were written to it, and it has 3"), "{error}");
    // An operator who accepts the loss says so by hand.
    fs::remove_file(folder.path().join("end")).unwrap();
    assert_eq!(verify(&SqliteStore::open(folder.path()).await.unwrap()).await.size, 3);
}
