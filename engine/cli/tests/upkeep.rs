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
use runbook_testkit::bad_disk::BadDisk;

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
    Notice::Heartbeat { clock: runbook_model::event::ClockState::default(), every_ms: None }
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

#[test]
fn withheld_lines_are_on_record_and_the_rest_comes_to_the_same_root() {
    let place = with_run();
    let step = "the-greeting-says-hello";
    let redact = |more: &[&str]| {
        let base = ["evidence", "redact", "last", "--host", "here", "--step", step, "--reason", "a name"];
        place.run(&[&base, more].concat())
    };
    for (more, code) in [(&["--lines", "7"][..], 2), (&["--match", "nobody"], 2), (&["--match", "("], 2), (&[], 2)] {
        redact(more).code(code);
    }
    assert!(redact(&["--lines", "1", "--stream", "stderr"]).code(2).stderr.contains("RB0664"));
    let said = redact(&["--match", "^hel+o$", "--json"]).code(0).json();
    assert_eq!((&said["ranges"], &said["withheld"]), (&serde_json::json!([[0, 0]]), &1.into()));
    let shown = place.run(&["show", "last"]).code(0).stdout;
    assert!(shown.contains("1 line of stdout withheld in redacted editions"), "{shown}");
    let redactions = place.run(&["show", "last", "--json"]).code(0).json()["redactions"].clone();
    assert_eq!((&redactions[0]["step"], &redactions[0]["withheld"]), (&step.into(), &1.into()), "{redactions:#}");
    place.run(&["evidence", "report", "last", "--out", "report.html"]).code(0);
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(page.contains("Withheld in redacted editions: 1 line of stdout, by "), "{page}");
    let logs = place.run(&["logs", "last", "--step", step]).code(0).stdout;
    assert!(logs.contains("withheld in redacted editions") && logs.contains("hello\n"), "{logs}");
    place.run(&["evidence", "verify", "last"]).code(11);

    // From the record and the blob alone.
    on_the_ledger(&place, async |store| {
        use runbook_ports::BlobStore as _;
        let mut output = None;
        let mut ranges = Vec::new();
        for sealed in store.ledger(0, usize::MAX).await.unwrap() {
            match runbook_ledger::record::parse(&sealed.bytes).unwrap().event {
                Event::AttemptEnded { attempt, report, .. } if attempt.step.as_str() == step => {
                    output = Some(report.stdout);
                }
                Event::Installation(Notice::OutputsRedacted { ranges: more, .. }) => ranges.extend(more),
                _ => {}
            }
        }
        let output = output.unwrap();
        let blob = store.get(&output.blob.unwrap(), 1 << 20).await.unwrap();
        let withheld = runbook_ledger::redaction::Withheld::new(ranges);
        let mut document = String::new();
        let mut put = |text: &str| document.push_str(text);
        let mut redacter = runbook_ledger::redaction::Redacter::new(&output, &withheld, &mut put).unwrap();
        redacter.push(&blob, &mut put).unwrap();
        redacter.finish(&mut put).unwrap();
        assert!(!document.contains("hello"), "{document}");
        let mut reader = runbook_ledger::redaction::Reader::new(&output).unwrap();
        for line in document.lines() {
            reader.line(line.as_bytes()).unwrap();
        }
        assert_eq!(reader.finish(), Ok(withheld));
    });
}

#[test]
fn an_idle_ledger_is_signed_once_in_an_interval() {
    let place = Place::project();
    let beat = |more: &[&str]| place.run(&[&["evidence", "heartbeat"], more].concat());
    let size = || on_the_ledger(&place, async |store| store.head().await.unwrap().size);
    beat(&[]).code(0);
    assert_eq!(size(), 1);
    let said = beat(&[]).code(0);
    assert_eq!((size(), said.stdout.as_str(), said.stderr.as_str()), (1, "", ""), "silent, and nothing was done");
    // A record of 1970 is old.
    let signer = key_in(&place, ".runbook/keys/ledger.key");
    let key = keys(&place).remove(0);
    on_the_ledger(&place, async |store| append_as(store, heartbeat, &[(&signer, &key)]).await);
    let doctor = place.run(&["doctor", "--offline"]).stdout;
    assert!(doctor.contains("signed head"), "{doctor}");
    beat(&["--every", "1h"]).code(0);
    assert_eq!(size(), 3);
    assert!(beat(&["--every", "10s"]).code(2).stderr.contains("RB0661"));
    let units = beat(&["--systemd", "--every", "1h"]).code(0).stdout;
    assert!(units.contains("evidence heartbeat --every 1h\n") && units.contains("OnUnitActiveSec=720s"), "{units}");
    assert_eq!(size(), 3);
}

/// As on a disk that lost its last blocks.
fn sql(place: &Place, statements: &'static str) {
    use sqlx::Connection as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".runbook/runbook.db"));
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

async fn append_unsigned(store: &SqliteStore) {
    let head = store.head().await.unwrap();
    let mut sealer = Sealer::new(&head).unwrap();
    let run = RunId::installation();
    let run_seq = store.records(&run, 0, usize::MAX).await.unwrap().len() as u64;
    let record = sealer.seal(0, 0, &run, run_seq, &Event::Installation(heartbeat(0))).unwrap();
    let append = Append { expected_size: head.size, records: vec![record], head: sealer.head(), ..Append::default() };
    store.append(append).await.unwrap();
}

