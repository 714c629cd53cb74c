//! Redacted editions: what is withheld is nowhere in them, and the rest verifies with programs that are not ours.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::path::Path;
use std::process::{Command, Output};

use place::Place;
use serde_json::Value;

const PIN: &str = "the pin is 471199";
const WORD: &str = "correct horse battery";

/// A run that printed two secrets, one of them in a step that failed; the texts of its commands have neither.
fn with_run() -> Place {
    let place = Place::project();
    let folder = place.root().display().to_string();
    place.write("said", &format!("user ann\n{PIN}\ndone\n"));
    place.write("failed", &format!("it does not work\n{WORD}\ngone\n"));
    let text = format!(
        "schema: runbook/v1\nname: talking\ntargets: {{select: here}}\nexecute:\n  - {{id: says, run: cat {folder}/said, undo: {{run: \
         'true'}}}}\n  - {{id: fails, run: 'cat {folder}/failed >&2; exit 3', undo: {{run: 'true'}}}}\n"
    );
    place.write("runbooks/talking.yaml", &text);
    place.run(&["apply", "runbooks/talking.yaml"]).code(5);
    place
}

fn redact(place: &Place, step: &str, stream: &str, lines: &str) {
    let base = ["evidence", "redact", "last", "--host", "here", "--step", step, "--stream", stream];
    place.run(&[&base[..], &["--lines", lines, "--reason", "a secret"]].concat()).code(0);
}

/// The files below a folder in which a text stands.
fn with(folder: &Path, text: &str) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(folder).output().unwrap();
    assert!(output.status.code().unwrap() < 2, "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn python(bundle: &Path, more: &[&str]) -> Output {
    Command::new("python3").args(["-I", "-B"]).arg(bundle.join("verify.py")).arg(bundle).args(more).output().unwrap()
}

#[test]
fn what_is_withheld_is_nowhere_in_a_redacted_edition_and_the_rest_verifies() {
    let place = with_run();
    let said = place.run(&["evidence", "export", "last", "--out", "none", "--redacted"]).code(2);
    assert!(said.stderr.contains("RB0670") && !place.path("none").exists(), "{}", said.stderr);
    redact(&place, "says", "stdout", "2");
    redact(&place, "fails", "stderr", "2");

    let said = place.run(&["evidence", "export", "last", "--out", "edition", "--redacted", "--json"]).code(0);
    let document = said.json();
    assert_eq!((&document["redacted"], &document["also_in"]), (&true.into(), &Value::Array(vec![])), "{document}");
    assert!(said.stderr.contains("2 lines of 2 outputs are withheld"), "{}", said.stderr);
    let edition = place.path("edition");
    // Nothing of it, nor of the seeds, nor a digest of the whole from which it could be guessed.
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    for (id, stream, text) in [("says", "stdout", PIN), ("fails", "stderr", WORD)] {
        assert_eq!(with(&edition, text), [""; 0]);
        let output = &place::step(&run, id)[stream];
        assert_eq!(with(&edition, output["sha256"].as_str().unwrap()), [""; 0]);
        let blob = output["blob"].as_str().unwrap();
        assert!(!edition.join(format!("blobs/sha256/{}/{blob}", &blob[..2])).exists());
    }
    assert_eq!(with(&edition, "user ann").len(), 3, "the output, the report, the recording");
    for file in ["report.html", "sessions/here.cast"] {
        let text = std::fs::read_to_string(edition.join(file)).unwrap();
        assert!(text.contains("[withheld]"), "{file}");
    }
    let readme = std::fs::read_to_string(edition.join("README.txt")).unwrap();
    assert!(readme.contains("REDACTED") && readme.contains("2 lines of 2 outputs"), "{readme}");

    // It is one JSON document for others, and its leaves come to the root on record.
    let listed: Value = serde_json::from_slice(&std::fs::read(edition.join("redactions.json")).unwrap()).unwrap();
    for output in listed["outputs"].as_array().unwrap() {
        assert_eq!(
            (&output["withheld"], &output["said"][0]["reason"]),
            (&serde_json::json!([[1, 1]]), &"a secret".into())
        );
        let script = "import hashlib, json, sys\n\
                      d = json.load(open(sys.argv[1]))\n\
                      h = lambda b: hashlib.sha256(b).digest()\n\
                      n = [bytes.fromhex(e['leaf']) if e.get('withheld') else h(b'\\0' + bytes.fromhex(e['salt']) + e['text'].encode()) for e in d['entries']]\n\
                      print(h(b'\\1' + h(b'\\1' + n[0] + n[1]) + n[2]).hex(), end='')";
        let file = format!("edition/outputs-redacted/{}.json", output["root"].as_str().unwrap());
        let done = Command::new("python3").args(["-c", script]).arg(place.path(&file)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), output["root"].as_str().unwrap(), "{done:?}");
    }
    let sums =
        Command::new("sha256sum").args(["--strict", "--quiet", "-c", "SHA256SUMS"]).current_dir(&edition).status();
    assert!(sums.unwrap().success());
    let pin = place.path(".runbook/keys/ledger.pub").display().to_string();
    let verdict = place.run(&["evidence", "verify", "./edition", "--pin", &pin, "--json"]).code(13).json();
    assert_eq!((&verdict["redacted"], &verdict["pinned"]), (&true.into(), &true.into()));
    assert!(verdict["checked"].to_string().contains("2 outputs are withheld in part, and the rest fits"), "{verdict}");
    let done = python(&edition, &["--pin", &pin]);
    assert_eq!(done.status.code(), Some(13), "{}", String::from_utf8_lossy(&done.stdout));

    // The same again, whatever came meanwhile; and as an archive.
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let id = run["run_id"].as_str().unwrap();
    place.run(&["evidence", "export", id, "--out", "again", "--redacted"]).code(0);
    let same = Command::new("diff").arg("-r").arg(&edition).arg(place.path("again")).output().unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    place.run(&["evidence", "export", id, "--out", "edition.tar.zst", "--redacted"]).code(0);
    place.run(&["evidence", "verify", "./edition.tar.zst", "--pin", &pin]).code(13);
    // On record as what it was.
    place.run(&["evidence", "verify", id]).code(11);

    // The full edition is another bundle, and says that it is.
    let said = place.run(&["evidence", "export", id, "--out", "full"]).code(0);
    assert!(said.stderr.contains("this is the full edition"), "{}", said.stderr);
    assert!(with(&place.path("full"), PIN).len() >= 3);
    place.run(&["evidence", "verify", "./full", "--pin", &pin]).code(10);
}

