//! Which records answer an assessment objective, and what is said of those that do not.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod sample;

use std::collections::BTreeSet;

use runbook_model::HostOutcome;
use runbook_model::event::Event;
use runbook_report::RunView;
use runbook_report::objectives::{Answer, Evidence, Revision, answers, find};
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
    run.put(Event::RunResumed { by: by("ben"), permit: None, break_glass: None })
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