#[test]
fn what_does_not_read_beyond_the_signed_head_is_set_aside_and_below_it_never() {
    let place = with_run();
    let recover = || place.run(&["evidence", "recover", "--reason", "power failure", "--json"]);
    assert!(recover().code(0).stderr.contains("nothing was set aside"));
    let signed = on_the_ledger(&place, async |store| {
        let size = store.head().await.unwrap().size;
        append_unsigned(store).await;
        append_unsigned(store).await;
        append_unsigned(store).await;
        size
    });
    sql(
        &place,
        "DROP TRIGGER records_never_change; UPDATE records SET bytes = x'7b7d' WHERE seq = (SELECT max(seq) - 1 FROM records)",
    );
    place.run(&["evidence", "verify", "last"]).code(20);
    let said = recover().code(0).json();
    assert_eq!((&said["at_size"], &said["records"]), (&(signed + 1).into(), &2.into()), "{said}");
    place.run(&["evidence", "verify", "last"]).code(11);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    on_the_ledger(&place, async |store| {
        use runbook_ports::BlobStore as _;
        let digest = said["set_aside"].as_str().unwrap().parse().unwrap();
        let lines = String::from_utf8(store.get(&digest, 1 << 20).await.unwrap()).unwrap();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!((first["seq"].as_u64(), &first["base64"]), (Some(signed + 1), &"e30=".into()), "{lines}");
    });

    sql(&place, "UPDATE records SET bytes = x'7b7d' WHERE seq = 2");
    let refused = recover().code(20);
    assert!(refused.stderr.contains("RB0662") && refused.stderr.contains("record 2"), "{}", refused.stderr);
    place.run(&["evidence", "verify", "last"]).code(20);
}

/// Puts an older copy of the state in its place, but for the keys; without `end`, if so told.
fn put_back(place: &Place, copy: &str, end: bool) {
    for name in ["runbook.db", "runbook.db-wal", "runbook.db-shm"] {
        let _ = std::fs::remove_file(place.path(".runbook").join(name));
        let _ = std::fs::copy(place.path(copy).join(name), place.path(".runbook").join(name));
    }
    if end {
        std::fs::copy(place.path(copy).join("end"), place.path(".runbook/end")).unwrap();
    }
}

#[test]
fn an_older_copy_is_refused_until_somebody_says_so_on_the_record() {
    for (end, rotated) in [(true, false), (false, false), (true, true)] {
        let place = with_run();
        assert!(
            std::process::Command::new("cp")
                .args(["-a", ".runbook", "copy"])
                .current_dir(place.root())
                .status()
                .unwrap()
                .success()
        );
        if rotated {
            place.run(&["evidence", "rotate-key", "--reason", "yearly"]).code(0);
        }
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
        let known = on_the_ledger(&place, async |store| store.head().await.unwrap().size);
        put_back(&place, "copy", end);
        let folder = place.folder();
        let step = "the-greeting-says-hello";
        for command in [
            &["apply", "runbooks/hello.yaml", "-p", &folder][..],
            &["rollback", "last", "--yes"],
            &["evidence", "heartbeat", "--every", "1m"],
            &["evidence", "rotate-key", "--reason", "x"],
            &["evidence", "recover", "--reason", "x"],
            &["evidence", "redact", "last", "--host", "here", "--step", step, "--lines", "1", "--reason", "x"],
        ] {
            let said = place.run(command);
            // An interval that has not passed is not looked at further.
            if command[1] == "heartbeat" && said.code == Some(0) {
                continue;
            }
            assert!(matches!(said.code, Some(2 | 3)), "{command:?}: {said:?}");
            assert!(said.stderr.contains("RB0616") || said.stderr.contains("RB0503"), "{command:?}: {}", said.stderr);
        }
        let said = place.run(&["evidence", "restored", "--reason", "disk replaced", "--json"]).code(0).json();
        assert_eq!(said["known_size"], known);
        assert!(place.run(&["evidence", "restored", "--reason", "x"]).code(3).stderr.contains("RB0665"));
        place.run(&["evidence", "verify", "last"]).code(11);
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
        place.run(&["evidence", "verify", "last"]).code(11);
    }
}

/// The newest signed head in the project's database.
fn newest_head(place: &Place) -> String {
    on_the_ledger(place, async |store| store.last_checkpoint().await.unwrap().unwrap().note)
}

