//! What is done to the ledger itself: keys that take each other's place, heads of idle ledgers, recovery, old copies.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::Place;
use runbook_ledger::note::add_signature;
use runbook_ledger::{Checkpoint, FileKey, Sealer, VerifierKey};
use runbook_model::event::Person;
use runbook_model::notice::rotation_text;
use runbook_model::{Event, Notice, RunId};
use runbook_ports::Store as _;
use runbook_ports::store::Append;
use runbook_store::SqliteStore;

/// A project with one good run.
fn with_run() -> Place {
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place
}

fn on_the_ledger<T>(place: &Place, work: impl AsyncFnOnce(&SqliteStore) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(&place.path(".runbook")).await.unwrap();
        let done = work(&store).await;
        store.close().await;
        done
    })
}

fn key_in(place: &Place, file: &str) -> FileKey {
    FileKey::decode(&std::fs::read_to_string(place.path(file)).unwrap()).ok().unwrap()
}

fn keys(place: &Place) -> Vec<VerifierKey> {
    let text = std::fs::read_to_string(place.path(".runbook/keys/ledger.pub")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// The file in which the key's private half was put aside.
fn aside(key: &VerifierKey) -> String {
    format!(".runbook/keys/old/{:08x}.key", u32::from_be_bytes(key.id()))
}

/// Whoever has the keys and does as he likes: appends a notice, and a head signed by the keys given.
async fn append_as(store: &SqliteStore, notice: impl Fn(u64) -> Notice, by: &[(&FileKey, &VerifierKey)]) {
    let head = store.head().await.unwrap();
    let mut sealer = Sealer::new(&head).unwrap();
    let run = RunId::installation();
    let run_seq = store.records(&run, 0, usize::MAX).await.unwrap().len() as u64;
    let record = sealer.seal(0, 0, &run, run_seq, &Event::Installation(notice(head.size))).unwrap();
    let at = Checkpoint { origin: by[0].1.name().to_owned(), size: sealer.size(), root: sealer.root() };
    let mut note = at.sign(None, by[0].1, |bytes| Ok(by[0].0.sign(bytes))).unwrap();
    for (secret, public) in &by[1..] {
        note = add_signature(&note, public, |bytes| Ok(secret.sign(bytes))).unwrap();
    }
    let checkpoint = Some(runbook_ports::store::Checkpoint { size: at.size, note });
    let append = Append {
        expected_size: head.size,
        records: vec![record],
        head: sealer.head(),
        checkpoint,
        ..Append::default()
    };
    store.append(append).await.unwrap();
}

fn heartbeat(_: u64) -> Notice {
    Notice::Heartbeat { clock: runbook_model::event::ClockState::default() }
}

#[test]
fn after_a_rotation_either_key_verifies_all_of_it() {
    let place = with_run();
    std::fs::copy(place.path(".runbook/keys/ledger.pub"), place.path("pinned-before.pub")).unwrap();
    let rotated = place.run(&["evidence", "rotate-key", "--reason", "yearly", "--json"]).code(0).json();
    assert_eq!(rotated["schema"], "rotate-key/v1");
    let known = keys(&place);
    assert_eq!([rotated["old_key"].clone(), rotated["new_key"].clone()], [known[0].to_string(), known[1].to_string()]);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let first = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    std::fs::write(place.path("pinned-after.pub"), format!("{}\n", known[1])).unwrap();
    for pin in ["pinned-before.pub", "pinned-after.pub"] {
        for run in [first.as_str(), "last"] {
            let verdict = place.run(&["evidence", "verify", run, "--pin", pin, "--json"]).code(10).json();
            assert_eq!(verdict["pinned"], true, "{verdict}");
        }
    }
    let stranger = VerifierKey::new(known[0].name(), &FileKey::from_seed([9; 32]).public_key()).unwrap();
    place.write("stranger.pub", &format!("{stranger}\n"));
    place.run(&["evidence", "verify", "last", "--pin", "stranger.pub"]).code(22);
    // The private half of the old key is aside, and the new one signs.
    let new = key_in(&place, ".runbook/keys/ledger.key");
    assert_eq!(new.public_key(), known[1].public_key());
    assert_eq!(key_in(&place, &aside(&known[0])).public_key(), known[0].public_key());
    place.run(&["doctor", "--offline"]).code(0);
}

#[test]
fn the_old_key_used_after_the_rotation_is_not_trusted() {
    let place = with_run();
    place.run(&["evidence", "rotate-key", "--reason", "stolen"]).code(0);
    let known = keys(&place);
    let old = key_in(&place, &aside(&known[0]));
    on_the_ledger(&place, async |store| append_as(store, heartbeat, &[(&old, &known[0])]).await);
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(22).json();
    assert!(verdict["problems"][0].as_str().unwrap().contains("was in force"), "{verdict}");
    // And nothing is sealed on it.
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(9);
}

#[test]
fn a_rotation_without_the_old_keys_signature_is_not_trusted() {
    let place = with_run();
    let known = keys(&place);
    let thief = FileKey::from_seed([9; 32]);
    let public = VerifierKey::new(known[0].name(), &thief.public_key()).unwrap();
    let notice = |seq| {
        use base64::Engine as _;
        let text = rotation_text(&known[0].to_string(), &public.to_string(), seq);
        let signature = base64::engine::general_purpose::STANDARD.encode(thief.sign(text.as_bytes()));
        Notice::KeyRotated {
            old_key: known[0].to_string(),
            new_key: public.to_string(),
            old_signature: signature.clone(),
            new_signature: signature,
            reason: "none".into(),
            by: Person { name: "mallory".into(), uid: 0, from: None },
        }
    };
    on_the_ledger(&place, async |store| append_as(store, notice, &[(&thief, &public)]).await);
    std::fs::write(place.path(".runbook/keys/ledger.key"), thief.encode().as_bytes()).unwrap();
    place.write(".runbook/keys/ledger.pub", &format!("{}\n{public}\n", known[0]));
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(22).json();
    assert!(verdict["problems"][0].as_str().unwrap().contains("not signed by the old key"), "{verdict}");
}

#[test]
fn the_key_is_not_replaced_under_a_run() {
    let place = Place::project();
    let mut run = place.start_waiting();
    let refused = place.run(&["evidence", "rotate-key", "--reason", "now"]).code(3);
    assert!(refused.stderr.contains("RB0660"), "{}", refused.stderr);
    place.write("go", "");
    assert!(run.wait().unwrap().success());
    place.run(&["evidence", "rotate-key", "--reason", "now"]).code(0);
    place.run(&["evidence", "rotate-key", "--reason", ""]).code(2);
}
