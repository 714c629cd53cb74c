//! Somebody tampers with a project's own database and files, or with a bundle that was exported: what `evidence verify`
//! says. The cases have the numbers of `docs/concepts/tamper-cases.md`.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use place::Place;
use serde_json::Value;

const BIG: &str = "schema: runbook/v1\nname: big\ntargets: {select: here}\nirreversible: it only prints\nexecute:\n  - id: \
                   print\n    run: od -An -v -tx1 -N 300000 /dev/urandom\n";

/// A project with two runs on record.
fn project() -> Place {
    let place = Place::project();
    place.write("runbooks/big.yaml", BIG);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place.run(&["apply", "runbooks/big.yaml"]).code(0);
    place
}

/// Does SQL as somebody would who has the database's file: its triggers are dropped first.
fn sql(place: &Place, script: &str) {
    let code = "import sqlite3,sys\ndb=sqlite3.connect(sys.argv[1])\n\
                for (name,) in db.execute(\"select name from sqlite_master where type='trigger'\").fetchall(): db.execute('drop trigger '+name)\n\
                db.executescript(sys.argv[2])\ndb.commit()\ndb.execute('pragma wal_checkpoint(truncate)')";
    let database = place.path(".runbook/runbook.db");
    let done = Command::new("python3").args(["-c", code]).arg(database).arg(script).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn judge(place: &Place, code: i32) -> Value {
    place.run(&["evidence", "verify", "last", "--json"]).code(code).json()
}

fn first(verdict: &Value) -> &str {
    verdict["problems"][0].as_str().unwrap_or_default()
}

/// The newest signed head.
fn head(place: &Place) -> String {
    let code = "import sqlite3,sys\nprint(sqlite3.connect(sys.argv[1]).execute('select note from checkpoints order by size desc').fetchone()[0],end='')";
    let done = Command::new("python3").args(["-c", code]).arg(place.path(".runbook/runbook.db")).output().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn case_1_a_changed_byte_of_a_record_is_named_by_its_place() {
    let place = project();
    sql(
        &place,
        "update records set bytes = cast(replace(cast(bytes as text), 'run_started', 'run_startec') as blob) where seq = 1;",
    );
    let verdict = judge(&place, 20);
    assert_eq!((&verdict["first_bad"]["record"], verdict["of"].as_str()), (&1.into(), Some("run")));
    assert!(first(&verdict).contains("record 1"), "{verdict}");
}

#[test]
fn case_2_records_cut_from_the_end_are_missed_by_the_ledgers_own_heads() {
    let place = project();
    sql(&place, "delete from records where seq >= (select max(seq) - 3 from records);");
    assert!(first(&judge(&place, 20)).contains("is damaged"));
}

#[test]
fn case_3_and_36_an_older_copy_is_missed_by_the_size_beside_the_key_and_by_a_head_held_elsewhere() {
    let place = project();
    let older = place.path("older");
    copy(&place.path(".runbook"), &older);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let newer = head(&place);
    place.write("auditor.note", &newer);
    // The database alone is put back: the size beside the key tells, and nothing more is run.
    for name in ["runbook.db", "runbook.db-wal", "runbook.db-shm"] {
        let _ = fs::remove_file(place.path(&format!(".runbook/{name}")));
    }
    copy(&older.join("runbook.db"), &place.path(".runbook/runbook.db"));
    if older.join("runbook.db-wal").exists() {
        copy(&older.join("runbook.db-wal"), &place.path(".runbook/runbook.db-wal"));
    }
    assert!(first(&judge(&place, 21)).contains("an older copy was put back"));
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(2);
    // All of it is put back: only who holds a head elsewhere can tell.
    fs::remove_dir_all(place.path(".runbook")).unwrap();
    copy(&older, &place.path(".runbook"));
    let verdict = judge(&place, 11);
    assert!(verdict["not_checked"].to_string().contains("nobody outside"), "{verdict}");
    let verdict = place.run(&["evidence", "verify", "last", "--against", "auditor.note", "--json"]).code(21).json();
    assert!(first(&verdict).contains("records are missing"), "{verdict}");
}

#[test]
fn case_4_a_ledger_begun_anew_with_the_same_key_is_another_history() {
    let place = project();
    place.write("auditor.note", &head(&place));
    for name in ["runbook.db", "runbook.db-wal", "runbook.db-shm"] {
        let _ = fs::remove_file(place.path(&format!(".runbook/{name}")));
    }
    // What is kept beside the database says that it had records.
    judge(&place, 21);
    // All but the key is begun anew.
    let keys = place.path("keys");
    copy(&place.path(".runbook/keys"), &keys);
    fs::remove_dir_all(place.path(".runbook")).unwrap();
    fs::remove_file(keys.join("ledger.head")).unwrap();
    fs::DirBuilder::new().create(place.path(".runbook")).unwrap();
    copy(&keys, &place.path(".runbook/keys"));
    for _ in 0..3 {
        place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    }
    judge(&place, 11);
    let verdict = place.run(&["evidence", "verify", "last", "--against", "auditor.note", "--json"]).code(21).json();
    assert!(first(&verdict).contains("auditor.note"), "{verdict}");
}

#[test]
fn case_5_exchanged_doubled_and_inserted_records_are_named() {
    let exchanged = project();
    sql(
        &exchanged,
        "create temp table t as select seq, bytes, leaf from records where seq in (2, 3);
         update records set (bytes, leaf) = (select bytes, leaf from t where t.seq = 5 - records.seq) where seq in (2, 3);",
    );
    assert_eq!(judge(&exchanged, 20)["first_bad"]["record"], 2);
    let doubled = project();
    sql(
        &doubled,
        "update records set seq = -seq - 1, run_seq = -run_seq - 1 where seq > 2;
         update records set seq = -seq, run_seq = -run_seq where seq < 0;
         insert into records select 3, run, 3, leaf, bytes from records where seq = 2;",
    );
    judge(&doubled, 20);
}

#[test]
fn case_8_and_33_a_content_removed_by_hand_is_a_gap_and_a_changed_one_is_tampering() {
    let place = project();
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    let digest = place::step(&run, "print")["stdout"]["blob"].as_str().unwrap().to_owned();
    let blob = place.path(&format!(".runbook/blobs/sha256/{}/{digest}", &digest[..2]));
    let kept = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    let verdict = judge(&place, 12);
    assert!(verdict["gaps"].to_string().contains("no record of its removal"), "{verdict}");
    fs::write(&blob, &kept[..kept.len() / 2]).unwrap();
    assert!(first(&judge(&place, 20)).contains("here/print"));
    fs::remove_dir_all(place.path(".runbook/blobs/sha256")).unwrap();
    judge(&place, 12);
}

#[test]
fn case_23_a_record_written_anew_says_the_same_and_is_tampering() {
    let place = project();
    // White space between the fields: every reader of JSON takes it for the same.
    sql(
        &place,
        "update records set bytes = cast(replace(cast(bytes as text), '\",\"run_seq\"', '\", \"run_seq\"') as blob) where seq = 4;",
    );
    assert_eq!(judge(&place, 20)["first_bad"]["record"], 4);
}

#[test]
fn case_25_a_strange_signature_under_a_head_is_passed_over_and_a_false_one_by_the_ledgers_key_is_not() {
    let place = project();
    sql(
        &place,
        "update checkpoints set note = note || char(8212) || ' somebody AAAAAAA=' || char(10) where id = (select max(id) from checkpoints);",
    );
    judge(&place, 11);
    sql(&place, "update checkpoints set note = replace(note, char(10) || '1', char(10) || '01') where id = 1;");
    let note = head(&place);
    sql(
        &place,
        &format!(
            "update checkpoints set note = replace(note, '{}', '0') where id = (select max(id) from checkpoints);",
            note.lines().nth(1).unwrap()
        ),
    );
    judge(&place, 20);
}

/// A bundle of the last run in a folder beside the project.
fn exported(place: &Place) -> PathBuf {
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    place.path("bundle")
}

#[test]
fn case_34_and_37_an_exported_bundle_verifies_without_the_project_and_is_the_same_in_another_locale() {
    let place = project();
    let bundle = exported(&place);
    fs::copy(place.path(".runbook/keys/ledger.pub"), place.path("pinned.pub")).unwrap();
    let elsewhere = Place::empty();
    let (folder, pin) = (bundle.to_str().unwrap(), place.path("pinned.pub"));
    let verdict = elsewhere.run(&["evidence", "verify", folder, "--json"]).code(11).json();
    assert_eq!((verdict["of"].as_str(), verdict["gaps"].as_array().unwrap().len()), (Some("bundle"), 0));
    elsewhere.run(&["evidence", "verify", folder, "--pin", pin.to_str().unwrap()]).code(10);
    // Nothing can be written: verifying needs a place for temporary files and nothing of the bundle.
    place.run(&["evidence", "export", "last", "--out", "again.tar.zst"]).code(0);
    let archive = place.path("again.tar.zst");
    elsewhere.run(&["evidence", "verify", archive.to_str().unwrap(), "--pin", pin.to_str().unwrap()]).code(10);
    let script = bundle.join("verify.py");
    let done =
        Command::new("python3").args(["-I", "-B"]).arg(&script).arg(&bundle).arg("--pin").arg(&pin).output().unwrap();
    assert_eq!(done.status.code(), Some(10), "{}", String::from_utf8_lossy(&done.stdout));
    // The same run exported in another zone and locale, byte for byte.
    let again = Command::new(env!("CARGO_BIN_EXE_runbook"))
        .args(["evidence", "export", "last", "--out", "third"])
        .current_dir(place.path("."))
        .env("TZ", "Pacific/Apia")
        .env("LC_ALL", "tr_TR.UTF-8")
        .output()
        .unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let same = Command::new("diff").arg("-r").arg(&bundle).arg(place.path("third")).output().unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    // Converted line ends are other bytes.
    let record = fs::read_dir(bundle.join("records")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, format!("\u{feff}{text}\r\n")).unwrap();
    elsewhere.run(&["evidence", "verify", folder]).code(20);
}

#[test]
fn case_1_of_a_bundle_every_kind_of_file_is_named_when_it_was_changed() {
    let place = project();
    let bundle = exported(&place);
    let files = Command::new("find").arg(&bundle).args(["-type", "f", "-printf", "%P\\n"]).output().unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for name in String::from_utf8(files.stdout).unwrap().lines() {
        // One of each folder; the list's signature has a finding of its own.
        if name.starts_with("SHA256SUMS") || !kinds.insert(name.split('/').next().unwrap().to_owned()) {
            continue;
        }
        let path = bundle.join(name);
        let kept = fs::read(&path).unwrap();
        let mut changed = kept.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&path, &changed).unwrap();
        let verdict = place.run(&["evidence", "verify", "./bundle", "--json"]).code(20).json();
        assert_eq!(verdict["first_bad"]["file"], name, "{verdict}");
        fs::write(&path, &kept).unwrap();
    }
    assert!(kinds.len() > 12, "{kinds:?}");
    place.run(&["evidence", "verify", "./bundle"]).code(11);
}

#[test]
fn case_7_two_histories_by_one_key_are_told_apart_when_their_heads_meet() {
    let place = project();
    let fork = place.path("fork");
    copy(&place.path(".runbook"), &fork);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let ours = exported(&place);
    // The other history: as if the last run had never been, and something else came after.
    fs::remove_dir_all(place.path(".runbook")).unwrap();
    copy(&fork, &place.path(".runbook"));
    place.run(&["apply", "runbooks/big.yaml"]).code(0);
    let theirs = head(&place);
    place.write("theirs.note", &theirs);
    let sizes = [ours.join("ledger/checkpoint"), place.path("theirs.note")]
        .map(|path| fs::read_to_string(path).unwrap().lines().nth(1).unwrap().parse::<u64>().unwrap());
    let code = if sizes[1] <= sizes[0] { 21 } else { 11 };
    place.run(&["evidence", "verify", "./bundle", "--against", "theirs.note"]).code(code);
    let ours = ours.join("ledger/checkpoint");
    let code =
        place.run(&["evidence", "verify", "last", "--against", ours.to_str().unwrap(), "--json"]).code(21).json();
    assert!(first(&code).contains("another history") || first(&code).contains("missing"), "{code}");
}
