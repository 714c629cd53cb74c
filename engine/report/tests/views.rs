//! What each view says of the same records.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use runbook_model::event::{ClockState, Controller};
use runbook_model::outcome::Obstacle;
use runbook_model::outcome::ObstacleKind;
use runbook_model::{AttemptOutcome, Event, HostName, HostOutcome, Phase, Sha256};
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::{self, Attachments};
use runbook_report::live::plain;
use runbook_report::objectives::Revision;
use runbook_report::summary::{self, Circumstances};
use runbook_report::{Palette, RunView, check, explain, logs, show};
use sample::{Writer, taken_back};

fn summary(view: &RunView) -> String {
    let circumstances = Circumstances { evidence: ".runbook", ..Circumstances::default() };
    summary::lines(view, &Attachments::default(), circumstances, 80, Palette::Plain).join("\n")
}

/// The assessor's page, without its contents.
fn html(view: &RunView, attachments: &Attachments) -> String {
    let verification = Verification::default();
    let mut page = html::head(view, attachments, &verification);
    for (name, host) in &view.hosts {
        page.push_str(&html::host(view, attachments, name, host, &Contents::new()));
    }
    page + &html::tail(view, attachments, &verification, Revision::R2)
}

fn halted() -> Writer {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").exit("fs01", "upgrade", 1, 1, "no space\n");
    run.end("fs01", "upgrade", AttemptOutcome::Failed, "exit code 1, expected 0");
    run.end_phase("fs01", Phase::Execute, false);
    run.host_ended("fs01", HostOutcome::Failed, "execute: `upgrade` failed and the plan halts there");
    run.put(Event::RunSuspended { outcome: HostOutcome::Failed });
    run
}

#[test]
fn show_tells_a_run_that_was_taken_back() {
    insta::assert_snapshot!(show::text(&taken_back().view(), &Attachments::default(), None, 80, Palette::Plain));
}

#[test]
fn json_of_a_run_that_was_taken_back() {
    insta::assert_json_snapshot!(json::run(&taken_back().view(), &Attachments::default(), None));
}

#[test]
fn explain_tells_a_run_that_was_taken_back() {
    insta::assert_snapshot!(explain::explain(&taken_back().view(), None).text(80, Palette::Plain));
}

#[test]
fn summary_of_a_run_that_was_taken_back() {
    insta::assert_snapshot!(summary(&taken_back().view()));
}

#[test]
fn summary_of_a_good_run() {
    let mut run = Writer::new(&[&["fs01", "fs02"]]);
    run.good_host("fs01").good_host("fs02").run_ended(HostOutcome::Succeeded);
    insta::assert_snapshot!(summary(&run.view()));
}

#[test]
fn summary_of_a_halted_run_tells_what_the_step_said() {
    let mut attachments = Attachments::default();
    let said = b"Reading state...\n\nE: You don't have enough free space\nE: \x1b[31mno space\n";
    attachments.said.insert(Sha256::of(b"no space\n"), said.to_vec());
    let circumstances = Circumstances { evidence: ".runbook", ..Circumstances::default() };
    let text = summary::lines(&halted().view(), &attachments, circumstances, 80, Palette::Plain).join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn summary_of_a_run_whose_outcome_is_unknown() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01");
    run.end("fs01", "upgrade", AttemptOutcome::Unknown, "the connection was lost and the host has not answered since");
    run.host_ended("fs01", HostOutcome::Unknown, "nobody knows whether `upgrade` happened");
    run.put(Event::RunSuspended { outcome: HostOutcome::Unknown });
    insta::assert_snapshot!(summary(&run.view()));
}

