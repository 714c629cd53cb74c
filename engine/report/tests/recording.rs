//! Recordings of a host's session: read as a player reads them.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use std::collections::BTreeMap;

use runbook_model::event::Event;
use runbook_model::timing::{Piece, to_bytes};
use runbook_model::{AttemptOutcome, HostOutcome, Sha256};
use runbook_report::recording::{self, STEP_BYTES_MAX};
use sample::{START, Writer, taken_back};
use serde_json::Value;

type Blobs = BTreeMap<Sha256, Vec<u8>>;

/// The header, and the events as time, kind and text.
fn played(run: &Writer, host: &str, blobs: &Blobs) -> (Value, Vec<(f64, String, String)>) {
    let mut bytes = Vec::new();
    recording::write(&run.view(), &host.into(), |digest, _| blobs.get(digest).cloned().map(Into::into), &mut bytes)
        .unwrap();
    let text = String::from_utf8(bytes).expect("it is UTF-8");
    let mut lines = text.lines();
    let header: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let events: Vec<(f64, String, String)> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.is_sorted_by(|a, b| a.0 <= b.0), "a time goes back");
    (header, events)
}

/// All that is shown.
fn shown(events: &[(f64, String, String)]) -> String {
    events.iter().filter(|event| event.1 == "o").map(|event| event.2.as_str()).collect()
}

/// A run of one step on one host, with this on standard error and these pieces.
fn one_step(stderr: &[u8], pieces: &[Piece]) -> (Writer, Blobs) {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").exit("fs01", "upgrade", 1, 0, "");
    let timing = to_bytes(pieces);
    let mut blobs: Blobs = [(Sha256::of(b"upgrade"), b"apt-get upgrade\n".to_vec())].into();
    let Event::AttemptEnded { report, .. } = &mut run.records.last_mut().unwrap().event else { panic!("it ended") };
    report.stderr.bytes = stderr.len() as u64;
    report.stderr.blob = Some(Sha256::of(stderr));
    report.timing = Some(Sha256::of(&timing));
    blobs.insert(Sha256::of(stderr), stderr.to_vec());
    blobs.insert(Sha256::of(&timing), timing);
    run.end("fs01", "upgrade", AttemptOutcome::Succeeded, "").host_ended("fs01", HostOutcome::Succeeded, "");
    (run, blobs)
}

#[test]
fn the_header_is_that_of_a_terminal_and_says_what_it_is() {
    let (header, _) = played(&taken_back(), "fs01", &Blobs::new());
    assert_eq!((&header["version"], &header["width"], &header["height"]), (&2.into(), &120.into(), &40.into()));
    assert_eq!(header["timestamp"], START / 1_000);
    assert_eq!(header["title"], "runbook patch-fileserver on fs01");
}

#[test]
fn each_attempt_has_its_prompt_its_command_and_a_marker() {
    let run = taken_back();
    let blobs: Blobs = [
        (Sha256::of(b"upgrade"), b"apt-get update\napt-get upgrade\n".to_vec()),
        (
            Sha256::of(b"E: Could not get lock /var/lib/dpkg/lock\n"),
            b"E: Could not get lock /var/lib/dpkg/lock\n".to_vec(),
        ),
    ]
    .into();
    let (_, events) = played(&run, "fs01", &blobs);
    let text = shown(&events);
    assert!(text.contains("[execute] upgrade\u{1b}[0m"), "{text}");
    assert!(text.contains("[execute] upgrade (attempt 2)"), "{text}");
    assert!(text.contains("$ apt-get update\r\n> apt-get upgrade\r\n"), "{text}");
    assert!(text.contains("E: Could not get lock"), "{text}");
    let markers: Vec<&str> = events.iter().filter(|event| event.1 == "m").map(|event| event.2.as_str()).collect();
    assert_eq!(markers[3], "upgrade: failed, exit code 100, 1.5s");
    assert_eq!(markers[4], "upgrade: succeeded, exit code 0, 1.5s");
    assert_eq!(*markers.last().unwrap(), "fs01: rolled back: verify: `share` failed: exit code 1, expected 0");
    let attempts = run.view().hosts[&"fs01".into()].steps.values().map(|step| step.attempts.len()).sum::<usize>();
    assert_eq!(markers.len(), attempts + 1);
}

