//! Which records answer an assessment objective, and what is said of those that do not.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use std::collections::BTreeSet;

use runbook_model::HostOutcome;
use runbook_model::event::Event;
use runbook_model::session::{Process, WayIn};
use runbook_report::json::Attachments;
use runbook_report::objectives::{Answer, Evidence, Revision, answers, find};
use runbook_report::summary::{self, Circumstances};
use runbook_report::{Palette, RunView};
use sample::{Writer, taken_back};

fn answer(view: &RunView, id: &str) -> Answer {
    let revision = if id.starts_with('A') { Revision::R3 } else { Revision::R2 };
    answers(view, revision).into_iter().find(|answer| answer.objective.id == id).expect("the objective is there")
}

#[test]
fn every_record_that_is_cited_is_one_of_the_run_and_about_its_host() {
    let run = taken_back();
    let view = run.view();
    let mut cited = BTreeSet::new();
    for revision in Revision::ALL {
        for answer in answers(&view, revision) {
            for citation in answer.records() {
                assert!(!citation.seqs.is_empty() && citation.seqs.is_sorted(), "{citation:?}");
                for seq in &citation.seqs {
                    let record = run.records.iter().find(|record| record.seq == *seq);
                    let record = record.unwrap_or_else(|| panic!("{seq} is no record of the run: {citation:?}"));
                    let told = serde_json::to_string(&record.event).unwrap();
                    if let Some(host) = &citation.host {
                        assert!(told.contains(host.as_str()), "record {seq} is not about {host}: {told}");
                    }
                    if let Some(step) = &citation.step {
                        assert!(told.contains(step.as_str()), "record {seq} is not about {step}: {told}");
                    }
                    cited.insert(*seq);
                }
            }
        }
    }
    assert!(cited.len() > 10, "{cited:?}");
}

#[test]
fn what_deviates_stands_first_and_what_was_not_reached_is_a_gap() {
    let view = taken_back().view();
    let maintained = answer(&view, "3.7.1");
    let done = &maintained.findings[0];
    assert_eq!(done.evidence, Evidence::RunRecord);
    assert!(done.records[0].deviates && done.records[0].what.starts_with("rolled back: verify"), "{done:?}");
    let executed = answer(&view, "3.7.2[b]");
    assert!(executed.gaps().contains(&"fs02: in the plan and not started."), "{:?}", executed.gaps());
    assert!(executed.gaps().iter().any(|gap| gap.contains("approval")), "{:?}", executed.gaps());
    let checked = find(&view, Evidence::Verification);
    assert!(checked.records[0].deviates && checked.records[0].what == "failed: exit code 1, expected 0");
    assert_eq!(checked.records[1].what, "1 check passed", "the check after the rollback");
}

#[test]
fn an_objective_that_no_run_can_answer_is_silent_and_says_why() {
    let view = taken_back().view();
    for id in ["3.7.3", "3.7.4", "A.03.07.04.b"] {
        let answer = answer(&view, id);
        assert!(answer.is_silent(), "{id}");
        assert!(answer.gaps()[0].contains("not done by a run"), "{id}");
    }
}

#[test]
fn who_acted_is_cited_with_the_record_of_each_act() {
    let mut run = Writer::new(&[&["fs01"]]);
    let by = |name: &str| runbook_model::event::Person { name: name.into(), uid: 7, from: Some("192.0.2.4".into()) };
    run.until_upgrade("fs01");
    run.put(Event::RunResumed { by: by("ben"), permit: None, break_glass: None, on: None })
        .put(Event::CancelAsked { by: by("cleo") });
    let cell = runbook_model::Cell { host: "fs01".into(), step: "upgrade".into() };
    run.put(Event::StepResolved { cell, succeeded: false, why: "looked".into(), by: by("dora") });
    run.run_ended(HostOutcome::Cancelled);
    let acts: Vec<String> =
        find(&run.view(), Evidence::Operator).records.iter().map(|citation| citation.what.clone()).collect();
    assert_eq!(
        acts,
        [
            "jane (uid 1000) opened the run",
            "ben (from 192.0.2.4) (uid 7) took the run up again",
            "cleo (from 192.0.2.4) (uid 7) asked to cancel",
            "dora (from 192.0.2.4) (uid 7) settled fs01/upgrade as failed: looked",
        ]
    );
}

#[test]
fn a_clock_of_which_nobody_knows_is_a_deviation_and_a_gap() {
    let mut run = Writer::new(&[&["fs01"]]);
    let Event::RunOpened(header) = &mut run.records[0].event else { panic!("it begins with its opening") };
    header.clock.synchronised = None;
    let clock = find(&run.view(), Evidence::Clock);
    assert!(clock.records[0].deviates && clock.gaps[0].contains("not known to be synchronised"), "{clock:?}");
    let told = find(&taken_back().view(), Evidence::Clock);
    assert!(!told.records[0].deviates && *told.gaps == ["fs01: how far its clock is off was not measured."]);
}

#[test]
fn a_run_without_a_record_answers_nothing() {
    let view = RunView::new(Writer::new(&[&["fs01"]]).plan);
    for answer in answers(&view, Revision::R2) {
        assert!(answer.is_silent(), "{}: {:?}", answer.objective.id, answer.records().collect::<Vec<_>>());
        assert!(!answer.gaps().is_empty(), "{}", answer.objective.id);
    }
}

#[test]
fn the_end_of_a_session_answers_its_objectives_and_what_stays_open_deviates() {
    let mut run = Writer::new(&[&["fs01", "fs02", "fs03"]]);
    for host in ["fs01", "fs02", "fs03"] {
        run.connect(host).host_ended(host, HostOutcome::Succeeded, "");
    }
    run.closed("fs01", 3);
    let tmux = Process { pid: 70, name: "tmux: server".into(), how: WayIn::Terminal };
    run.closed_with("fs02", |close| close.look.ways_in.push(tmux));
    run.put(Event::RunEnded { outcome: HostOutcome::Failed, clock: None });
    let view = run.view();
    for id in ["3.7.5[b]", "3.1.11[b]", "A.03.07.05.c[01]", "A.03.07.05.c[02]"] {
        let answer = answer(&view, id);
        let said: Vec<(&str, &str, bool)> = answer
            .records()
            .map(|one| (one.host.as_ref().unwrap().as_str(), one.what.as_str(), one.deviates))
            .collect();
        let left =
            "NOT closed: steps left a way back in: process 70 (tmux: server, with a terminal) (1 attempt over it)";
        let closed = "closed here; asked just before, the host had nothing left but that question (3 attempts over it)";
        assert_eq!(said, [("fs02", left, true), ("fs01", closed, false)], "{id}");
        let gaps = answer.gaps();
        assert!(gaps.iter().any(|gap| gap.starts_with("fs03: a session was opened")), "{id}: {gaps:?}");
        assert!(gaps.iter().any(|gap| gap.contains("not once more afterwards")), "{id}: {gaps:?}");
    }
    let login = answer(&view, "3.7.5[a]");
    assert!(login.records().next().unwrap().what.contains("curve25519-sha256"), "{login:?}");
    assert!(login.gaps().iter().any(|gap| gap.contains("ExposeAuthInfo")), "{:?}", login.gaps());
    let summary =
        summary::lines(&view, &Attachments::default(), Circumstances::default(), 100, Palette::Plain).join(" ");
    assert!(summary.contains("a session stays open, and that fails the run"), "{summary}");
    let page = runbook_report::show::text(&view, &Attachments::default(), None, 200, Palette::Plain);
    assert!(page.contains("session NOT closed: steps left a way back in"), "{page}");
}
