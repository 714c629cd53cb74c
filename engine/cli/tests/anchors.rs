//! The real program with anchors around it: a witness that is a process, openssl's time stamp authority, rsyslog, git, a
//! file. All on this machine.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use place::Place;
use runbook_testkit::anchors::{Answer, Pki, Rsyslog, Server, Tsa};
use serde_json::Value;

/// A witness in a process of its own, which is killed at the end.
struct Witness {
    process: Child,
    key: String,
    url: String,
}

impl Witness {
    fn start(place: &Place, listen: &str) -> Self {
        let mut process = place
            .command(&["witness", "--listen", listen, "--state", "witness", "--origin-key", ".runbook/keys/ledger.pub"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut key = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut key).unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let url = loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the witness ended");
            if let Some(url) = line.trim().strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { process, key: key.trim().to_owned(), url }
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    fn section(&self) -> String {
        format!("[anchors.w1]\nkind = \"witness\"\nurl = \"{}\"\nkey = \"{}\"\n", self.url, self.key)
    }

    /// As a power cut would end it.
    fn kill(mut self) -> String {
        let address = self.address().to_owned();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        address
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn set_up(place: &Place, sections: &[String]) {
    place.write("runbook.toml", &sections.concat());
}

fn bare_repository(place: &Place) {
    let made = Command::new("git").args(["init", "-q", "--bare", "r.git"]).current_dir(place.root()).status();
    assert!(made.unwrap().success());
}

fn apply(place: &Place) -> place::Said {
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()])
}

fn anchors(place: &Place) -> Vec<Value> {
    place.run(&["show", "last", "--json"]).code(0).json()["anchors"].as_array().unwrap().clone()
}

fn covers(place: &Place) -> Vec<(String, bool)> {
    let line = |anchor: &Value| (anchor["name"].as_str().unwrap().to_owned(), anchor["covers_run"] == true);
    anchors(place).iter().map(line).collect()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_run_is_anchored_by_every_kind_and_verified_with_what_the_verifier_brings() {
    let place = Place::project();
    let (witness, pki) = (Witness::start(&place, "127.0.0.1:0"), Pki::new());
    let tsa = Tsa::new(&pki, "tsa", 30).serve();
    pki.certify_server("siem");
    let collector = Rsyslog::start(&pki, "siem", false);
    let ca = pki.path("ca.pem").display().to_string();
    bare_repository(&place);
    let mut more = witness.section();
    let root = place.root().display();
    let _ = write!(
        more,
        "[anchors.tsa]\nkind = \"rfc3161\"\nurl = \"{}\"\ntsa_ca = \"{ca}\"\n[anchors.git]\nkind = \"git\"\nremote = \
         \"file://{root}/r.git\"\n[anchors.disk]\nkind = \"file\"\npath = \"heads\"\n[anchors.siem]\nkind = \"syslog\"\n\
         address = \"127.0.0.1:{}\"\nca = \"{ca}\"\n",
        tsa.url, collector.port
    );
    set_up(&place, &[more]);
    let said = apply(&place).code(0);
    for name in ["disk (file)", "git (git)", "siem (syslog)", "tsa (rfc3161)", "w1 (witness)"] {
        assert!(said.stderr.contains(&format!("anchored by {name}: ")), "{name}: {}", said.stderr);
    }
    let all = ["disk", "git", "siem", "tsa", "w1"].map(|name| (name.to_owned(), true));
    assert_eq!(covers(&place), all);
    assert!(place.run(&["show", "last"]).code(0).stdout.contains("w1 (witness): holds "));
    assert!(collector.message().contains("[head@32473 "));

    // A receipt is recorded, and that asks for no further one.
    let before = place.run(&["show", "last", "--json"]).json()["ledger"].clone();
    for _ in 0..2 {
        let told = place.run(&["evidence", "anchor", "--json"]).code(0).json();
        let got: Vec<_> = told["anchors"].as_array().unwrap().iter().map(|anchor| anchor["receipt"].clone()).collect();
        assert_eq!(got, vec![Value::Null; 5], "{told:#}");
    }
    assert_eq!(place.run(&["show", "last", "--json"]).json()["ledger"], before);

    let verify = |more: &[&str]| place.run(&[&["evidence", "verify", "last", "--json"], more].concat());
    let (ledger, w, tsa_ca) =
        (["--pin", ".runbook/keys/ledger.pub"], ["--pin", "witness/witness.vkey"], ["--tsa-ca", &ca]);
    let has = |verdict: &Value, section: &str, text: &str| {
        let lines = verdict[section].as_array().unwrap();
        assert!(lines.iter().any(|line| line.as_str().unwrap().contains(text)), "{text}: {verdict:#}");
    };
    let verdict = verify(&[ledger, w].concat()).code(0).json();
    has(&verdict, "checked", "(pinned) saw this run at");
    has(&verdict, "checked", "checked with this project's own settings; give --tsa-ca");
    has(&verdict, "not_checked", "which acknowledges nothing");
    let verdict = verify(&[ledger, tsa_ca].concat()).code(0).json();
    has(&verdict, "checked", "the time stamp of tsa says that this run was there at");
    // The project's own word is told and is not enough.
    let verdict = verify(&ledger).code(10).json();
    has(&verdict, "checked", "checked with this project's own settings; pin its key");
    verify(&w).code(11);
    // Nor is another authority.
    let stranger = Pki::new();
    let other = stranger.path("ca.pem").display().to_string();
    let verdict = verify(&[ledger, ["--tsa-ca", &other]].concat()).code(10).json();
    has(&verdict, "not_checked", "not verified with");
    // A bundle has the receipts with it.
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let bundle = |more: &[&str]| place.run(&[&["evidence", "verify", "./bundle", "--json"], more].concat());
    let verdict = bundle(&[ledger, w].concat()).code(0).json();
    has(&verdict, "checked", "(pinned) saw this run at");
    has(&verdict, "not_checked", "tsa: the time stamp of");
    has(
        &bundle(&[ledger, tsa_ca].concat()).code(0).json(),
        "checked",
        "the time stamp of tsa says that this run was there",
    );
    has(&bundle(&ledger).code(10).json(), "not_checked", "pin the witness's key");
    bundle(&w).code(11);
    // Without openssl it says so.
    let output = place
        .command(&[&["evidence", "verify", "last", "--json"], &ledger[..], &tsa_ca[..]].concat())
        .env("PATH", place.root())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(10));
    has(&serde_json::from_slice(&output.stdout).unwrap(), "not_checked", "not checked: there is no openssl here");
}

/// A file of a bundle whose name begins so.
fn in_bundle(bundle: &Path, begin: &str) -> std::path::PathBuf {
    let (folder, begin) = begin.rsplit_once('/').unwrap();
    let mut names = std::fs::read_dir(bundle.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.file_name().unwrap().to_str().unwrap().contains(begin)).unwrap()
}

/// Writes the list of files anew, as somebody would who has not the key.
fn list_anew(bundle: &Path) {
    let script = "rm -f SHA256SUMS.sig; find . -type f ! -name SHA256SUMS -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum >../new; \
                  mv ../new SHA256SUMS";
    assert!(Command::new("sh").args(["-c", script]).current_dir(bundle).status().unwrap().success());
}

#[test]
fn a_run_that_others_anchored_later_verifies_from_its_bundle_alone() {
    let place = Place::project();
    let (witness, pki) = (Witness::start(&place, "127.0.0.1:0"), Pki::new());
    let tsa = Tsa::new(&pki, "tsa", 30).serve();
    let ca = pki.path("ca.pem").display().to_string();
    bare_repository(&place);
    let root = place.root().display();
    let disk = "[anchors.disk]\nkind = \"file\"\npath = \"heads\"\n".to_owned();
    set_up(&place, std::slice::from_ref(&disk));
    let run = apply(&place).code(0);
    assert!(run.stderr.contains("anchored by disk"));
    let run = place.run(&["show", "last", "--json"]).json()["run_id"].as_str().unwrap().to_owned();
    apply(&place).code(0);
    // The others come when the ledger has grown.
    let others = format!(
        "[anchors.tsa]\nkind = \"rfc3161\"\nurl = \"{}\"\n[anchors.git]\nkind = \"git\"\nremote = \"file://{root}/r.git\"\n",
        tsa.url
    );
    set_up(&place, &[disk, witness.section(), others]);
    place.run(&["evidence", "anchor"]).code(0);
    let told = place.run(&["evidence", "export", &run, "--out", "bundle", "--json"]).code(0).json();
    assert_eq!(told["anchors"].as_array().unwrap().len(), 4, "{told:#}");
    let size = told["ledger"]["size"].as_u64().unwrap();
    let bundle = place.path("bundle");
    let head = in_bundle(&bundle, "anchors/head-");
    let later: u64 = std::fs::read_to_string(&head).unwrap().lines().nth(1).unwrap().parse().unwrap();
    assert!(later > size, "{later} {size}");

    // Elsewhere, with nothing but the bundle and what the verifier brings.
    let elsewhere = Place::empty();
    for (from, to) in [(".runbook/keys/ledger.pub", "ledger.pub"), ("witness/witness.vkey", "witness.vkey")] {
        std::fs::copy(place.path(from), elsewhere.path(to)).unwrap();
    }
    copy(&bundle, &elsewhere.path("bundle"));
    std::fs::rename(place.path("r.git"), place.path("gone.git")).unwrap();
    let bundle = elsewhere.path("bundle");
    let verify = |more: &[&str]| {
        elsewhere.run(&[&["evidence", "verify", "./bundle", "--pin", "ledger.pub", "--json"], more].concat())
    };
    let has = |verdict: &Value, section: &str, text: &str| {
        let lines = verdict[section].as_array().unwrap();
        assert!(lines.iter().any(|line| line.as_str().unwrap().contains(text)), "{text}: {verdict:#}");
    };
    let goes_on = format!("the head of {later} records goes on from the bundle's");
    let verdict = verify(&["--pin", "witness.vkey"]).code(0).json();
    has(&verdict, "checked", &goes_on);
    has(&verdict, "checked", "(pinned) saw this run at");
    has(&verdict, "not_checked", "git: this run was copied at");
    has(&verdict, "not_checked", "disk: this run was copied at");
    let verdict = verify(&["--tsa-ca", &ca]).code(0).json();
    has(&verdict, "checked", "the time stamp of tsa says that this run was there at");
    verify(&[]).code(10);

    // The time stamp by openssl, as VERIFY.txt says, and not for another head.
    let text = std::fs::read_to_string(bundle.join("VERIFY.txt")).unwrap();
    let command = text.lines().find(|line| line.contains("openssl ts")).unwrap().trim().to_owned();
    let openssl = |command: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-e", "-u", "-c", command]).current_dir(&bundle).env("TSA_CA", &ca).output().unwrap()
    };
    let done = openssl(&command);
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("Verification: OK"), "{done:?}");
    let name = head.file_name().unwrap().to_str().unwrap();
    assert!(!openssl(&command.replace(&format!("anchors/{name}"), "ledger/checkpoint")).status.success(), "{command}");
    // The cosignature by Python and openssl.
    elsewhere.write("cosigned.py", PYTHON);
    let note = in_bundle(&bundle, "anchors/w1");
    let arguments = [Path::new("cosigned.py"), &note, Path::new("witness.vkey")];
    assert!(Command::new("python3").args(arguments).current_dir(elsewhere.root()).status().unwrap().success());