#[test]
fn a_line_of_an_edition_that_is_changed_or_a_mark_that_is_dropped_is_tampering() {
    let place = with_run();
    redact(&place, "says", "stdout", "2");
    place.run(&["evidence", "export", "last", "--out", "edition", "--redacted"]).code(0);
    let edition = place.path("edition");
    let file = with(&edition, "user ann").into_iter().find(|name| name.contains("outputs-redacted")).unwrap();
    let whole = std::fs::read_to_string(&file).unwrap();
    let sums = std::fs::read_to_string(edition.join("SHA256SUMS")).unwrap();
    for (from, to) in [("user ann", "user eve"), (",\"withheld\":true", ""), ("\"leaf\"", "\"text\"")] {
        std::fs::write(&file, whole.replace(from, to)).unwrap();
        place.run(&["evidence", "verify", "./edition"]).code(20);
        // Also when the list of files is written anew, and its signature left out.
        let listed = |path: &str| {
            let output = Command::new("sha256sum").arg(path).output().unwrap();
            String::from_utf8(output.stdout).unwrap()[..64].to_owned()
        };
        let name = Path::new(&file).strip_prefix(&edition).unwrap().to_str().unwrap();
        let line = sums.lines().find(|line| line.ends_with(name)).unwrap();
        std::fs::write(edition.join("SHA256SUMS"), sums.replace(line, &format!("{}  {name}", listed(&file)))).unwrap();
        let signature = std::fs::read(edition.join("SHA256SUMS.sig")).unwrap();
        std::fs::remove_file(edition.join("SHA256SUMS.sig")).unwrap();
        let verdict = place.run(&["evidence", "verify", "./edition", "--json"]).code(20).json();
        assert_eq!(verdict["first_bad"]["file"], name, "{verdict}");
        let done = python(&edition, &[]);
        assert_eq!(done.status.code(), Some(20), "{}", String::from_utf8_lossy(&done.stdout));
        std::fs::write(edition.join("SHA256SUMS"), &sums).unwrap();
        std::fs::write(edition.join("SHA256SUMS.sig"), signature).unwrap();
        std::fs::write(&file, &whole).unwrap();
    }
    place.run(&["evidence", "verify", "./edition"]).code(13);
}

#[test]
fn a_withheld_line_that_stands_elsewhere_too_is_told() {
    let place = Place::project();
    let text = "schema: runbook/v1\nname: talking\ntargets: {select: here}\nirreversible: it only talks\nexecute:\n  - id: says\n    \
                run: echo 'open <sesame> \"now\"'\n";
    place.write("runbooks/talking.yaml", text);
    place.run(&["apply", "runbooks/talking.yaml"]).code(0);
    redact(&place, "says", "stdout", "1");
    let said = place.run(&["evidence", "export", "last", "--out", "edition", "--redacted", "--json"]).code(0);
    let also_in: Vec<String> = serde_json::from_value(said.json()["also_in"].clone()).unwrap();
    for file in ["plan/plan.json", "report.html", "sessions/here.cast"] {
        assert!(also_in.iter().any(|name| name == file), "{file}: {also_in:?}");
    }
    assert!(also_in.iter().any(|name| name.starts_with("blobs/")), "the command: {also_in:?}");
    assert!(said.stderr.contains("LOOK AT IT BEFORE YOU GIVE IT AWAY"), "{}", said.stderr);
    let readme = std::fs::read_to_string(place.path("edition/README.txt")).unwrap();
    assert!(readme.contains("stands in plan/plan.json too"), "{readme}");
}

#[test]
fn reports_and_recordings_leave_out_what_is_withheld_when_they_are_asked_to() {
    let place = with_run();
    redact(&place, "says", "stdout", "2");
    redact(&place, "fails", "stderr", "2");
    for (redacted, expected) in [(&[][..], true), (&["--redacted"], false)] {
        let report = ["evidence", "report", "last", "--out", "report.html"];
        place.run(&[&report, redacted].concat()).code(0);
        let recording = ["evidence", "recording", "last", "--host", "here", "--out", "here.cast"];
        place.run(&[&recording, redacted].concat()).code(0);
        for file in ["report.html", "here.cast"] {
            let text = std::fs::read_to_string(place.path(file)).unwrap();
            for secret in [PIN, WORD] {
                assert_eq!(text.contains(secret), expected, "{file} {redacted:?}");
            }
            assert!(text.contains("user ann"), "{file}");
        }
    }
}
