//! The program on a real terminal: what it asks, what keys mean, what it draws.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, step};

const CTRL_C: &str = "\x03";

fn confirming(place: &Place) {
    confirming_with_undo(place, &format!("rm -f {}/changed", place.root().display()));
}

fn confirming_with_undo(place: &Place, undo: &str) {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: asking\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: touch \
         {folder}/changed\n    undo: {{run: '{undo}'}}\n  - id: ask\n    confirm: Is the lamp \
         green?\n"
    );
    place.write("runbooks/asking.yaml", &text);
}

#[test]
fn a_confirm_step_asks_on_the_terminal_and_a_yes_goes_on() {
    let place = Place::project();
    confirming(&place);
    let mut running = place.on_a_terminal(&["apply", "runbooks/asking.yaml"]);
    running.hear("Apply this to 1 host? [y/N]");
    running.types("y\n");
    running.hear("here: Is the lamp green?");
    running.hear("[y/N]");
    running.types("yes\n");
    let (code, said) = running.code();
    assert_eq!(code, Some(0), "{said}");
    assert!(place.path("changed").exists());
    let logs = place.run(&["logs", "last", "--step", "ask", "--raw"]).code(0).stdout;
    assert!(logs.starts_with("confirmed by "), "{logs}");
}

#[test]
fn anything_but_a_yes_refuses_and_the_change_is_taken_back() {
    let place = Place::project();
    confirming(&place);
    let mut running = place.on_a_terminal(&["apply", "runbooks/asking.yaml", "--yes"]);
    running.hear("[y/N]");
    running.types("no, it is red\n");
    let (code, said) = running.code();
    assert_eq!(code, Some(5), "{said}");
    assert!(!place.path("changed").exists());
    let run = place.run(&["show", "last", "--json"]).json();
    assert!(step(&run, "ask")["reason"].as_str().unwrap().contains("no, it is red"), "{run}");
}

#[test]
fn no_at_the_first_question_begins_nothing() {
    let place = Place::project();
    confirming(&place);
    let mut running = place.on_a_terminal(&["apply", "runbooks/asking.yaml"]);
    running.hear("Apply this to 1 host? [y/N]");
    running.types("\n");
    let (code, said) = running.code();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("RB0614"), "{said}");
    assert!(!place.path("changed").exists());
}

#[test]
fn ctrl_c_at_a_question_cancels_and_takes_the_change_back() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    // The way back lasts until it was seen that the view goes on after the question.
    confirming_with_undo(&place, &format!("while [ ! -e {folder}/go ]; do sleep 0.05; done; rm -f {folder}/changed"));
    let mut running = place.on_a_terminal(&["apply", "runbooks/asking.yaml", "--yes"]);
    running.hear("[y/N]");
    running.types(CTRL_C);
    running.hear("cancelling");
    place.write("go", "");
    let (code, said) = running.code();
    assert_eq!(code, Some(8), "{said}");
    assert!(!place.path("changed").exists());
}

/// A step that does not end, and a way back that takes as long as the test wants.
fn stubborn(place: &Place) {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: stubborn\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      touch \
         {folder}/changed\n      echo begun > {folder}/begun\n      while true; do echo $((n = ${{n:-0}} + 1)) and so on; sleep 0.05; done\n    \
         undo:\n      run: |\n        echo undoing > {folder}/begun\n        while [ ! -e {folder}/go ]; do sleep 0.05; \
         done\n        rm -f {folder}/changed\n"
    );
    place.write("runbooks/stubborn.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
}

fn begun(place: &Place) -> String {
    std::fs::read_to_string(place.path("begun")).unwrap()
}

#[test]
fn the_first_ctrl_c_cancels_the_second_asks_and_the_third_leaves_the_run() {
    let place = Place::project();
    stubborn(&place);
    let mut running = place.on_a_terminal(&["apply", "runbooks/stubborn.yaml", "--yes"]);
    assert_eq!(begun(&place), "begun\n");
    running.types(CTRL_C);
    running.hear("cancelling: running steps are ended");
    assert_eq!(begun(&place), "undoing\n");
    running.types(CTRL_C);
    running.hear("still going back");
    running.types(CTRL_C);
    running.hear("you left the run");
    let (code, said) = running.code();
    assert_eq!(code, Some(7), "{said}");
    assert!(place.path("changed").exists());
    place.write("go", "");
    place.run(&["resume", "last"]).code(8);
    assert!(!place.path("changed").exists());
}

#[test]
fn a_closed_terminal_leaves_the_run_and_a_resume_goes_on_with_it() {
    let place = Place::project();
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: waiting\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      echo work \
         >>{folder}/count\n      echo begun > {folder}/begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n    undo: \
         {{run: 'true'}}\n"
    );
    place.write("runbooks/waiting.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    let running = place.on_a_terminal(&["apply", "runbooks/waiting.yaml", "--yes"]);
    assert_eq!(begun(&place), "begun\n");
    // The end of what holds the terminal closes it.
    drop(running);
    // It gives the run up within the time that a person takes to open another terminal; `--wait` waits for that. The step
    // ends only then: until it has heard of its terminal's end, the first one would see the run through.
    let mut resumed = place.begin(&["resume", "last", "--wait"]);
    resumed.hear("taken up again");
    place.write("go", "");
    let (code, said) = resumed.code();
    assert_eq!(code, Some(0), "{said}");
    let run = place.run(&["show", "last", "--json"]).json();
    assert_eq!(step(&run, "work")["attempt"], 1);
    assert_eq!(std::fs::read_to_string(place.path("count")).unwrap(), "work\n");
}

#[test]
fn nothing_that_is_drawn_is_wider_than_the_terminal() {
    let place = Place::project();
    stubborn(&place);
    let mut running = place.on_a_terminal(&["apply", "runbooks/stubborn.yaml", "--yes"]);
    assert_eq!(begun(&place), "begun\n");
    running.hear("and so on");
    running.types(CTRL_C);
    assert_eq!(begun(&place), "undoing\n");
    place.write("go", "");
    let (code, said) = running.code();
    assert_eq!(code, Some(8), "{said}");
    let drawn = said.split(['\n', '\r']).map(plain);
    for line in drawn {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// Without what moves the cursor or paints.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            out.push(c);
        }
    }
    out
}