    // All of it by the verifier in the bundle, and what it does not check is said.
    let python = |more: &[&str]| {
        let mut command = Command::new("python3");
        command.args(["-I", "-B", "bundle/verify.py", "bundle", "--json", "--pin", "ledger.pub"]).args(more);
        let output = command.current_dir(elsewhere.root()).output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["code"].as_i64().map(|code| code as i32), output.status.code(), "{verdict:#}");
        verdict
    };
    let verdict = python(&["--pin", "witness.vkey"]);
    assert_eq!(verdict["code"], 0, "{verdict:#}");
    has(&verdict, "not_checked", "tsa (rfc3161): the time stamp over");
    has(&verdict, "not_checked", "git (git): a copy of the head");
    assert_eq!(python(&["--tsa-ca", &ca])["code"], 0);
    let verdict = python(&["--tsa-ca", Pki::new().path("ca.pem").to_str().unwrap()]);
    assert_eq!(verdict["code"], 10, "{verdict:#}");
    has(&verdict, "not_checked", "is not by an authority in");
    let name = format!("bundle/anchors/{}", head.file_name().unwrap().to_str().unwrap());
    let verdict = python(&["--against", &name]);
    has(&verdict, "checked", &format!("{name}: of the same history"));

    // A later head got elsewhere is compared where the bundle can prove it, and said not to be where it cannot.
    let against = |file: &str, code: i32| verify(&["--against", file]).code(code).json();
    has(&against(&name, 10), "checked", "goes on from the bundle's");
    place.run(&["evidence", "heartbeat"]).code(0);
    place.run(&["evidence", "export", "last", "--out", "newer"]).code(0);
    let newest = place.path("newest.note");
    std::fs::write(&newest, newest_head(&place)).unwrap();
    let verdict = against(newest.to_str().unwrap(), 10);
    has(&verdict, "not_checked", &format!("the bundle has no proof of consistency from {size} to "));
    let verdict = python(&["--against", newest.to_str().unwrap()]);
    has(&verdict, "not_checked", &format!("no proof of consistency from {size} to "));
    // Where the ledger is, it can be told.
    let verdict = place.run(&["evidence", "verify", &run, "--against", "newest.note", "--json"]).code(11).json();
    has(&verdict, "checked", "is of the same history");

    // A proof that is changed, of another size, or gone.
    let proof = bundle.join("ledger/consistency-to-anchor.txt");
    let whole = std::fs::read_to_string(&proof).unwrap();
    let hash = whole.lines().last().unwrap();
    let other = format!("{}{}", if hash.starts_with('A') { "B" } else { "A" }, &hash[1..]);
    for changed in [
        whole.replace(hash, &other),
        whole.replace(&format!("from {size}"), &format!("from {}", size - 1)),
        whole.replacen("runbook-consistency@v1", "runbook-consistency@v2", 1),
    ] {
        assert_ne!(changed, whole);
        std::fs::write(&proof, changed).unwrap();
        list_anew(&bundle);
        let verdict = verify(&["--pin", "witness.vkey"]).code(20).json();
        assert_eq!(verdict["first_bad"]["file"], "ledger/consistency-to-anchor.txt", "{verdict:#}");
        assert_eq!(python(&["--pin", "witness.vkey"])["code"], 20);
    }
    std::fs::remove_file(&proof).unwrap();
    list_anew(&bundle);
    let verdict = verify(&["--pin", "witness.vkey"]).code(10).json();
    has(&verdict, "not_checked", "is not proved to be of the same history");
}

