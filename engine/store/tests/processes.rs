//! Several real processes on one store, and what SIGKILL and a full disk leave behind.
//!
//! The other processes are this test program itself: `another_process` below, told by its environment what to do.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use runbook_model::{HostName, RunId, Sha256};
use runbook_ports::blob::BlobStore as _;
use runbook_ports::store::{Fence, Head, Store as _, StoreError};
use runbook_store::SqliteStore;
use runbook_testkit::store_suite::{append_in_turns, sealed, verify};
use tempfile::TempDir;

const FOLDER: &str = "RUNBOOK_TEST_STORE_FOLDER";
const RUN: &str = "RUNBOOK_TEST_STORE_RUN";
const COUNT: &str = "RUNBOOK_TEST_STORE_COUNT";

fn run_id(n: u64) -> RunId {
    format!("019aab00-0000-7000-8000-{n:012}").into()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "the other process of the tests in this file"]
fn another_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(Path::new(&folder), &run_id(number(RUN)), number(RUN), number(COUNT)));
}

/// Leases its run and a host of its own, and says each record that it was promised is durable.
async fn work(folder: &Path, run: &RunId, n: u64, count: u64) {
    let store = SqliteStore::open(folder).await.unwrap();
    if count == 0 {
        // Only blobs: what cannot be compressed below the limit, in each of the two ways.
        let content: Vec<u8> = (0..100_000_u64).flat_map(|n| Sha256::of(&n.to_be_bytes()).0).collect();
        let put = store.put(&content).await.map(|_| ());
        let mut writer = store.writer().await.unwrap();
        let mut written = Ok(());
        for piece in content.chunks(100_000) {
            written = written.and(writer.write(piece).await);
        }
        let finished = writer.finish().await.map(|_| ());
        assert!(matches!(put, Err(StoreError::Failed(_))), "{put:?}");
        assert!(written.is_err() && finished.is_err(), "{written:?} {finished:?}");
        assert!(!store.has(&Sha256::of(&content)).await.unwrap());
        assert_eq!(std::fs::read_dir(folder.join("blobs/tmp")).unwrap().count(), 0, "nothing is left");
        store.put(b"small").await.unwrap();
        say("done");
        return;
    }
    let host = HostName::from(format!("web{n}"));
    let fence = store.lease(run, "child", &[host], 1).await.unwrap();
    let mut writer = store.writer().await.unwrap();
    writer.write(&vec![7; 1 << 20]).await.unwrap();
    let from = store.records(run, 0, usize::MAX).await.unwrap().len() as u64;
    for run_seq in from..from + count {
        if let Err(error) = append_one(&store, run, run_seq, fence).await {
            say(&format!("stopped {error}"));
            return;
        }
        say(&format!("kept {run_seq}"));
    }
    say("done");
}

async fn append_one(store: &SqliteStore, run: &RunId, run_seq: u64, fence: Fence) -> Result<(), StoreError> {
    let mut head = store.head().await?;
    loop {
        let mut append = sealed(&head, run, run_seq, 1, Some(fence));
        let content = blob_of(run_seq);
        append.blobs = vec![(Sha256::of(&content), content)];
        match store.append(append).await {
            Err(StoreError::HeadMoved(now)) => head = now,
            result => return result,
        }
    }
}

/// A content that belongs to a record.
fn blob_of(run_seq: u64) -> Vec<u8> {
    (0..200).flat_map(|n: u64| Sha256::of(&(run_seq * 1000 + n).to_be_bytes()).0).collect()
}

fn start(folder: &Path, run: u64, count: u64, limit: Option<&str>) -> Other {
    let program = std::env::current_exe().unwrap();
    // The shell sets the limits, if any, and becomes the program: its process id is the program's.
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{} exec \"$@\"", limit.unwrap_or_default()), "sh"])
        .arg(program)
        .args(["--ignored", "--exact", "another_process", "--nocapture"])
        .env(FOLDER, folder)
        .env(RUN, run.to_string())
        .env(COUNT, count.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap()).lines();
    Other { child, out, lines: Vec::new() }
}

/// A process and what it says.
struct Other {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    lines: Vec<String>,
}

impl Other {
    /// Listens until the record `until` was kept, or the process has ended.
    fn listen(&mut self, until: u64) {
        for line in self.out.by_ref() {
            let line = line.unwrap();
            let last = line == format!("kept {until}");
            // libtest begins its own line before the first of ours.
            let ours = ["kept ", "stopped ", "done"].iter().find_map(|word| line.find(word));
            self.lines.extend(ours.map(|at| line[at..].to_owned()));
            if last {
                break;
            }
        }
    }

    /// SIGKILL; what it had still said is listened to.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listen(u64::MAX);
    }

    fn ended_well(&mut self) -> bool {
        self.listen(u64::MAX);
        self.child.wait().unwrap().success()
    }
}

