//! A store that was written in format 2 (signed heads with their frontier, notices, runs with a retention) opens, reads and
//! verifies in every later version.

use std::fs;
use std::path::{Path, PathBuf};

use runbook_ledger::note::VerifierKey;
use runbook_ledger::tree::Frontier;
use runbook_ledger::{Checkpoint, FileKey, Sealer, Verifier};
use runbook_model::event::{ClockState, Person, RunHeader};
use runbook_model::record::Head;
use runbook_model::retention::{Class, Retention};
use runbook_model::{Event, Notice, RunId, RunOutcome, Sha256};
use runbook_ports::store::{Append, RunIndex, RunStatus, Store as _};
use runbook_store::SqliteStore;
use tempfile::TempDir;

const ORIGIN: &str = "runbook/fixture";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/store-v2")
}

fn run() -> RunId {
    "019aab00-0000-7000-8000-000000000002".into()
}

fn header() -> RunHeader {
    RunHeader {
        operator: Person { name: "ada".to_owned(), uid: 1000, from: None },
        started_ms: 1_700_000_000_000,
        seed: 7,
        cells: 1,
        engine_version: "0.1.0".to_owned(),
        engine_sha256: Sha256::of(b"engine"),
        controller: "here".to_owned(),
        controller_boot_id: "0".to_owned(),
        inventory_sha256: Some(Sha256::of(b"inventory")),
        inventory_sources: Vec::new(),
        retention: Some(Retention { class: Class::Cui, months: 72 }),
        ..RunHeader::new(run(), Sha256::of(b"plan"), "restart-service")
    }
}

fn events() -> Vec<(RunId, u64, Event)> {
    let notice = Notice::Heartbeat { clock: ClockState::default(), every_ms: Some(900_000) };
    vec![
        (run(), 0, Event::RunOpened(Box::new(header()))),
        (run(), 1, Event::RunStarted),
        (run(), 2, Event::RunEnded { outcome: RunOutcome::Succeeded, clock: None }),
        (RunId::installation(), 0, Event::Installation(notice)),
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
    let mut sealer = Sealer::new(&Head::default()).unwrap();
    let mut last: Option<Checkpoint> = None;
    for (n, (run, run_seq, event)) in (0..).zip(events()) {
        let record = sealer.seal(1_700_000_000_000 + n, n, &run, run_seq, &event).unwrap();
        let at = Checkpoint { origin: ORIGIN.to_owned(), size: sealer.size(), root: sealer.root() };
        let note = at.sign(last.as_ref(), &public, |bytes| Ok(key.sign(bytes))).unwrap();
        let ended = matches!(event, Event::RunEnded { .. });
        let append = Append {
            expected_size: n,
            records: vec![record],
            head: sealer.head(),
            checkpoint: Some(runbook_ports::store::Checkpoint { size: at.size, note }),
            index: ended.then(|| RunIndex {
                header: header(),
                status: RunStatus::Ended,
                outcome: Some(RunOutcome::Succeeded),
                ended_ms: Some(1_700_000_000_002),
            }),
            ..Append::default()
        };
        store.append(append).await.unwrap();
        last = Some(at);
    }
    store.close().await;
    for left in ["run", "blobs/tmp", "blobs/sha256", "blobs"] {
        fs::remove_dir(folder.join(left)).unwrap();
    }
    fs::remove_file(folder.join("lock")).unwrap();
    fs::write(folder.join("ledger.vkey"), format!("{public}\n")).unwrap();
}

#[tokio::test]
async fn a_store_of_format_2_opens_reads_and_verifies() {
    let folder = TempDir::new().unwrap();
    // A copy, because opening may bring it to a newer format.
    for name in ["runbook.db", "end"] {
        fs::copy(fixture().join(name), folder.path().join(name)).unwrap();
    }
    let store = SqliteStore::open(folder.path()).await.unwrap();
    let key: VerifierKey = fs::read_to_string(fixture().join("ledger.vkey")).unwrap().trim_end().parse().unwrap();
    let notes = store.checkpoints().await.unwrap();
    let heads: Vec<_> = notes.iter().map(|at| Checkpoint::verify(&at.note, &key).unwrap()).collect();
    assert_eq!(heads.iter().map(|head| head.size).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for head in &heads {
        let frontier = store.signed_frontier(head.size).await.unwrap().unwrap();
        assert_eq!(Frontier::from_parts(head.size, frontier).unwrap().root(), head.root);
    }
    let mut verifier = Verifier::new(heads);
    let sealed = store.ledger(0, 100).await.unwrap();
    let read: Vec<_> = sealed.iter().map(|record| verifier.push_sealed(record).unwrap()).collect();
    verifier.finish(Some(&store.head().await.unwrap())).unwrap();
    let read: Vec<_> = read.into_iter().map(|record| (record.run, record.run_seq, record.event)).collect();
    assert_eq!(read, events());
    assert_eq!(store.runs().await.unwrap()[0].header, header());
}