/// The newest signed head in the project's database.
fn newest_head(place: &Place) -> String {
    let code = "import sqlite3,sys\nprint(sqlite3.connect(sys.argv[1]).execute('select note from checkpoints order by size desc').fetchone()[0],end='')";
    let done = Command::new("python3").args(["-c", code]).arg(place.path(".runbook/runbook.db")).output().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn a_receipt_for_a_head_by_the_key_before_still_counts() {
    let place = Place::project();
    let witness = Witness::start(&place, "127.0.0.1:0");
    set_up(&place, &[witness.section()]);
    apply(&place).code(0);
    std::fs::copy(place.path(".runbook/keys/ledger.pub"), place.path("before.pub")).unwrap();
    place.run(&["evidence", "rotate-key", "--reason", "yearly"]).code(0);
    let told = place.run(&["evidence", "export", "last", "--out", "bundle", "--json"]).code(0).json();
    assert_eq!(told["anchors"], serde_json::json!(["w1 (witness)"]));
    let head = in_bundle(&place.path("bundle"), "anchors/head-");
    let earlier: u64 = std::fs::read_to_string(&head).unwrap().lines().nth(1).unwrap().parse().unwrap();
    assert!(earlier < told["ledger"]["size"].as_u64().unwrap());
    place.run(&["evidence", "verify", "./bundle", "--pin", "before.pub", "--pin", "witness/witness.vkey"]).code(0);
    let python = |pin: &str| {
        let mut command = Command::new("python3");
        command.args(["-I", "-B", "bundle/verify.py", "bundle", "--pin", pin, "--pin", "witness/witness.vkey"]);
        command.current_dir(place.root()).output().unwrap().status.code()
    };
    // It follows from one key to the other, and not from a strange one.
    assert_eq!(python("before.pub"), Some(0));
    assert_eq!(python(".runbook/keys/ledger.pub"), Some(0));
    let strange = std::fs::read_to_string(place.path("before.pub"))
        .unwrap()
        .trim()
        .parse::<runbook_ledger::VerifierKey>()
        .unwrap();
    let public = runbook_ledger::FileKey::from_seed([9; 32]).public_key();
    place.write("strange.pub", &format!("{}\n", runbook_ledger::VerifierKey::new(strange.name(), &public).unwrap()));
    assert_eq!(python("strange.pub"), Some(22));
    // Another root at that size in the tree is seen, for the tiles have all of it.
    let text = std::fs::read_to_string(&head).unwrap();
    let root = text.lines().nth(2).unwrap();
    std::fs::write(&head, text.replace(root, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")).unwrap();
    list_anew(&place.path("bundle"));
    place.run(&["evidence", "verify", "./bundle", "--pin", "before.pub"]).code(20);
}

#[test]
fn an_anchor_that_is_away_costs_the_run_nothing_and_gets_what_waits_later() {
    let place = Place::project();
    let witness = Witness::start(&place, "127.0.0.1:0");
    let section = witness.section();
    let silent = Server::start(|_| Answer::Silence);
    let slow = format!("[anchors.slow]\nkind = \"rfc3161\"\nurl = \"{}\"\ntimeout = \"200ms\"\n", silent.url);
    set_up(&place, &[section.clone(), slow]);
    let address = witness.kill();
    let said = apply(&place).code(0);
    assert!(said.stderr.contains("not anchored by w1 (witness): "), "{}", said.stderr);
    assert!(said.stderr.contains("did not answer within 0.2 s"), "{}", said.stderr);
    assert_eq!(covers(&place), [("slow".to_owned(), false), ("w1".to_owned(), false)]);
    // What waits is told wherever the run is.
    let shown = anchors(&place);
    let records = shown[1]["waiting"].as_u64().unwrap();
    assert!(records > 3 && shown[1]["waiting_since"].is_string() && shown[1]["after_ms"].is_null(), "{shown:#?}");
    place.run(&["evidence", "report", "last", "--out", "late.html"]).code(0);
    let page = std::fs::read_to_string(place.root().join("late.html")).unwrap();
    assert!(page.contains("None of 2 anchors outside holds a head") && page.contains("Not held outside yet"), "{page}");
    assert!(page.contains(&format!("{records} records of this run, the first since ")), "{page}");
    let doctor = place.run(&["doctor", "--offline", "--json"]).code(0).json();
    let line = |doctor: &Value, name: &str| {
        let checks = doctor["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == name).unwrap()
    };
    assert!(line(&doctor, "anchor w1")["found"].as_str().unwrap().contains("it holds nothing yet; "), "{doctor:#}");
    let doctor = place.run(&["doctor", "--json"]).json();
    assert_eq!(line(&doctor, "anchor w1")["status"], "warning", "{doctor:#}");
    place.run(&["evidence", "anchor", "w1"]).code(3);

    // It comes back, and the next command that works on a run gives it what waits, of the earlier run too.
    let first = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let witness = Witness::start(&place, &address);
    assert_eq!(witness.section(), section, "it kept its key");
    let said = place.run(&["rollback", &first]).code(5);
    assert!(said.stderr.contains("anchored by w1 (witness): "), "{}", said.stderr);
    assert!(covers(&place).contains(&("w1".to_owned(), true)));
    let shown = place.run(&["show", &first, "--json"]).json();
    let holds = shown["anchors"].as_array().unwrap().iter().find(|anchor| anchor["covers_run"] == true).unwrap();
    assert!(holds["after_ms"].as_u64().is_some() && holds["record"].is_u64() && holds["waiting"] == 0, "{shown:#}");
    let pins = ["--pin", ".runbook/keys/ledger.pub", "--pin", "witness/witness.vkey"];
    let verdict = place.run(&[&["evidence", "verify", &first, "--json"], &pins[..]].concat()).code(0).json();
    assert_eq!(
        (&verdict["receipts"][0]["anchor"], &verdict["receipts"][0]["checked"]),
        (&"w1".into(), &"verified".into())
    );
    place.run(&[&["evidence", "report", &first, "--out", "later.html"], &pins[..]].concat()).code(0);
    let page = std::fs::read_to_string(place.root().join("later.html")).unwrap();
    assert!(page.contains("1 of 2 anchors outside holds a head") && page.contains(">holds this run<"), "{page}");
    assert!(page.contains("(pinned) saw this run at"), "{page}");
    let verdict = place.run(&["evidence", "verify", &first, "--json"]).code(11).json();
    assert_eq!(verdict["receipts"][0]["checked"], "own_settings", "{verdict:#}");
    let doctor = place.run(&["doctor", "--json"]).json();
    assert_eq!(line(&doctor, "anchor w1")["status"], "good", "{doctor:#}");
    assert!(line(&doctor, "anchor slow")["found"].as_str().unwrap().contains("wait, the oldest for"), "{doctor:#}");
}

#[test]
fn a_ledger_that_was_put_back_is_told_by_every_anchor_that_compares() {
    let place = Place::project();
    let witness = Witness::start(&place, "127.0.0.1:0");
    bare_repository(&place);
    let root = place.root().display();
    let copies = format!(
        "[anchors.disk]\nkind = \"file\"\npath = \"heads\"\n[anchors.git]\nkind = \"git\"\nremote = \"file://{root}/r.git\"\n"
    );
    set_up(&place, &[witness.section(), copies]);
    apply(&place).code(0);
    copy(&place.path(".runbook"), &place.path("backup"));
    for _ in 0..3 {
        apply(&place).code(0);
    }
    // The whole state of yesterday, with the size that is kept beside the key: nothing here can tell.
    std::fs::rename(place.path(".runbook"), place.path("lost")).unwrap();
    copy(&place.path("backup"), &place.path(".runbook"));
    let said = apply(&place).code(0);
    for name in ["disk (file)", "git (git)", "w1 (witness)"] {
        assert!(said.stderr.contains(&format!("THE ANCHOR {name} CONTRADICTS THE LEDGER")), "{name}: {}", said.stderr);
    }
    let told = place.run(&["evidence", "anchor", "--json"]).code(21).json();
    assert!(told["anchors"].as_array().unwrap().iter().all(|anchor| anchor["contradicts"] == true), "{told:#}");
    // With as many records again as there were, it is another history all the same.
    for _ in 0..4 {
        apply(&place).code(0);
    }
    let told = place.run(&["evidence", "anchor", "--json"]).code(21).json();
    assert!(told["anchors"].as_array().unwrap().iter().all(|anchor| anchor["contradicts"] == true), "{told:#}");
}

#[test]
fn what_nobody_outside_holds_for_more_than_a_day_is_an_alarm() {
    let place = Place::project();
    let section = format!("[anchors.tsa]\nkind = \"rfc3161\"\nurl = \"{}\"\n", Server::nobody());
    set_up(&place, &[section]);
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    let library =
        if Path::new(library).exists() { library } else { "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1" };
    let mut command = place.command(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]);
    command.env("LD_PRELOAD", library).env("FAKETIME", "-25h").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let doctor = place.run(&["doctor", "--offline", "--json"]).code(3).json();
    let check =
        doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "anchor tsa").unwrap().clone();
    assert_eq!(check["status"], "bad", "{check:#}");
    assert!(check["mend"].as_str().unwrap().contains("runbook evidence anchor tsa"), "{check:#}");
}

/// Says whether the witness cosigned the note, and when: with Python's standard library and openssl, from the
/// specification alone.
const PYTHON: &str = r#"
import base64, hashlib, subprocess, sys, tempfile, os
note, vkey = open(sys.argv[1]).read(), open(sys.argv[2]).read().strip()
name, key_id, key = vkey.split("+", 2)
key = base64.b64decode(key)
assert key[0] == 4 and len(key) == 33
assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id
text, lines = note.rsplit("\n\n", 1)
text += "\n"
for line in lines.splitlines():
    dash, who, signature = line.split(" ")
    signature = base64.b64decode(signature)
    if who == name and signature[:4].hex() == key_id:
        time = int.from_bytes(signature[4:12], "big")
        with tempfile.TemporaryDirectory() as folder:
            put = lambda file, data: open(os.path.join(folder, file), "wb").write(data)
            put("key.der", bytes.fromhex("302a300506032b6570032100") + key[1:])
            put("message", f"cosignature/v1\ntime {time}\n{text}".encode())
            put("signature", signature[12:])
            subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key.der", "-rawin",
                            "-in", "message", "-sigfile", "signature"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        print(time)
        break
else:
    sys.exit("not cosigned")
"#;

#[test]
fn a_cosignature_is_verified_by_a_program_that_is_not_ours() {
    let place = Place::project();
    let witness = Witness::start(&place, "127.0.0.1:0");
    set_up(&place, &[witness.section()]);
    apply(&place).code(0);
    let told = place.run(&["evidence", "anchor", "--json"]).code(0).json();
    assert_eq!(told["anchors"][0]["anchored"], true);
    let head = std::fs::read_dir(place.path("witness/heads")).unwrap().next().unwrap().unwrap().path();
    place.write("cosigned.py", PYTHON);
    let check = |note: &Path| {
        let arguments = [Path::new("cosigned.py"), note, Path::new("witness/witness.vkey")];
        let output = Command::new("python3").args(arguments).current_dir(place.root()).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let time: u64 = check(&head).expect("it verifies").trim().parse().unwrap();
    assert!(time > 1_700_000_000);
    let text = std::fs::read_to_string(&head).unwrap();
    let size = text.lines().nth(1).unwrap();
    place.write("changed", &text.replacen(size, "1", 1));
    assert_eq!(check(&place.path("changed")), None);
}

#[test]
fn a_witness_tells_what_it_cannot_do() {
    let place = Place::project();
    let base = ["witness", "--state", "witness", "--origin-key", ".runbook/keys/ledger.pub"];
    let said = place.run(&[&base[..], &["--listen", "0.0.0.0:0"]].concat()).code(2);
    assert!(said.stderr.contains("RB0617") && said.stderr.contains("--tls-cert"), "{}", said.stderr);
    let witness = Witness::start(&place, "127.0.0.1:0");
    let said = place.run(&[&base[..], &["--listen", "127.0.0.1:0"]].concat()).code(2);
    assert!(said.stderr.contains("RB0646") && said.stderr.contains("another witness runs"), "{}", said.stderr);
    let said = place.run(&[
        "witness",
        "--state",
        "other",
        "--origin-key",
        ".runbook/keys/ledger.pub",
        "--listen",
        witness.address(),
    ]);
    assert!(said.code(1).stderr.contains("RB0646"));
    // It ends when it is asked to.
    let mut witness = witness;
    let pid = rustix::process::Pid::from_raw(witness.process.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(witness.process.wait().unwrap().success());
}

#[test]
fn anchors_that_are_not_there_are_told() {
    let place = Place::project();
    assert!(place.run(&["evidence", "anchor"]).code(2).stderr.contains("RB0649"));
    set_up(&place, &["[anchors.disk]\nkind = \"file\"\npath = \"heads\"\n".into()]);
    assert!(place.run(&["evidence", "anchor", "disc"]).code(2).stderr.contains("did you mean `disk`?"));
    assert!(place.run(&["evidence", "anchor", "disk"]).code(2).stderr.contains("RB0609"));
    set_up(&place, &["[anchors.disk]\nkind = \"flie\"\n".into()]);
    assert!(place.run(&["runs"]).code(2).stderr.contains("line 2: [anchors.disk] there is no anchor of kind `flie`"));
}
