//! The live view, frame by frame.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use runbook_model::outcome::{AttemptOutcome, HostOutcome, Wait};
use runbook_model::{AttemptId, Cell, Event, Phase};
use runbook_report::live::{Screen, plain};
use runbook_report::text::width;
use runbook_report::{Palette, RunView};
use sample::{Writer, taken_back};

fn screen(run: &Writer) -> Screen {
    let mut screen = Screen::new(run.plan.clone(), Palette::Plain);
    for record in &run.records {
        screen.record(record);
    }
    screen
}

fn cell(host: &str, step: &str) -> Cell {
    Cell { host: host.into(), step: step.into() }
}

fn many(ended: usize, running: usize) -> Writer {
    let names: Vec<String> = (1..=500).map(|n| format!("web{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = Writer::new(&[&names]);
    run.put(Event::BatchStarted { batch: 0 });
    for name in &names[..ended] {
        run.good_host(name);
    }
    run.until_upgrade(names[ended]).exit(names[ended], "upgrade", 1, 1, "");
    run.end(names[ended], "upgrade", AttemptOutcome::Failed, "exit code 1, expected 0");
    run.phase_because(names[ended], Phase::Rollback, Some("execute: `upgrade` failed"));
    run.start(names[ended], "upgrade.undo", 1);
    for name in &names[ended + 1..ended + 1 + running] {
        run.until_upgrade(name);
    }
    run
}

#[test]
fn one_host_in_the_middle_of_a_step() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").wait(83_000);
    let mut screen = screen(&run);
    screen.output(
        &cell("fs01", "upgrade"),
        b"Reading package lists...\nUnpacking samba (2:4.17) \x1b[32mover\x1b[0m ...",
    );
    insta::assert_snapshot!(screen.lines(80, 24, run.now).join("\n"));
}

#[test]
fn a_lost_host_shows_since_when_it_is_tried_again_and_given_up() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").wait(5_000);
    let attempt = AttemptId { run: sample::RUN.into(), host: "fs01".into(), step: "upgrade".into(), attempt: 1 };
    let deadline_ms = run.now + 900_000;
    let reason = "fs01 (10.0.1.11): the connection broke".to_owned();
    run.put(Event::AttemptLost { attempt, reason, deadline_ms, not_begun: false }).wait(61_500);
    let mut screen = screen(&run);
    let recorded = screen.lines(80, 24, run.now).join("\n");
    let why = "fs01 (10.0.1.11): no answer within 15 s".to_owned();
    screen.waiting(&cell("fs01", "upgrade"), Some(&Wait { next_ms: run.now + 8_000, until_ms: deadline_ms, why }));
    let waiting = screen.lines(80, 24, run.now).join("\n");
    let shown = runbook_report::show::text(&run.view(), &Default::default(), None, 80, Palette::Plain);
    insta::assert_snapshot!(format!("{recorded}\n\n{waiting}\n\n{shown}"));
}

#[test]
fn a_run_that_waits_for_its_hosts_has_taken_no_time_yet() {
    let run = Writer::new(&[&["fs01"]]);
    let lines = Screen::new(run.plan.clone(), Palette::Plain).lines(80, 24, run.now);
    assert!(!lines[0].contains(':'), "{lines:#?}");
    assert!(lines[0].contains("1 host"), "{lines:#?}");
}

#[test]
fn a_transfer_shows_how_far_it_is() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").wait(5_000);
    let mut screen = screen(&run);
    screen.progress(&cell("fs01", "upgrade"), 300 << 20, 512 << 20);
    insta::assert_snapshot!(screen.lines(80, 24, run.now).join("\n"));
}

#[test]
fn five_hundred_hosts_are_folded() {
    let run = many(40, 30);
    insta::assert_snapshot!(screen(&run).lines(80, 16, run.now).join("\n"));
}

#[test]
fn hosts_that_wait_for_their_turn_take_no_line_from_those_that_are_worked_on() {
    let names: Vec<String> = (1..=100).map(|n| format!("web{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = Writer::new(&[&names]);
    run.put(Event::BatchStarted { batch: 0 });
    for name in &names[..90] {
        run.connect(name);
        run.phase(name, Phase::Prechecks).end_phase(name, Phase::Prechecks, true);
    }
    run.wait(5_000);
    for name in &names[80..86] {
        run.phase(name, Phase::Execute);
        run.start(name, "upgrade", 1);
    }
    let lines = screen(&run).lines(80, 24, run.now);
    let listed = lines.iter().filter(|line| line.contains("execute")).count();
    assert_eq!(listed, 6, "{lines:#?}");
    assert!(lines.last().unwrap().contains("84 ready"), "{lines:#?}");
}

#[test]
fn no_frame_is_larger_than_the_terminal() {
    let mut run = many(3, 30);
    run.put(Event::CancelAsked { by: Default::default() });
    run.put(Event::BudgetSpent { spent: 1, budget: 0 });
    let mut screen = screen(&run);
    screen.output(&cell("web005", "upgrade"), "日本語の長い出力".repeat(40).as_bytes());
    screen.notice(Some("a long notice ".repeat(30)));
    for columns in [20, 40, 79, 80, 200] {
        for height in [3, 5, 24, 100] {
            let lines = screen.lines(columns, height, run.now + 3_600_000);
            assert!(lines.len() <= height, "{} lines in {height}", lines.len());
            for line in lines {
                assert!(width(&line) <= columns, "{} columns in {columns}: {line}", width(&line));
            }
        }
    }
}

#[test]
fn the_final_frame_says_how_each_host_ended() {
    let run = taken_back();
    insta::assert_snapshot!(screen(&run).lines(80, 24, run.now).join("\n"));
}

#[test]
fn a_file_gets_a_line_per_notable_event() {
    let run = taken_back();
    let mut view = RunView::new(run.plan.clone());
    let mut out = String::new();
    for record in &run.records {
        view.fold(record);
        if let Some(line) = plain::line(&view, record) {
            out.push_str(&line);
            out.push('\n');
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_file_is_not_told_every_step_of_500_hosts() {
    let mut run = many(40, 30);
    run.run_ended(HostOutcome::Failed);
    let mut view = RunView::new(run.plan.clone());
    let mut lines = 0;
    for record in &run.records {
        view.fold(record);
        lines += usize::from(plain::line(&view, record).is_some());
    }
    assert!((40..=60).contains(&lines), "{lines}");
}
