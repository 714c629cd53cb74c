//! A store that was written in format 1 (records `record/v1`) opens, reads and verifies in every later version.

use std::fs;
use std::path::{Path, PathBuf};

use runbook_ledger::note::VerifierKey;
use runbook_ledger::{Checkpoint, FileKey, Sealer, Verifier};
use runbook_model::event::{AttemptReport, ClockState, Person, RunHeader};
use runbook_model::host::{Facts, PeerIdentity};
use runbook_model::outcome::{Ended, Exit, Obstacle, ObstacleKind};
use runbook_model::record::Head;
use runbook_model::{
    AttemptId, AttemptOutcome, Cell, Event, HostName, HostOutcome, OutputRef, Phase, RunId, RunOutcome, Sha256,
};
use runbook_ports::blob::BlobStore as _;
use runbook_ports::store::{Append, RunIndex, RunStatus, Store as _};
use runbook_store::SqliteStore;
use tempfile::TempDir;

const ORIGIN: &str = "runbook/fixture";
const CONTENT: &[u8] = b"nginx is running\n";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store-v1")
}

fn run() -> RunId {
    "019aab00-0000-7000-8000-000000000001".into()
}

fn large() -> Vec<u8> {
    b"a line of a long log\n".repeat(10_000)
}

fn header() -> RunHeader {
    RunHeader {
        operator: Person { name: "ada".to_owned(), uid: 1000, from: Some("192.0.2.1".to_owned()) },
        ticket: Some("CHG-1".to_owned()),
        started_ms: 1_700_000_000_000,
        seed: u64::MAX,
        cells: 1,
        engine_version: "0.1.0".to_owned(),
        engine_sha256: Sha256::of(b"engine"),
        controller: "here".to_owned(),
        controller_boot_id: "0".to_owned(),
        clock: ClockState { source: "adjtimex".to_owned(), synchronised: Some(true), offset_us: Some(-3) },
        ..RunHeader::new(run(), Sha256::of(b"plan"), "restart-service")
    }
}

fn events() -> Vec<Event> {
    let host = HostName::from("web1");
    let cell = Cell { host: host.clone(), step: "restart".into() };
    let attempt = AttemptId { run: run(), host: host.clone(), step: "restart".into(), attempt: 1 };
    let stdout = OutputRef {
        sha256: Some(Sha256::of(CONTENT)),
        bytes: CONTENT.len() as u64,
        blob: Some(Sha256::of(CONTENT)),
        ..OutputRef::empty()
    };
    let report = AttemptReport {
        ended: Ended::Exited { exit: Exit::Code(0), unmet: Vec::new(), class: None },
        started_ms: 1_700_000_000_001,
        ended_ms: 1_700_000_000_002,
        duration_ms: 1,
        stdout,
        // As this version wrote a stream without a byte.
        stderr: OutputRef { sha256: Some(Sha256::of(b"")), ..OutputRef::empty() },
        last_line: None,
        transfers: None,
        timing: None,
        undeclared: None,
    };
    let obstacle = Obstacle { kind: ObstacleKind::Unreachable, message: "web2 (192.0.2.2) does not answer".to_owned() };
    let facts = Facts { os: "debian".to_owned(), clock_offset_ms: Some(-7), ..Facts::default() };
    let identity = PeerIdentity { transport: "ssh".to_owned(), account: "ops".to_owned(), ..PeerIdentity::default() };
    let identity = Box::new(identity);
    vec![
        Event::RunOpened(Box::new(header())),
        Event::RunStarted,
        Event::BatchStarted { batch: 0 },
        Event::HostStarted { host: host.clone(), begun_ms: None },
        Event::SessionOpened { host: host.clone(), facts, identity },
        Event::SessionFailed { host: "web2".into(), obstacle },
        Event::PhaseStarted { host: host.clone(), phase: Phase::Execute, reason: None, deadline_ms: None },
        Event::AttemptEnded { attempt, outcome: AttemptOutcome::Succeeded, report: Box::new(report) },
        Event::StepEnded {
            cell,
            outcome: AttemptOutcome::Succeeded,
            reason: String::new(),
            done_on: None,
            snapshot: None,
        },
        Event::PhaseEnded { host: host.clone(), phase: Phase::Execute, ok: true },
        Event::HostEnded { host, outcome: HostOutcome::Succeeded, reason: "\u{1b}[31m é \"".to_owned() },
        Event::BatchEnded { batch: 0, soak_until_ms: None },
        Event::RunEnded { outcome: RunOutcome::Succeeded, clock: None },
    ]
}