#[test]
fn summary_of_a_run_with_500_hosts_of_which_one_is_unreachable() {
    let names: Vec<String> = (1..=500).map(|n| format!("web{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut run = Writer::new(&[&names]);
    for name in &names[..499] {
        run.good_host(name);
    }
    run.put(Event::HostStarted { host: "web500".into(), begun_ms: None });
    let obstacle = Obstacle { kind: ObstacleKind::Unreachable, message: "web500 (10.0.1.2:22) does not answer".into() };
    run.put(Event::SessionFailed { host: "web500".into(), obstacle });
    run.host_ended("web500", HostOutcome::Blocked, "web500 (10.0.1.2:22) does not answer");
    run.run_ended(HostOutcome::Blocked);
    insta::assert_snapshot!(summary(&run.view()));
}

#[test]
fn a_cell_that_began_and_has_no_end_is_unknown_never_not_started() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").put(Event::RunSuspended { outcome: HostOutcome::Unknown });
    let document = json::run(&run.view(), &Attachments::default(), None);
    let outcome = |id: &str| document.hosts[0].steps.iter().find(|step| step.id == id).unwrap().outcome;
    assert_eq!(outcome("upgrade"), Some("unknown"));
    assert_eq!(outcome("restart"), Some("not_started"));
}

#[test]
fn every_announced_cell_is_in_the_document() {
    let run = taken_back();
    let document = json::run(&run.view(), &Attachments::default(), None);
    let ids = |host: usize| -> Vec<(String, u32)> {
        document.hosts[host].steps.iter().map(|step| (step.id.clone(), step.attempt)).collect()
    };
    let all: Vec<_> = run.plan.steps.iter().map(|step| step.id.to_string()).collect();
    let mut seen: Vec<_> = ids(0).into_iter().map(|(id, _)| id).collect();
    seen.dedup();
    assert_eq!(seen, all);
    assert!(ids(0).contains(&("upgrade".into(), 1)) && ids(0).contains(&("upgrade".into(), 2)));
    let rollback = |id: &str| id.contains('.') && id != "data.probe";
    assert_eq!(ids(1), all.into_iter().filter(|id| !rollback(id)).map(|id| (id, 0)).collect::<Vec<_>>());
    for step in &document.hosts[1].steps {
        assert_eq!(step.outcome, Some("not_started"));
        assert!(step.reason.as_ref().unwrap().contains("failure budget is spent"), "{:?}", step.reason);
    }
}

#[test]
fn an_operators_word_counts_and_what_was_observed_stays() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01");
    run.end("fs01", "upgrade", AttemptOutcome::Unknown, "lost");
    run.put(Event::StepResolved {
        cell: runbook_model::Cell { host: "fs01".into(), step: "upgrade".into() },
        succeeded: true,
        why: "dpkg -l shows it".into(),
        by: runbook_model::event::Person { name: "raj".into(), uid: 1, from: None },
    });
    let document = json::run(&run.view(), &Attachments::default(), None);
    let step = document.hosts[0].steps.iter().find(|step| step.id == "upgrade").unwrap();
    assert_eq!((step.outcome, step.resolved_by.as_deref()), (Some("succeeded"), Some("raj")));
    assert_eq!(step.reason.as_deref(), Some("settled as succeeded by raj: dpkg -l shows it"));
}

#[test]
fn a_whole_run_has_no_gaps_and_an_open_one_has() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.good_host("fs01").run_ended(HostOutcome::Succeeded);
    assert_eq!(check::gaps(&run.view()), []);
    assert_eq!(check::gaps(&taken_back().view()), []);
    let mut open = Writer::new(&[&["fs01"]]);
    open.until_upgrade("fs01");
    let gaps = check::gaps(&open.view());
    assert!(gaps.iter().any(|gap| gap.host.is_none()));
    assert!(gaps.iter().any(|gap| gap.step.as_ref().is_some_and(|step| step.as_str() == "upgrade")));
}