#[test]
fn a_head_of_what_was_lost_is_explained_also_when_the_ledger_has_grown_past_it() {
    let place = with_run();
    keep(&place, ".runbook", "copy");
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place.write("lost.note", &newest_head(&place));
    put_back(&place, "copy", true);
    place.run(&["evidence", "restored", "--reason", "disk replaced"]).code(0);
    let against = |of: &str| {
        let verdict = place.run(&["evidence", "verify", of, "--against", "lost.note", "--json"]).code(12).json();
        assert!(
            verdict["gaps"][0]["what"].as_str().unwrap().contains("an older copy of the ledger was put back"),
            "{verdict}"
        );
    };
    against("last");
    for _ in 0..2 {
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    }
    against("last");
    // A bundle has the record that says so with it.
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    against("./bundle");
    place.run(&["evidence", "verify", "./bundle"]).code(11);
    // A head that nobody signed before the copy was put back is another history all the same.
    let known = keys(&place);
    let secret = key_in(&place, ".runbook/keys/ledger.key");
    let size = on_the_ledger(&place, async |store| store.head().await.unwrap().size);
    let forged =
        Checkpoint { origin: known[0].name().to_owned(), size: size - 1, root: runbook_model::Sha256([7; 32]) };
    place.write("lost.note", &forged.sign(None, &known[0], |bytes| Ok(secret.sign(bytes))).unwrap());
    place.run(&["evidence", "verify", "last", "--against", "lost.note"]).code(21);
}

fn keep(place: &Place, from: &str, to: &str) {
    let script = format!("rm -rf {to} && cp -a {from} {to}");
    assert!(
        std::process::Command::new("sh").args(["-c", &script]).current_dir(place.root()).status().unwrap().success()
    );
}

/// Calls a command again and again from the state in `copy`, each time killed (SIGKILL) one call later that makes
/// a change below the state last; `then` looks at what each one leaves. Returns how many there were.
fn killed_everywhere(place: &Place, disk: &BadDisk, arguments: &[&str], mut then: impl FnMut(u64)) -> u64 {
    use std::os::unix::process::ExitStatusExt as _;
    for at in 1.. {
        keep(place, "copy", ".runbook");
        let mut command = place.command(arguments);
        disk.kill(&mut command, &place.path(".runbook"), at);
        let output = command.output().unwrap();
        match output.status.signal() {
            Some(9) => then(at),
            None if output.status.success() => return at - 1,
            _ => panic!("{arguments:?} at {at}: {output:?}"),
        }
    }
    unreachable!("it ends when nothing is killed any more");
}

fn notices_of_copies(place: &Place) -> usize {
    on_the_ledger(place, async |store| {
        let records = store.records(&RunId::installation(), 0, usize::MAX).await.unwrap();
        let is = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("ledger_restored");
        records.iter().filter(|record| is(&record.bytes)).count()
    })
}

#[test]
fn an_older_copy_is_never_gone_on_with_silently_wherever_the_acceptance_dies() {
    let Some(disk) = BadDisk::make() else {
        return runbook_testkit::lab::skip("there is no `cc` that makes a shared library");
    };
    // What is known of is kept beside the database alone, or beside the key too; and the key may have changed since.
    for (beside_the_key, rotated) in [(false, false), (true, false), (true, true)] {
        let place = with_run();
        keep(&place, ".runbook", "older");
        if rotated {
            place.run(&["evidence", "rotate-key", "--reason", "yearly"]).code(0);
        }
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
        put_back(&place, "older", false);
        if !beside_the_key {
            std::fs::remove_file(place.path(".runbook/keys/ledger.head")).unwrap();
        }
        keep(&place, ".runbook", "copy");
        let restored = ["evidence", "restored", "--reason", "disk replaced"];
        let killed = killed_everywhere(&place, &disk, &restored, |at| {
            let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]);
            if said.code == Some(0) {
                assert_eq!(notices_of_copies(&place), 1, "{at}: gone on with, and nothing on record");
                assert!(place.run(&restored).code(3).stderr.contains("RB0665"), "{at}");
            } else {
                assert!(matches!(said.code, Some(2 | 3)), "{at}: {said:?}");
                place.run(&restored).code(0);
            }
            assert_eq!(notices_of_copies(&place), 1, "{at}: told once");
            place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
            place.run(&["evidence", "verify", "last"]).code(11);
        });
        assert!(killed > 3, "{killed}");
    }
}

#[test]
fn a_rotation_that_is_killed_anywhere_leaves_a_project_that_works() {
    let Some(disk) = BadDisk::make() else {
        return runbook_testkit::lab::skip("there is no `cc` that makes a shared library");
    };
    let place = with_run();
    std::fs::copy(place.path(".runbook/keys/ledger.pub"), place.path("first.pub")).unwrap();
    let first = keys(&place);
    keep(&place, ".runbook", "copy");
    let mut lengths = std::collections::BTreeSet::new();
    let rotate = ["evidence", "rotate-key", "--reason", "yearly"];
    let killed = killed_everywhere(&place, &disk, &rotate, |at| {
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
        let known = keys(&place);
        lengths.insert(known.len());
        assert!(!place.path(".runbook/keys/ledger.key.next").exists(), "{at}");
        assert_eq!(place.path(&aside(&first[0])).exists(), known.len() == 2, "{at}");
        place.run(&rotate).code(0);
        assert_eq!(keys(&place).len(), known.len() + 1, "{at}");
        place.run(&["evidence", "verify", "last", "--pin", "first.pub"]).code(10);
    });
    assert!(killed > 8, "{killed}");
    assert_eq!(Vec::from_iter(lengths), [1, 2], "before and after it was on record");
}