#[test]
fn output_comes_at_the_times_at_which_it_came() {
    let text = "one\ntwo €\nthree";
    // The second piece ends inside the sign.
    let (run, blobs) = one_step(text.as_bytes(), &[Piece(100, 2, 4), Piece(700, 2, 9), Piece(1_200, 2, 12)]);
    let (_, events) = played(&run, "fs01", &blobs);
    let prompt = events.iter().position(|event| event.2.contains("[execute] upgrade")).unwrap();
    let begin = events[prompt].0;
    let came: Vec<(f64, &str)> = events[prompt..]
        .iter()
        .filter(|event| event.1 == "o" && event.2.starts_with("\u{1b}[31m"))
        .map(|event| (((event.0 - begin) * 1_000.0).round(), &event.2[5..event.2.len() - 4]))
        .collect();
    assert_eq!(came, [(100.0, "one\r\n"), (700.0, "two "), (1_200.0, "€\r\n"), (1_500.0, "three")]);
}

#[test]
fn a_timing_that_is_damaged_costs_the_times_and_nothing_else() {
    let (run, mut blobs) = one_step(b"one\ntwo\n", &[Piece(100, 2, 4)]);
    let timing = Sha256::of(&to_bytes(&[Piece(100, 2, 4)]));
    blobs.insert(timing, b"[100,2,4]\n[50,2,8]\n".to_vec());
    let (_, events) = played(&run, "fs01", &blobs);
    assert!(shown(&events).contains("one\r\ntwo\r\n"));
    blobs.insert(timing, to_bytes(&[Piece(100, 2, 1 << 60)]));
    assert!(shown(&played(&run, "fs01", &blobs).1).contains("one\r\ntwo\r\n"));
}

#[test]
fn what_a_host_printed_does_nothing_to_the_terminal_that_plays_it() {
    let hostile = b"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\xc2\x9b31m\rover\xe2\x80\xae\x00\n";
    let (run, blobs) = one_step(hostile, &[]);
    let text = shown(&played(&run, "fs01", &blobs).1);
    let own = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[0m"];
    let rest = own.iter().fold(text.clone(), |text, code| text.replace(code, "")).replace("\r\n", "\n");
    assert!(rest.chars().all(|c| c == '\n' || !c.is_control()), "{rest:?}");
    assert!(rest.contains("\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J") && !rest.contains('\u{202e}'), "{rest:?}");
}

#[test]
fn a_long_output_is_cut_and_says_so() {
    let long = vec![b'Q'; STEP_BYTES_MAX + (2 << 20)];
    let (run, blobs) = one_step(&long, &[Piece(300, 2, 5), Piece(900, 2, long.len() as u64)]);
    let (_, events) = played(&run, "fs01", &blobs);
    let text = shown(&events);
    assert_eq!(text.matches('Q').count(), STEP_BYTES_MAX);
    assert!(text.contains("(cut here: 2.0 MiB more are in the record)"), "{}", &text[text.len() - 300..]);
    assert!(events.iter().all(|event| event.2.len() <= 20 << 10), "players read a line at once");
}

#[test]
fn what_is_not_there_is_told_and_a_host_without_a_session_has_a_header() {
    let (run, _) = one_step(b"one\n", &[]);
    let text = shown(&played(&run, "fs01", &Blobs::new()).1);
    assert!(text.contains("(stderr: not kept here)") && text.contains("(command "), "{text}");
    let (_, events) = played(&taken_back(), "fs02", &Blobs::new());
    assert_eq!(events.last().unwrap().2, "fs02: blocked: not started: the failure budget is spent");
    let (_, events) = played(&taken_back(), "nobody", &Blobs::new());
    assert_eq!(events.len(), 1);
}

#[test]
fn the_same_record_gives_the_same_bytes() {
    let (run, blobs) = one_step(b"one\n", &[Piece(300, 2, 4)]);
    assert_eq!(played(&run, "fs01", &blobs), played(&run, "fs01", &blobs));
}
