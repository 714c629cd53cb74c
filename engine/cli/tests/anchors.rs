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
    assert!(
        Command::new("git")
            .args(["init", "-q", "--bare", "r.git"])
            .current_dir(place.root())
            .status()
            .unwrap()
            .success()
    );
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
    assert!(
        Command::new("git")
            .args(["init", "-q", "--bare", "r.git"])
            .current_dir(place.root())
            .status()
            .unwrap()
            .success()
    );
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
