//! The report on paper and the recordings of sessions, in the programs that people read them with.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::process::Command;

use place::Place;
use runbook_testkit::{browser, lab};

/// What a program of the machine says.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Names in the project's folder.
fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.root()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A runbook of two steps: one that says something now and then, one that fails.
fn slow() -> Place {
    let place = Place::project();
    place.write(
        "runbooks/slow.yaml",
        "schema: runbook/v1\nname: slow\ntargets: {select: here}\nexecute:\n  - id: speak\n    run: |\n      \
         printf 'first \\342\\202\\254\\n'\n      sleep 1\n      printf '\\033]0;title\\007second\\n' >&2\n      sleep 1\n      \
         printf third\n    undo: {run: echo back}\nverify:\n  - id: good\n    run: echo not good; exit 3\n",
    );
    place.run(&["apply", "runbooks/slow.yaml"]).code(5);
    place
}

#[test]
fn the_report_is_printed_whole_with_a_page_for_each_objective() {
    if !browser::require() || !lab::require_programs(&["pdftotext", "pdfinfo"]) {
        return;
    }
    let place = slow();
    let before = names(&place).len();
    let written = place.run(&["evidence", "report", "last", "--pdf", "night.pdf", "--json"]).code(0).json();
    assert_eq!(written["file"], serde_json::Value::Null);
    assert_eq!(written["pdf"].as_str().unwrap(), place.path("night.pdf").canonicalize().unwrap().to_str().unwrap());
    assert_eq!(names(&place).len(), before + 1, "nothing else is left: {:?}", names(&place));
    let pdf = place.path("night.pdf").display().to_string();
    let text = said("pdftotext", &["-layout", &pdf, "-"]);
    // What is folded on a screen is open on paper.
    assert!(text.contains("printf third") && text.contains("not good") && text.contains("exit code 3"), "{text}");
    let pages: Vec<&str> = text.split('\u{c}').collect();
    for objective in ["3.7.1", "3.7.2[a]", "3.7.3", "3.7.5[b]", "3.3.7[c]", "3.4.3[d]"] {
        let begins = |page: &&&str| page.trim_start().starts_with(&format!("{objective} "));
        assert_eq!(pages.iter().filter(begins).count(), 1, "{objective} begins one page");
    }
    assert!(said("pdfinfo", &[&pdf]).contains("Producer:"));
}

#[test]
fn without_a_chromium_nothing_is_written_and_one_that_fails_leaves_the_old_file() {
    let place = slow();
    let report = |chromium: &str, arguments: &[&str]| {
        let mut all = vec!["evidence", "report", "last"];
        all.extend(arguments);
        let output = place.command(&all).env("RUNBOOK_CHROMIUM", chromium).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = report("/nowhere/chromium", &["--pdf", "night.pdf", "--out", "night.html"]);
    assert!(code == Some(2) && error.contains("RB0631"), "{code:?} {error}");
    let output = place.command(&["evidence", "report", "last", "--pdf", "night.pdf"]).env("PATH", "/nowhere").output();
    assert!(String::from_utf8_lossy(&output.unwrap().stderr).contains("RB0631"));
    assert!(!place.path("night.html").exists() && !place.path("night.pdf").exists());

    place.write("night.pdf", "the old one");
    for broken in ["false", "true"] {
        let (code, error) = report(broken, &["--pdf", "night.pdf"]);
        assert!(code == Some(1) && error.contains("RB0632"), "{broken}: {code:?} {error}");
    }
    assert_eq!(std::fs::read_to_string(place.path("night.pdf")).unwrap(), "the old one");
    assert!(names(&place).iter().all(|name| !name.starts_with(".runbook-")), "{:?}", names(&place));
    place.run(&["evidence", "report", "last"]).code(2);
}

#[test]
fn a_recording_is_played_by_asciinema_as_the_host_spoke() {
    if !lab::require_programs(&["asciinema", "script"]) {
        return;
    }
    let place = slow();
    let written =
        place.run(&["evidence", "recording", "last", "--host", "here", "--out", "here.cast", "--json"]).code(0);
    assert_eq!(written.json()["schema"], "recording/v1");
    let text = std::fs::read_to_string(place.path("here.cast")).unwrap();
    let mut lines = text.lines();
    let header: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    let events: Vec<(f64, String, String)> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let when = |what: &str| events.iter().find(|event| event.1 == "o" && event.2.contains(what)).expect(what).0;
    // The command's own text stands before its output.
    let spoke: Vec<f64> = ["first €\r\n", "\\x1b]0;title\\x07second", "third"]
        .iter()
        .map(|what| events.iter().rfind(|event| event.1 == "o" && event.2.contains(what)).expect(what).0)
        .collect();
    assert!(spoke[0] - when("[execute] speak") < 1.0, "{spoke:?}");
    for pause in spoke.windows(2) {
        // Output of this machine is looked for five times a second.
        assert!(pause[1] - pause[0] > 0.6, "the pauses are the host's: {spoke:?}");
    }
    let markers: Vec<&str> = events.iter().filter(|event| event.1 == "m").map(|event| event.2.as_str()).collect();
    assert!(markers.iter().any(|marker| marker.starts_with("good: failed, exit code 3")), "{markers:?}");

    // The player itself; it wants a terminal.
    let cast = place.path("here.cast");
    let played = Command::new("script")
        .args(["-qec", &format!("asciinema cat {}", cast.display()), "/dev/null"])
        .env("HOME", place.path("home"))
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&played.stdout).into_owned();
    assert!(played.status.success(), "{shown}");
    let at = |what: &str| shown.rfind(what).unwrap_or_else(|| panic!("{what} is not shown: {shown}"));
    assert!(at("first €") < at("\\x1b]0;title\\x07second") && at("second") < at("third"), "{shown}");
    assert!(shown.contains("[verify] good"), "{shown}");
    assert!(!shown.contains("\u{1b}]0;"), "the host's title is not obeyed");
}

#[test]
fn a_recording_of_a_host_that_is_not_there_is_refused() {
    let place = slow();
    let refused = place.run(&["evidence", "recording", "last", "--host", "nobody", "--out", "x.cast"]).code(2);
    assert!(refused.stderr.contains("RB0611"), "{}", refused.stderr);
    let refused = place.run(&["evidence", "recording", "last", "--host", "here", "--out", "nowhere/x.cast"]).code(1);
    assert!(refused.stderr.contains("RB0633"), "{}", refused.stderr);
}
