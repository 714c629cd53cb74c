//! What is on record beside the steps: under which settings, from which commit, by which program, which files were moved,
//! and who read what hosts printed.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, step};
use runbook_model::record::Record;
use runbook_model::{Event, Notice, Sha256};
use runbook_ports::Store as _;
use runbook_store::SqliteStore;
use serde_json::json;

fn records(place: &Place) -> Vec<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::open(&place.path(".runbook")).await.unwrap();
        let records = store.ledger(0, usize::MAX).await.unwrap();
        store.close().await;
        records.iter().map(|sealed| runbook_ledger::record::parse(&sealed.bytes).unwrap()).collect()
    })
}

fn notices(place: &Place) -> Vec<Notice> {
    let notice = |record: Record| match record.event {
        Event::Installation(notice) => Some(notice),
        _ => None,
    };
    records(place).into_iter().filter_map(notice).collect()
}

fn apply(place: &Place) {
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
}

fn settings(place: &Place, text: &str) -> Sha256 {
    place.write("runbook.toml", text);
    Sha256::of(text.as_bytes())
}

#[test]
fn each_run_names_its_settings_and_a_change_of_them_is_a_record_before_anything_is_done_under_them() {
    let place = Place::project();
    let first = Sha256::of(&std::fs::read(place.path("runbook.toml")).unwrap());
    apply(&place);
    apply(&place);
    assert_eq!(notices(&place), [], "nothing has changed");
    assert_eq!(place.run(&["show", "last", "--json"]).json()["settings_sha256"], first.to_string());

    // Before a run.
    let longer = settings(&place, "[retention]\ncui = 90\n[anchors.disk]\nkind = \"file\"\npath = \"/tmp/heads\"\n");
    place.run(&["runs"]).code(0);
    assert_eq!(notices(&place), [], "who only looks works under no settings");
    apply(&place);
    let all = records(&place);
    let changed = all.iter().position(|record| record.event.clone() == told(&all)[0]).unwrap();
    let Event::RunOpened(header) = &all[changed + 1].event else { panic!("{:?}", all[changed + 1]) };
    assert_eq!(header.settings_sha256, Some(longer));
    let Event::Installation(Notice::SettingsChanged { sha256, settings: Some(blob), seen_by }) = &told(&all)[0] else {
        panic!("{:?}", told(&all));
    };
    assert_eq!((*sha256, seen_by.is_some()), (longer, true));
    let effective = json!({
        "schema": "settings/v1",
        "retention": {"operational": 12, "default": 36, "cui": 90},
        "anchors": {"disk": "file"},
    });
    assert_eq!(blob_of(&place, blob), effective);

    // Before something is done to evidence, with the same settings as the first.
    std::fs::remove_file(place.path(".runbook/keys/settings.seen")).unwrap();
    place.run(&["retention", "hold", "audit", "--reason", "asked for"]).code(0);
    assert_eq!(told(&records(&place)).len(), 1, "what was forgotten beside the key is looked up in the ledger");
    let shorter = settings(&place, "[retention]\ncui = 72\n");
    place.run(&["retention", "lift", "audit", "--reason", "over"]).code(0);
    let last = notices(&place);
    let [.., Notice::SettingsChanged { sha256, .. }, Notice::HoldLifted { .. }] = &last[..] else { panic!("{last:?}") };
    assert_eq!(*sha256, shorter);
    place.run(&["evidence", "verify", "last"]).code(11);
}

fn told(records: &[Record]) -> Vec<Event> {
    let changed = |event: &Event| matches!(event, Event::Installation(Notice::SettingsChanged { .. }));
    records.iter().map(|record| record.event.clone()).filter(changed).collect()
}