#[test]
fn logs_come_in_the_order_in_which_attempts_began() {
    let view = taken_back().view();
    let all = logs::entries(&view, None, None);
    assert_eq!(all.len(), 11);
    assert!(all.is_sorted_by_key(|entry| entry.attempt.started_ms));
    let upgrade = logs::entries(&view, Some(&HostName::from("fs01")), Some(&"upgrade".into()));
    assert_eq!(upgrade.iter().map(|entry| entry.attempt.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(logs::heading(&upgrade[0], Palette::Plain).starts_with("== fs01/upgrade  failed"));
}

#[test]
fn what_a_host_said_cannot_move_the_cursor() {
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").exit("fs01", "upgrade", 1, 1, "");
    run.end("fs01", "upgrade", AttemptOutcome::Failed, "\u{1b}[2J\u{202e}wiped");
    run.host_ended("fs01", HostOutcome::Failed, "\u{1b}]0;owned\u{7} `upgrade`");
    run.put(Event::RunSuspended { outcome: HostOutcome::Failed });
    let view = run.view();
    let attachments = Attachments::default();
    let texts = [
        show::text(&view, &attachments, None, 80, Palette::Plain),
        summary(&view),
        explain::explain(&view, None).text(80, Palette::Plain),
    ];
    for text in texts {
        assert!(text.contains("\\x1b"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text}");
    }
}

#[test]
fn changes_are_shown_with_what_differs() {
    use runbook_model::command::Subject;
    use runbook_model::manifest::{Change, Entry};
    let entry = |mode: &str, content: &[u8]| Entry {
        kind: "file".into(),
        sha256: Some(Sha256::of(content)),
        bytes: Some(content.len() as u64),
        mode: mode.into(),
        owner: "root".into(),
        group: "root".into(),
        acl: None,
    };
    let changes = vec![
        Change { path: "/etc/a".into(), before: Some(entry("0644", b"a")), after: Some(entry("0600", b"b")) },
        Change { path: "/etc/new".into(), before: None, after: Some(entry("0644", b"n")) },
    ];
    let digest = Sha256::of(b"changes");
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01").exit("fs01", "upgrade", 1, 0, "");
    let subject = Subject::After { step: "upgrade".into() };
    run.put(Event::Measured { host: "fs01".into(), subject, manifest: None, changes: Some(digest), obstacle: None });
    run.end("fs01", "upgrade", AttemptOutcome::Succeeded, "");
    let mut attachments = Attachments::default();
    let unread = json::run(&run.view(), &attachments, None);
    assert!(!unread.hosts[0].steps.iter().find(|step| step.id == "upgrade").unwrap().changes_known);
    attachments.changes.insert(digest, changes);
    let document = json::run(&run.view(), &attachments, None);
    let step = document.hosts[0].steps.iter().find(|step| step.id == "upgrade").unwrap();
    assert!(step.changes_known && step.changes.len() == 2);
    let text = show::text(&run.view(), &attachments, None, 100, Palette::Plain);
    assert!(text.contains("changed /etc/a (content, mode 0644 to 0600)"), "{text}");
    assert!(text.contains("made /etc/new (file, 0644 root:root)"), "{text}");
}

#[test]
fn a_clock_that_is_set_while_the_run_works_is_told_and_another_process_or_a_slow_one_is_not() {
    let steps = |by: &dyn Fn(usize) -> i64, mono: &dyn Fn(usize) -> u64| {
        let mut run = Writer::new(&[&["fs01"]]);
        run.good_host("fs01");
        for (i, record) in run.records.iter_mut().enumerate() {
            let at = 1_780_000_000_000_i64 + 5_000 * i as i64 + by(i);
            record.time = runbook_model::units::rfc3339_ms(at as u64);
            record.mono_ms = mono(i);
        }
        let steps = run.view().clock_steps;
        let told: Vec<_> = steps.iter().map(|step| (step.by_ms, step.seq - 100)).collect();
        told
    };
    let mono = |i: usize| 5_000 * i as u64 + 17;
    assert_eq!(steps(&|_| 0, &mono), []);
    assert_eq!(steps(&|i| 2 * i as i64, &mono), [], "a daemon that mends it little by little");
    assert_eq!(steps(&|i| if i < 7 { 0 } else { 7_200_000 }, &mono), [(7_200_000, 7)]);
    assert_eq!(steps(&|i| if i < 7 { 0 } else { -86_400_000 }, &mono), [(-86_400_000, 7)], "a day back");
    assert_eq!(
        steps(&|_| 0, &|i| if i < 7 { mono(i) } else { mono(i - 7) }),
        [],
        "another process counts from its own"
    );
}

#[test]
fn who_takes_a_run_up_with_another_program_is_told() {
    let mut run = Writer::new(&[&["fs01"]]);
    let header = sample::opening(&run.plan);
    let same = Controller {
        engine_version: header.engine_version.clone(),
        engine_sha256: header.engine_sha256,
        name: header.controller.clone(),
        boot_id: String::new(),
        clock: ClockState::default(),
    };
    let other = Controller { engine_version: "0.9.9".into(), engine_sha256: Sha256::of(b"other"), ..same.clone() };
    for on in [None, Some(same), Some(other)] {
        run.put(Event::RunResumed {
            by: header.operator.clone(),
            permit: None,
            break_glass: None,
            on: on.map(Box::new),
        });
    }
    let acts: Vec<String> = run.view().acts.into_iter().skip(1).map(|act| act.what).collect();
    assert_eq!(acts[..2], ["took the run up again", "took the run up again"]);
    let told = format!("took the run up again on {}, with runbook 0.9.9, {}", header.controller, Sha256::of(b"other"));
    assert_eq!(acts[2], told);
}

#[test]
fn a_host_that_was_cut_off_and_windows_that_changed_are_told_in_every_view() {
    let reason = "it was cut off 15 min before the end of window patch-night, so that the way back fits";
    let mut run = Writer::new(&[&["fs01"]]);
    run.until_upgrade("fs01");
    run.put(Event::PermitChanged { permit: Some(Sha256::of(b"permit")), ahead_ms: 0 });
    let changed = plain::line(&run.view(), run.records.last().unwrap()).unwrap();
    assert!(changed.contains("the windows have changed"), "{changed}");
    let ends_ms = run.now + 900_000;
    let (host, windows) = (HostName::from("fs01"), vec!["patch-night".to_owned()]);
    run.put(Event::HostCutOff { host, windows, ends_ms, reason: reason.into() });
    let line = plain::line(&run.view(), run.records.last().unwrap()).unwrap();
    assert!(line.ends_with(&format!("fs01: {reason}")), "{line}");
    run.host_ended("fs01", HostOutcome::RolledBack, reason).run_ended(HostOutcome::RolledBack);
    let (view, attachments) = (run.view(), Attachments::default());
    let document = serde_json::to_value(json::run(&view, &attachments, None)).unwrap();
    assert_eq!(document["permit_changes"][0]["permit_sha256"], Sha256::of(b"permit").to_string());
    assert_eq!(document["hosts"][0]["cut_off"]["windows"], serde_json::json!(["patch-night"]));
    let ends_at = runbook_model::units::rfc3339_ms(ends_ms);
    assert_eq!(document["hosts"][0]["cut_off"]["ends_at"], ends_at);
    let plain = Palette::Plain;
    let folded = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        show::text(&view, &attachments, None, 80, plain),
        explain::explain(&view, None).text(80, plain),
        summary(&view),
        html(&view, &attachments),
    ] {
        let text = folded(text);
        assert!(text.contains(reason), "{text}");
    }
    let told = folded(explain::explain(&view, None).text(80, plain));
    assert!(told.contains("The windows were changed while it went on"), "{told}");
    let page = folded(html(&view, &attachments));
    for word in
        ["the windows were changed while the run went on", "fs01 was cut off at", "the time of patch-night ends"]
    {
        assert!(page.contains(word), "{word}");
    }
}

/// `runbook schema run`, `runs` and `export` print these; they are kept for editors and readers of the book.
#[test]
fn the_schemas_in_the_book_are_current() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    for (name, schema) in [
        ("run", json::schema_of_run()),
        ("runs", json::schema_of_runs()),
        ("export", runbook_report::bundle::schema_of_export()),
    ] {
        let path = folder.join(format!("{name}.schema.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} is not current; write it with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn a_mute_that_is_not_proved_to_be_over_is_told_loudly_in_every_view() {
    use runbook_model::monitoring::MonitoringAct;
    let mut run = Writer::new(&[&["fs01"]]);
    run.put(Event::MonitoringMuted {
        system: "prod".into(),
        kind: "alertmanager".into(),
        site: "https://am.example".into(),
        ids: vec!["s1".into()],
        hosts: 1,
        exchange: Sha256::of(b"exchange"),
        until_ms: run.now + 1_800_000,
        lengthened: false,
        ended_by_others: Vec::new(),
    });
    let still = "monitoring may still be muted until";
    run.until_upgrade("fs01").host_ended("fs01", HostOutcome::Cancelled, "").run_ended(HostOutcome::Cancelled);
    assert!(summary(&run.view()).contains("STILL MUTED"), "its program died before it was unmuted");
    run.put(Event::MonitoringFailed {
        system: "prod".into(),
        kind: "alertmanager".into(),
        site: "https://am.example".into(),
        act: MonitoringAct::Unmute,
        why: "<nobody> answers".into(),
        until_ms: Some(run.now + 1_800_000),
    });
    let line = plain::line(&run.view(), run.records.last().unwrap()).unwrap();
    assert!(line.contains("monitoring prod is not known to be unmuted: <nobody> answers"), "{line}");
    let (view, attachments) = (run.view(), Attachments::default());
    let shown = show::text(&view, &attachments, None, 100, Palette::Plain);
    let explained = explain::explain(&view, None).text(100, Palette::Plain);
    for (what, text) in [("summary", summary(&view)), ("show", shown), ("explain", explained)] {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("STILL MUTED") && text.contains(still), "{what}: {text}");
    }
    let page = html(&view, &attachments);
    assert!(page.contains(still) && page.contains("&lt;nobody&gt; answers"), "{page}");
    let document = serde_json::to_value(json::run(&view, &attachments, None)).unwrap();
    assert_eq!(
        (&document["monitoring"][0]["failed"], &document["monitoring"][0]["ids"][0]),
        (&"unmute".into(), &"s1".into())
    );
    let (system, ids, proof, at_ms) = ("prod".into(), vec!["s1".into()], Sha256::of(b"proof"), run.now);
    run.put(Event::MonitoringUnmuted { system, ids, proof, at_ms });
    let view = run.view();
    assert!(!summary(&view).contains("MUTED") && !html(&view, &attachments).contains(still));
    assert!(json::run(&view, &attachments, None).monitoring[0].muted_until.is_none());
}