/// The largest `kept` number and one: how many records of the run must be there.
fn kept(lines: &[String]) -> u64 {
    let number = |line: &String| line.strip_prefix("kept ").and_then(|n| n.parse::<u64>().ok());
    lines.iter().filter_map(number).max().map_or(0, |n| n + 1)
}

async fn records_of(store: &SqliteStore, run: u64) -> u64 {
    let records = store.records(&run_id(run), 0, usize::MAX).await.unwrap();
    assert!(records.iter().zip(0..).all(|(record, n)| record.run_seq == n), "without gaps");
    for record in &records {
        let content = blob_of(record.run_seq);
        assert_eq!(store.get(&Sha256::of(&content), u64::MAX).await.unwrap(), content, "blobs come with their records");
    }
    records.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn real_processes_append_in_turns_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    // All of them also make the store at the same time.
    let mut children: Vec<_> = (1..=3).map(|run| start(folder.path(), run, 60, None)).collect();
    let store = SqliteStore::open(folder.path()).await.unwrap();
    append_in_turns(&store, &run_id(9), 0, 60, None).await;
    for child in &mut children {
        assert!(child.ended_well());
        assert_eq!(child.lines.last().map(String::as_str), Some("done"), "{:?}", child.lines);
    }
    for run in 1..=3 {
        assert_eq!(records_of(&store, run).await, 60);
    }
    assert_eq!(verify(&store).await.size, 240);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_survives_sigkill_in_the_middle_of_appends() {
    let folder = TempDir::new().unwrap();
    let mut promised = [0; 3];
    for round in 0..12_u64 {
        let mut children = [1, 2].map(|run| start(folder.path(), run, u64::MAX / 2, None));
        for (n, child) in children.iter_mut().enumerate() {
            child.listen(promised[n + 1] + round % 5);
        }
        for (n, child) in children.iter_mut().enumerate() {
            child.kill();
            let said = kept(&child.lines);
            assert!(said > promised[n + 1], "it got on: {:?}", child.lines);
            promised[n + 1] = said;
        }

        let store = SqliteStore::open(folder.path()).await.unwrap();
        for run in [1, 2] {
            let found = records_of(&store, run).await;
            assert!(found >= promised[run as usize], "run {run}: {found} of {promised:?} in round {round}");
            promised[run as usize] = found;
            let holder = store.holder(&run_id(run)).await.unwrap().unwrap();
            assert!(!holder.alive, "killed is dead");
        }
        verify(&store).await;
        let left = std::fs::read_dir(folder.path().join("blobs/tmp")).unwrap().count();
        assert_eq!(left, 0, "what the dead had begun to write is gone");
        // A run of a dead process is taken over at once, with its host.
        let fence = store.lease(&run_id(1), "parent", &[HostName::from("web1")], 2).await.unwrap();
        store.release(&run_id(1), fence).await.unwrap();
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_process_keeps_its_run_and_its_hosts() {
    let folder = TempDir::new().unwrap();
    let mut child = start(folder.path(), 1, u64::MAX / 2, None);
    let pid = child.child.id();
    child.listen(3);
    assert_eq!(kept(&child.lines), 4);
    let store = SqliteStore::open(folder.path()).await.unwrap();
    match store.lease(&run_id(2), "parent", &[HostName::from("web1")], 2).await {
        Err(StoreError::Held { what, by }) => {
            assert_eq!((what.as_str(), by.pid, by.operator.as_str()), ("host web1", pid, "child"));
        }
        other => panic!("{other:?}"),
    }
    child.kill();
    store.lease(&run_id(2), "parent", &[HostName::from("web1")], 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_append_and_leaves_the_log_whole() {
    let folder = TempDir::new().unwrap();
    SqliteStore::open(folder.path()).await.unwrap().close().await;
    // The same error that a full disk gives, without the need for one: files of at most 1.5 MiB.
    let mut child = start(folder.path(), 1, 100_000, Some("trap '' XFSZ; ulimit -f 3072;"));
    assert!(child.ended_well(), "it stops by itself");
    let last = child.lines.last().unwrap();
    assert!(last.starts_with("stopped the store failed: "), "{last}");
    let promised = kept(&child.lines);
    assert!(promised > 10, "{:?}", child.lines);

    let store = SqliteStore::open(folder.path()).await.unwrap();
    let found = records_of(&store, 1).await;
    assert!(found == promised || found == promised + 1, "{found} of {promised}: only the last is in doubt");
    let head = verify(&store).await;
    store.append(sealed(&head, &run_id(2), 0, 1, None)).await.unwrap();
    assert_ne!(verify(&store).await, Head::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_a_blob_and_leaves_nothing_of_it() {
    let folder = TempDir::new().unwrap();
    let mut child = start(folder.path(), 1, 0, Some("trap '' XFSZ; ulimit -f 3072;"));
    assert!(child.ended_well());
    assert_eq!(child.lines, ["done"]);
    let store = SqliteStore::open(folder.path()).await.unwrap();
    assert_eq!(store.get(&Sha256::of(b"small"), 10).await.unwrap(), b"small");
}