/// How the fixture was made. Once; a format that has been written is never written again.
#[tokio::test]
#[ignore = "writes the fixture"]
async fn write_the_fixture() {
    let folder = fixture();
    assert!(!folder.join("runbook.db").exists(), "the fixture is there and stays as it is");
    let store = SqliteStore::open(&folder).await.unwrap();
    let key = FileKey::from_seed([1; 32]);
    let public = VerifierKey::new(ORIGIN, &key.public_key()).unwrap();
    let fence = store.lease(&run(), "ada", &[HostName::from("web1")], 1_700_000_000_000).await.unwrap();
    let mut sealer = Sealer::new(&Head::default()).unwrap();
    let records =
        (0..).zip(events()).map(|(n, event)| sealer.seal(1_700_000_000_000 + n, n, &run(), n, &event).unwrap());
    let records = records.collect();
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: sealer.size(), root: sealer.root() };
    let note = checkpoint.sign(None, &public, |bytes| Ok(key.sign(bytes))).unwrap();
    let append = Append {
        expected_size: 0,
        fence: Some((run(), fence)),
        records,
        head: sealer.head(),
        checkpoint: Some(runbook_ports::store::Checkpoint { size: sealer.size(), note }),
        blobs: vec![(Sha256::of(CONTENT), CONTENT.to_vec())],
        index: Some(RunIndex {
            header: header(),
            status: RunStatus::Ended,
            outcome: Some(RunOutcome::Succeeded),
            ended_ms: Some(1_700_000_000_012),
        }),
        settles: None,
    };
    store.append(append).await.unwrap();
    store.put(&large()).await.unwrap();
    store.release(&run(), fence).await.unwrap();
    store.close().await;
    for left in ["run", "blobs/tmp"] {
        fs::remove_dir(folder.join(left)).unwrap();
    }
    fs::remove_file(folder.join("lock")).unwrap();
    fs::write(folder.join("ledger.vkey"), format!("{public}\n")).unwrap();
}

/// A copy, because opening may bring it to a newer format.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_of_format_1_opens_reads_and_verifies() {
    let folder = TempDir::new().unwrap();
    copy(&fixture(), folder.path());
    let store = SqliteStore::open(folder.path()).await.unwrap();

    let key: VerifierKey = fs::read_to_string(fixture().join("ledger.vkey")).unwrap().trim_end().parse().unwrap();
    let notes = store.checkpoints().await.unwrap();
    let checkpoints: Vec<_> = notes.iter().map(|at| Checkpoint::verify(&at.note, &key).unwrap()).collect();
    assert_eq!(checkpoints.iter().map(|at| at.size).collect::<Vec<_>>(), [13]);
    let mut verifier = Verifier::new(checkpoints);
    let records = store.records(&run(), 0, 100).await.unwrap();
    let read: Vec<_> = records.iter().map(|record| verifier.push_sealed(record).unwrap()).collect();
    verifier.finish(Some(&store.head().await.unwrap())).unwrap();
    assert_eq!(read.iter().map(|record| record.event.clone()).collect::<Vec<_>>(), events());
    assert_eq!(read[12].time, "2023-11-14T22:13:20.012Z");

    let runs = store.runs().await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((&runs[0].header, runs[0].outcome), (&header(), Some(RunOutcome::Succeeded)));
    assert_eq!(store.get(&Sha256::of(CONTENT), 1000).await.unwrap(), CONTENT);
    assert_eq!(store.get(&Sha256::of(&large()), 1_000_000).await.unwrap(), large());
}

#[tokio::test]
async fn a_store_of_format_1_is_continued() {
    let folder = TempDir::new().unwrap();
    copy(&fixture(), folder.path());
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let fence = store.lease(&run(), "bob", &[], 5).await.unwrap();
    assert_eq!(fence.0, 2, "larger than the one given up");
    let mut sealer = Sealer::new(&store.head().await.unwrap()).unwrap();
    let records = vec![sealer.seal(5, 5, &run(), 13, &Event::RunStarted).unwrap()];
    let append =
        Append { expected_size: 13, fence: Some((run(), fence)), records, head: sealer.head(), ..Append::default() };
    store.append(append).await.unwrap();
    let mut verifier = Verifier::new([]);
    for record in store.ledger(0, 100).await.unwrap() {
        verifier.push_sealed(&record).unwrap();
    }
    verifier.finish(Some(&store.head().await.unwrap())).unwrap();
}