fn blob_of(place: &Place, digest: &Sha256) -> serde_json::Value {
    use runbook_ports::BlobStore as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bytes = runtime.block_on(async {
        let store = SqliteStore::open(&place.path(".runbook")).await.unwrap();
        let bytes = store.get(digest, 1 << 20).await.unwrap();
        store.close().await;
        bytes
    });
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn who_reads_what_hosts_printed_is_on_record() {
    let place = Place::project();
    apply(&place);
    let printed = place.run(&["logs", "last"]).code(0);
    assert!(printed.stdout.contains("hello"), "{printed:?}");
    place.run(&["logs", "last", "--step", "the-greeting-says-hello", "--raw"]).code(0);
    // States and outcomes alone are no evidence that was read.
    place.run(&["show", "last"]).code(0);
    place.run(&["runs"]).code(0);
    let read = |notice: &Notice| matches!(notice, Notice::EvidenceRead { command, .. } if command == "logs");
    assert_eq!(notices(&place).iter().map(read).collect::<Vec<_>>(), [true, true]);
    place.run(&["evidence", "verify", "last"]).code(11);
}

#[test]
fn a_run_names_the_commit_of_its_runbook_wherever_it_is_told() {
    let place = Place::project();
    apply(&place);
    assert_eq!(place.run(&["show", "last", "--json"]).json()["revision"], json!(null), "under no version control");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        let mut git = std::process::Command::new("git");
        let said = git.args(identity).args(arguments).current_dir(place.root()).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        said.stdout
    };
    // The tests' home and what runs leave are no part of the project.
    place.write(".gitignore", ".runbook/\nhome/\nstate/\ngreeting/\nbundle/\nreport.html\n");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    apply(&place);
    let run = place.run(&["show", "last", "--json"]).json();
    let commit = run["revision"]["commit"].as_str().unwrap().to_owned();
    let committed = git(&["show", &format!("{commit}:runbooks/hello.yaml")]);
    let sha256 = Sha256::of(&committed).to_string();
    let revision = json!({"commit": commit, "path": "runbooks/hello.yaml", "sha256": sha256, "clean": true});
    assert_eq!(run["revision"], revision);
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let readme = std::fs::read_to_string(place.path("bundle/README.txt")).unwrap();
    assert!(readme.contains(&format!("Revision:  runbooks/hello.yaml at commit {commit}\n")), "{readme}");

    place.write("runbooks/other.yaml", "not committed");
    apply(&place);
    assert_eq!(place.run(&["show", "last", "--json"]).json()["revision"]["clean"], json!(false));
    place.run(&["evidence", "report", "last", "--out", "report.html"]).code(0);
    let report = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(report.contains("files of the project are not as they were committed"), "a deviation");
}

#[test]
fn files_that_were_moved_are_told_with_their_digests_wherever_the_run_is_told() {
    let place = Place::project();
    let to = place.path("greeting").display().to_string();
    place.write("runbooks/motd", "be kind\n");
    let text = format!(
        "schema: runbook/v1\nname: move\nexecute:\n  - id: send\n    upload: {{from: motd, to: {to}/motd}}\n    undo: {{run: \
         'rm -f {to}/motd'}}\nverify:\n  - id: fetch\n    download: {{from: {to}/motd}}\n"
    );
    std::fs::create_dir(&to).unwrap();
    place.write("runbooks/move.yaml", &text);
    place.run(&["apply", "runbooks/move.yaml"]).code(0);
    let sha256 = Sha256::of(b"be kind\n").to_string();
    let run = place.run(&["show", "last", "--json"]).json();
    let path = format!("{to}/motd");
    assert_eq!(
        step(&run, "send")["transfers"],
        json!([{"direction": "upload", "path": path, "sha256": sha256, "bytes": 8}])
    );
    assert_eq!(
        step(&run, "fetch")["transfers"],
        json!([{"direction": "download", "path": path, "sha256": sha256, "bytes": 8, "blob": sha256}])
    );
    assert_eq!(step(&run, "fetch")["transfers_known"], json!(true));
    let show = place.run(&["show", "last"]).code(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(show.contains(&format!("(8 B, sha256 {}…)", &sha256[..12])), "{show}");
    place.run(&["evidence", "report", "last", "--out", "report.html"]).code(0);
    let report = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(report.contains("to the host") && report.contains("from the host"), "both directions");
    assert!(report.matches(&sha256).count() >= 2, "with their digests");
}
