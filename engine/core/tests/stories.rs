//! Short stories of runs: what the core decides when the world answers so.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod story;

use std::sync::Arc;

use runbook_core::{Run, Status};
use runbook_model::access::{Ending, Grant, Withdrawal};
use runbook_model::command::Timer;
use runbook_model::event::{Person, RunHeader};
use runbook_model::outcome::{Ended, Exit, KilledBy, Obstacle, ObstacleKind};
use runbook_model::plan::{OnFailure, Phase, RetryClass};
use runbook_model::session::{Process, WayIn};
use runbook_model::{AttemptOutcome, Command, Event, HostOutcome, Input, RunId};
use serde_json::{Value, json};
use story::*;

#[test]
fn good_change_runs_every_phase_in_order_and_takes_nothing_back() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).begin();
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/restart", "a/answers", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn failed_verification_takes_the_host_back_in_reverse_order_and_verifies_that() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/answers", [failed()]).begin();
    let back = ["a/restart.undo", "a/install.undo", "a/space.again", "a/tidy"];
    assert_eq!(story.attempts()[4..], back);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
    assert_eq!(story.reason("a"), "answers failed: exit code 1, expected 0");
}

#[test]
fn step_that_failed_half_done_is_undone_and_one_that_did_not_begin_is_not() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/install", [failed()]).begin();
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn a_rehearsal_takes_good_hosts_back_as_if_their_verification_had_failed() {
    let batches: &[&[&str]] = &[&["a"], &["b"]];
    for scope in ["host", "batch", "run"] {
        let rule = json!({"rollback": {"strategy": "undo", "scope": scope, "budget_ms": 60000, "verify": "again"}});
        let story = Story::rehearsal(plan(batches, rule, change())).begin();
        let way = ["space", "install", "restart", "answers", "restart.undo", "install.undo", "space.again", "tidy"];
        let all: Vec<String> =
            ["a", "b"].iter().flat_map(|host| way.iter().map(move |step| format!("{host}/{step}"))).collect();
        assert_eq!(story.attempts(), all, "{scope}: the budget of 0 is not spent by what was meant");
        assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
        assert!(story.reason("a").starts_with("a rehearsal: "), "{}", story.reason("a"));
    }
}

#[test]
fn what_really_fails_in_a_rehearsal_spends_its_budget() {
    let story = Story::rehearsal(plan(&[&["a"], &["b"]], json!({}), change())).ends("a/answers", [failed()]).begin();
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
    assert_eq!(story.reason("a"), "answers failed: exit code 1, expected 0");
    assert_eq!(story.outcome("b"), HostOutcome::Blocked);
}

#[test]
fn a_rehearsal_leaves_a_host_as_it_is_where_nothing_was_changed_or_nothing_can_be_taken_back() {
    let mut steps = change();
    steps[1]["unless"] = json!({"any": {"run": {"command": "true", "strict": true}}});
    steps[2]["unless"] = steps[1]["unless"].clone();
    let story = Story::rehearsal(plan(&[&["a"]], json!({}), steps)).begin();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded, "all of it had been done before");
    let mut steps = change();
    steps[2]["irreversible"] = json!("a letter was sent");
    let story = Story::rehearsal(plan(&[&["a"]], json!({}), steps)).begin();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
}

#[test]
fn failed_undo_leaves_the_host_stuck_and_the_run_open() {
    let story = Story::new(plan(&[&["a"]], json!({}), change()))
        .ends("a/answers", [failed()])
        .ends("a/install.undo", [failed()])
        .begin();
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Stuck));
    assert!(story.reason("a").contains("install.undo failed"), "{}", story.reason("a"));
}

#[test]
fn stuck_host_is_taken_back_by_a_resume_once_the_cause_is_gone() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()))
        .ends("a/answers", [failed()])
        .ends("a/install.undo", [failed()])
        .begin();
    let before = story.attempts().len();
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    story.go();
    assert_eq!(story.attempts()[before..], ["a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
}

#[test]
fn failed_precheck_blocks_the_host_and_changes_nothing() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/space", [failed()]).begin();
    assert_eq!(story.attempts(), ["a/space"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Blocked));
}

#[test]
fn no_host_of_a_batch_changes_before_all_are_through_their_prechecks() {
    let budget = json!({"failure_budget": 5});
    let story = Story::new(plan(&[&["a", "b", "c"]], budget, change())).begin();
    let first = story.attempts().iter().position(|cell| cell.ends_with("/install"));
    assert_eq!(first, Some(3), "{:?}", story.attempts());
}

#[test]
fn failed_canary_leaves_all_others_untouched() {
    let story = Story::new(plan(&[&["a"], &["b", "c"]], json!({}), change())).ends("a/answers", [failed()]).begin();
    assert!(story.attempts().iter().all(|cell| cell.starts_with("a/")), "{:?}", story.attempts());
    assert_eq!(story.outcome("b"), HostOutcome::Blocked);
    assert_eq!(story.reason("c"), "not begun: the failure budget of 0 is spent");
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
}

#[test]
fn budget_of_zero_changes_one_host_at_a_time() {
    let mut story = Story::new(plan(&[&["a", "b"]], json!({}), change()));
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install"));
    let changing =
        story.events.iter().filter(|event| matches!(event, Event::PhaseStarted { phase: Phase::Execute, .. }));
    assert_eq!(changing.count(), 1);
}

#[test]
fn unreachable_host_is_blocked_before_any_host_changes() {
    let mut story = Story::new(plan(&[&["a", "b"]], json!({}), change()));
    story.unreachable = vec!["b".into()];
    let story = story.begin();
    assert_eq!(story.attempts(), ["a/space"]);
    assert_eq!(story.outcome("b"), HostOutcome::Blocked);
    assert_eq!(story.outcome("a"), HostOutcome::Blocked);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Blocked));
}

#[test]
fn unknown_outcome_is_not_repeated_and_the_host_is_taken_back() {
    let lost = Ended::Unknown { reason: "the host rebooted".into() };
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/install", [lost]).begin();
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn unknown_outcome_of_an_idempotent_step_is_repeated() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"idempotent": true}));
    let lost = Ended::Unknown { reason: "the host rebooted".into() };
    let story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/install", [lost]).begin();
    assert_eq!(story.attempts()[1..3], ["a/install", "a/install"]);
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
}

#[test]
fn lost_attempt_is_asked_after_and_goes_on_with_what_the_host_says() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install"));
    let Some(Command::StartAttempt { attempt }) = story.run.outstanding().first().cloned() else { panic!("started") };
    story.input(Input::AttemptLost { attempt: attempt.clone(), reason: "the link broke".into() });
    let asked = Command::ProbeAttempt { attempt, deadline_ms: 60_000 };
    assert_eq!(story.run.outstanding().iter().cloned().collect::<Vec<_>>(), [asked]);
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn attempt_that_was_lost_before_it_began_is_begun_again() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install"));
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    let mut story = story.ends("a/install", [Ended::NotStarted { obstacle: unreachable() }]);
    story.go();
    assert_eq!(story.attempts()[1..3], ["a/install", "a/install"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn a_step_that_only_looks_is_repeated_however_many_controllers_die_in_it() {
    let lost = || Ended::Unknown { reason: "it ran attached to a connection that is gone".into() };
    let mut story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/space", (0..9).map(|_| lost()));
    story.input(Input::Begin);
    for _ in 0..9 {
        story.go_until(|command| matches!(command, Command::StartAttempt { .. }));
        story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    }
    story.go();
    assert_eq!(story.attempts()[..10], ["a/space"; 10]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn a_step_that_only_looks_is_not_repeated_for_ever_when_links_break_in_it() {
    let lost = || Ended::Unknown { reason: "it ran attached to a connection that is gone".into() };
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/space", (0..9).map(|_| lost())).begin();
    assert_eq!(story.attempts().iter().filter(|cell| *cell == "a/space").count(), 3);
    assert_eq!(told(&story, "a").0, HostOutcome::Blocked);
}

#[test]
fn attempt_that_never_began_is_none_of_those_that_retry_allows() {
    let retry =
        json!({"retry": {"attempts": 2, "delay_ms": 100, "backoff_permille": 1000, "delay_ms_max": 0, "on": ["exit"]}});
    let mut steps = change();
    steps[1] = step("execute", "install", retry);
    let mut story = Story::new(plan(&[&["a"]], json!({}), steps));
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install"));
    // The controller dies before it has sent anything; then the step fails once, as its author expects.
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    let mut story = story.ends("a/install", [Ended::NotStarted { obstacle: unreachable() }, failed()]);
    story.go();
    assert_eq!(story.attempts()[1..4], ["a/install"; 3]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn halted_host_is_left_as_it_is_and_tried_again_by_a_resume() {
    let mut steps = change();
    steps[2] = step("execute", "restart", json!({"needs": ["install"], "on_failure": "halt"}));
    let mut story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/restart", [failed()]).begin();
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/restart", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Failed));
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    story.go();
    assert_eq!(story.attempts()[4..], ["a/restart", "a/answers", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn halted_host_of_a_suspended_run_is_taken_back_by_a_cancel() {
    let mut steps = change();
    steps[2] = step("execute", "restart", json!({"needs": ["install"], "on_failure": "halt"}));
    let mut story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/restart", [failed()]).begin();
    let before = story.attempts().len();
    story.input(Input::CancelAsked { by: Person::default() });
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    story.go();
    assert_eq!(story.attempts()[before..], ["a/restart.undo", "a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Cancelled));
}

#[test]
fn failure_after_an_irreversible_step_halts() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"irreversible": "the format changes"}));
    let story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/answers", [failed()]).begin();
    assert!(!story.attempts().iter().any(|cell| cell.contains("undo")), "{:?}", story.attempts());
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Failed));
}

#[test]
fn what_can_never_be_taken_back_is_not_measured_for_the_proof_of_it() {
    let measures = |keys: Value| {
        let mut steps = change();
        steps.push(step("rollback", "rollback.baseline", json!({"role": "baseline", "read_only": true})));
        let story = Story::new(plan(&[&["a"]], keys, steps)).begin();
        story.events.iter().filter(|event| matches!(event, Event::Measured { .. })).count()
    };
    assert_eq!(measures(json!({})), 1);
    assert_eq!(measures(json!({"irreversible": "nobody keeps the old ones"})), 0);
}

fn told(story: &Story, host: &str) -> (HostOutcome, String) {
    let told = story.events.iter().find_map(|event| match event {
        Event::HostEnded { host: ended, outcome, reason } if ended.as_str() == host => Some((*outcome, reason.clone())),
        _ => None,
    });
    told.expect("it has ended")
}

#[test]
fn a_host_whose_time_does_not_fit_before_the_end_of_its_window_is_not_begun() {
    let plan = plan(&[&["a", "b"]], json!({"failure_budget": 2}), change());
    let mut story = Story::new(plan);
    story.run = story.run.permitted(&permit(&["a"], 3_600_000, 3_600_001));
    let story = story.begin();
    let (outcome, reason) = told(&story, "a");
    assert_eq!(outcome, HostOutcome::Blocked);
    assert_eq!(reason, "not begun: 60 min are left of window nights, and 61 min are needed (a guess)");
    assert_eq!(told(&story, "b").0, HostOutcome::Succeeded, "b is in no class");
    assert!(!story.attempts().iter().any(|cell| cell.starts_with("a/")), "{:?}", story.attempts());
}

#[test]
fn a_host_that_fits_exactly_is_begun() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.run = story.run.permitted(&permit(&["a"], 3_600_000, 3_600_000));
    assert_eq!(told(&story.begin(), "a").0, HostOutcome::Succeeded);
}

#[test]
fn a_window_that_closes_during_the_prechecks_is_noticed_before_the_change() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.run = story.run.permitted(&permit(&["a"], 3_600_000, 1_000_000));
    story.input(Input::Begin);
    story.go_until(|command| matches!(command, Command::StartAttempt { .. }));
    story.now = 3_000_000;
    story.go();
    let (outcome, reason) = told(&story, "a");
    assert_eq!(outcome, HostOutcome::Blocked);
    assert!(reason.contains("10 min are left of window nights"), "{reason}");
    assert_eq!(story.attempts(), ["a/space"], "only the precheck");
}

#[test]
fn what_was_begun_in_its_window_is_brought_to_its_end_after_it() {
    let mut story = Story::new(plan(&[&["a", "b"]], json!({"parallel": 1}), change()));
    story.run = story.run.permitted(&permit(&["a", "b"], 3_600_000, 1_000_000)).clone();
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install"));
    story.now = 9_000_000;
    story.go();
    let outcomes = [told(&story, "a").0, told(&story, "b").0];
    assert!(outcomes.contains(&HostOutcome::Succeeded) && outcomes.contains(&HostOutcome::Blocked), "{outcomes:?}");
}

#[test]
fn prechecks_alone_need_no_window() {
    let mut header = header_of();
    header.check_only = true;
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.run =
        Run::new(Arc::new(plan(&[&["a"]], json!({}), change())), Arc::new(header)).permitted(&permit(&["a"], 0, 1));
    assert_eq!(told(&story.begin(), "a").0, HostOutcome::Succeeded);
}

#[test]
fn failure_that_is_gone_past_is_remembered() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"on_failure": "continue"}));
    let story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/install", [failed()]).begin();
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/restart", "a/answers", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Failed));
}

#[test]
fn failed_finally_makes_a_good_host_failed() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/tidy", [failed()]).begin();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Failed));
}

#[test]
fn retry_waits_and_repeats_only_the_classes_it_names() {
    let retry = json!({"retry": {"attempts": 3, "delay_ms": 100, "backoff_permille": 2000, "delay_ms_max": 1000,
                                 "on": ["lock-held"]}});
    let locked = || Ended::Exited {
        exit: Exit::Code(100),
        unmet: vec!["exit code 100".into()],
        class: Some(RetryClass::LockHeld),
    };
    let mut steps = change();
    steps[1] = step("execute", "install", retry);
    let story = Story::new(plan(&[&["a"]], json!({}), steps.clone())).ends("a/install", [locked(), locked()]).begin();
    assert_eq!(story.attempts()[1..4], ["a/install"; 3]);
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
    assert_eq!(story.now, 300, "100 ms, then 200 ms");
    let story = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/install", [failed()]).begin();
    assert_eq!(story.attempts().iter().filter(|cell| *cell == "a/install").count(), 1);
}

#[test]
fn cancel_ends_what_runs_and_takes_the_host_back() {
    let mut story = Story::new(plan(&[&["a"], &["b"]], json!({}), change()));
    story.input(Input::Begin);
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "restart"));
    story.input(Input::CancelAsked { by: Person::default() });
    assert!(story.run.outstanding().iter().any(|command| matches!(command, Command::CancelAttempt { .. })));
    let mut story = story.ends("a/restart", [Ended::Killed { by: KilledBy::Cancel }]);
    story.go();
    assert_eq!(story.attempts()[3..], ["a/restart.undo", "a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.outcome("b"), HostOutcome::Cancelled);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Cancelled));
}

#[test]
fn cancel_does_not_stop_a_rollback() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/answers", [failed()]);
    story.input(Input::Begin);
    story.go_until(
        |command| matches!(command, Command::StartAttempt { attempt } if attempt.step.as_str() == "install.undo"),
    );
    story.input(Input::CancelAsked { by: Person::default() });
    assert!(!story.run.outstanding().iter().any(|command| matches!(command, Command::CancelAttempt { .. })));
    story.go();
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn snapshot_is_proved_before_the_change_and_released_when_the_host_is_blocked() {
    let mut steps = vec![
        step("snapshot", "data", json!({"role": "take"})),
        step(
            "snapshot",
            "data.probe",
            json!({"role": {"probe": {"of": "data"}}, "needs": ["data"], "read_only": true}),
        ),
        step("snapshot", "data.release", json!({"role": {"release": {"of": "data"}}})),
    ];
    steps.extend(change());
    steps.push(step("rollback", "data.restore", json!({"role": {"restore": {"of": "data"}}})));
    let good = Story::new(plan(&[&["a"]], json!({}), steps.clone())).begin();
    assert_eq!(good.attempts()[1..4], ["a/data", "a/data.probe", "a/install"]);
    let blocked = Story::new(plan(&[&["a"]], json!({}), steps)).ends("a/data.probe", [failed()]).begin();
    assert_eq!(blocked.attempts(), ["a/space", "a/data", "a/data.probe", "a/data.release", "a/tidy"]);
    assert_eq!(blocked.outcome("a"), HostOutcome::Blocked);
}

#[test]
fn peers_go_back_together_when_the_scope_says_so() {
    let rule = json!({"rollback": {"strategy": "undo", "scope": "batch", "budget_ms": 60000, "verify": "again"}});
    let story = Story::new(plan(&[&["a", "b"], &["c"]], rule, change())).ends("b/answers", [failed()]).begin();
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
    assert_eq!(story.outcome("b"), HostOutcome::RolledBack);
    assert_eq!(story.outcome("c"), HostOutcome::Blocked);
    assert_eq!(story.reason("a"), "another host failed, and they go back together");
}

#[test]
fn unverified_rollback_is_not_called_rolled_back() {
    let rule = json!({"rollback": {"strategy": "undo", "scope": "host", "budget_ms": 60000, "verify": "none"}});
    let story = Story::new(plan(&[&["a"]], rule, change())).ends("a/answers", [failed()]).begin();
    assert_eq!(story.outcome("a"), HostOutcome::Stuck);
}

#[test]
fn host_that_does_not_answer_is_tried_until_the_rollbacks_budget_is_over() {
    let gone = || Ended::NotStarted { obstacle: unreachable() };
    let story = Story::new(plan(&[&["a"]], json!({}), change()))
        .ends("a/answers", [failed()])
        .ends("a/restart.undo", std::iter::repeat_with(gone).take(4))
        .begin();
    assert_eq!(story.attempts().iter().filter(|cell| *cell == "a/restart.undo").count(), 5);
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
    let story = Story::new(plan(&[&["a"]], json!({}), change()))
        .ends("a/answers", [failed()])
        .ends("a/restart.undo", std::iter::repeat_with(gone).take(100))
        .begin();
    assert_eq!(story.outcome("a"), HostOutcome::Stuck);
}

#[test]
fn once_step_is_done_on_one_host_and_shared() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"once": "run"}));
    let budget = json!({"failure_budget": 5});
    let story = Story::new(plan(&[&["a", "b"]], budget, steps)).begin();
    assert_eq!(story.attempts().iter().filter(|cell| cell.ends_with("/install")).count(), 1);
    let shared = story.events.iter().any(|event| {
        matches!(event, Event::StepEnded { outcome: AttemptOutcome::Skipped, done_on: Some(host), .. } if host.as_str() == "a")
    });
    assert!(shared);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn soak_lies_between_batches_and_not_after_the_last() {
    let story = Story::new(plan(&[&["a"], &["b"]], json!({"soak_ms": 5000}), change())).begin();
    let soaks = story.events.iter().filter(|event| matches!(event, Event::TimerFired { timer: Timer::Soak { .. } }));
    assert_eq!(soaks.count(), 1);
    assert_eq!(story.now, 5000);
}

#[test]
fn continue_does_not_go_past_what_is_unknown() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"on_failure": "continue"}));
    let lost = Ended::Unknown { reason: "no record".into() };
    let plan = plan(&[&["a"]], json!({}), steps);
    assert_eq!(plan.steps[1].on_failure, OnFailure::Continue);
    let story = Story::new(plan).ends("a/install", [lost]).begin();
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Unknown));
}

fn session() -> Obstacle {
    Obstacle { kind: ObstacleKind::Session, message: "the connection broke before it began".into() }
}

fn gone() -> Ended {
    Ended::NotStarted { obstacle: unreachable() }
}

fn silent() -> Ended {
    Ended::Unknown { reason: "no answer".into() }
}

impl Story {
    fn lost(&self) -> Vec<(String, u64, bool)> {
        let lost = self.events.iter().filter_map(|event| match event {
            Event::AttemptLost { attempt, deadline_ms, not_begun, .. } => {
                Some((format!("{}/{}", attempt.step, attempt.attempt), *deadline_ms, *not_begun))
            }
            _ => None,
        });
        lost.collect()
    }

    fn step_outcome(&self, step: &str) -> Option<AttemptOutcome> {
        self.events.iter().rev().find_map(|event| match event {
            Event::StepEnded { cell, outcome, .. } if cell.step.as_str() == step => Some(*outcome),
            _ => None,
        })
    }
}

#[test]
fn changed_host_that_does_not_answer_is_waited_for_and_the_run_goes_on() {
    let answered = Ended::NotStarted { obstacle: session() };
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/restart", [gone(), answered]).begin();
    assert_eq!(story.lost(), [("restart/1".into(), 60_000, true)], "for the rollback's budget");
    assert_eq!(story.attempts(), ["a/space", "a/install", "a/restart", "a/restart", "a/answers", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn changed_host_that_does_not_come_back_is_given_up_with_its_step_not_begun() {
    let story = Story::new(plan(&[&["a"]], json!({}), change()))
        .ends("a/restart", [gone(), silent()])
        .ends("a/install.undo", std::iter::repeat_with(gone).take(100))
        .begin();
    assert_eq!(story.step_outcome("restart"), Some(AttemptOutcome::NotStarted));
    assert_eq!(story.attempts().iter().filter(|cell| *cell == "a/restart").count(), 1);
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Stuck));
}

#[test]
fn host_that_was_not_changed_is_not_waited_for() {
    let story = Story::new(plan(&[&["a"]], json!({}), change())).ends("a/install", [gone()]).begin();
    assert_eq!(story.lost(), []);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Blocked));
}

#[test]
fn host_is_waited_for_once_however_many_steps_meet_its_silence() {
    let mut steps = change();
    for no in [1, 2] {
        steps[no]["on_failure"] = json!("continue");
    }
    steps[2] = step("execute", "restart", json!({"needs": ["install"], "on_failure": "continue"}));
    steps.insert(1, step("execute", "first", json!({})));
    let mut story = Story::new(plan(&[&["a"]], json!({}), steps))
        .ends("a/install", [gone(), silent()])
        .ends("a/restart", [gone(), silent()]);
    story.input(Input::Begin);
    // Time passes only as the story says: the second step meets the host's silence ten seconds later.
    story.go_until(|command| matches!(command, Command::ProbeAttempt { .. }));
    story.now = 70_000;
    story.go();
    assert_eq!(story.lost()[..2], [("install/1".into(), 60_000, true), ("restart/1".into(), 60_000, true)]);
}

#[test]
fn silence_after_an_unknown_attempt_does_not_prove_that_nothing_began() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"idempotent": true}));
    let story = Story::new(plan(&[&["a"]], json!({}), steps))
        .ends("a/install", [silent(), gone(), silent(), gone()])
        .ends("a/install.undo", std::iter::repeat_with(gone).take(100))
        .begin();
    assert_eq!(story.step_outcome("install"), Some(AttemptOutcome::Unknown));
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Unknown));
}

#[test]
fn what_may_still_run_is_ended_before_anything_of_it_is_undone() {
    let killed = Ended::Killed { by: KilledBy::Cancel };
    let mut story =
        Story::new(plan(&[&["a"]], json!({}), change())).ends("a/install", [silent(), killed]).ends("a/space", []);
    story.input(Input::Begin);
    story.go_until(|command| matches!(command, Command::ProbeAttempt { .. } | Command::CancelAttempt { .. }));
    let open: Vec<_> = story.run.outstanding().iter().collect();
    assert!(open.iter().any(|command| matches!(command, Command::CancelAttempt { .. })), "{open:?}");
    assert!(open.iter().any(|command| matches!(command, Command::ProbeAttempt { .. })), "{open:?}");
    assert!(!story.attempts().iter().any(|cell| cell.contains("undo")), "nothing is undone yet");
    story.go();
    assert_eq!(story.step_outcome("install"), Some(AttemptOutcome::Failed), "it is known now");
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn what_was_unknown_and_is_known_when_the_host_is_taken_back_is_not_attempted_again() {
    let retry = json!({"idempotent": true, "retry": {"attempts": 3, "delay_ms": 0, "backoff_permille": 2000,
                       "delay_ms_max": 0, "on": ["exit"]}});
    let mut steps = change();
    steps[1] = step("execute", "install", retry);
    let story = Story::new(plan(&[&["a"]], json!({}), steps))
        .ends("a/install", [silent(), silent(), silent(), failed()])
        .begin();
    assert_eq!(story.attempts()[1..5], ["a/install", "a/install", "a/install", "a/install.undo"]);
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn finished_run_is_taken_back_by_another() {
    let mut story = Story::new(plan(&[&["a"], &["b"]], json!({}), change())).begin();
    let header = Arc::new(RunHeader { run: RunId::from("back"), takes_back: Some(RunId::from("run")), ..header_of() });
    let fresh = Story::new(plan(&[&["a"]], json!({}), change()));
    let finished = std::mem::replace(&mut story.run, fresh.run);
    story.run = Run::taking_back(header, finished);
    story.events.clear();
    story.input(Input::RollbackAsked { by: Person::default() });
    story.input(Input::Begin);
    story.go();
    let attempts = story.attempts();
    for host in ["a", "b"] {
        let of = |cell: &&String| cell.starts_with(&format!("{host}/"));
        let mine: Vec<_> = attempts.iter().filter(of).map(|cell| &cell[2..]).collect();
        assert_eq!(mine, ["restart.undo", "install.undo", "space.again", "tidy"]);
    }
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
}

/// Where an event of this kind stands.
fn place_of(story: &Story, is: impl Fn(&Event) -> bool) -> Option<usize> {
    story.events.iter().position(is)
}

#[test]
fn a_run_ends_when_every_session_is_closed() {
    let mut story = Story::new(plan(&[&["a"], &["b"]], json!({}), change()));
    story.input(Input::Begin);
    story.go_until(|command| matches!(command, Command::CloseSession { host } if host.as_str() == "b"));
    assert_eq!(story.outcome("b"), HostOutcome::Succeeded);
    assert_eq!(story.run.status(), Status::Running, "what is open is closed first");
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
    let closed = |host: &str| {
        place_of(&story, |event| matches!(event, Event::SessionClosed { host: of, .. } if of.as_str() == host))
    };
    let ended = |host: &str| {
        place_of(&story, |event| matches!(event, Event::HostEnded { host: of, .. } if of.as_str() == host))
    };
    for host in ["a", "b"] {
        assert!(ended(host) < closed(host), "{host}");
    }
    assert!(matches!(story.events.last(), Some(Event::RunEnded { .. })));
}

#[test]
fn a_host_without_a_session_has_none_to_close() {
    let mut story = Story::new(plan(&[&["a", "b"]], json!({"failure_budget": 1}), change()));
    story.unreachable.push("b".into());
    let story = story.begin();
    let closes = story.events.iter().filter(|event| matches!(event, Event::SessionClosed { .. })).count();
    assert_eq!((closes, story.outcome("b")), (1, HostOutcome::Blocked));
}

#[test]
fn a_session_that_stays_open_fails_the_run_and_no_host() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.left = Some(Process { pid: 7, name: "tmux: server".into(), how: WayIn::Terminal });
    let story = story.begin();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Failed));
}

#[test]
fn a_controller_that_died_before_the_close_leaves_it_to_the_next() {
    let whole = Story::new(plan(&[&["a"]], json!({}), change())).begin();
    let ended = place_of(&whole, |event| matches!(event, Event::HostEnded { .. })).unwrap();
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    for event in &whole.events[..=ended] {
        story.run.replay(event);
    }
    story.run.delta();
    story.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    assert_eq!(story.run.outstanding().iter().collect::<Vec<_>>(), [&Command::CloseSession { host: "a".into() }]);
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn sessions_to_places_that_are_no_hosts_of_the_run_are_closed_last() {
    let proxy = json!({"name": "proxy", "transport": "fake", "address": "proxy", "os": "linux"});
    let mut steps = change();
    steps[1]["on"] = json!({"named": proxy});
    let story = Story::new(plan(&[&["a"]], json!({}), steps)).begin();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
    let closed = |host: &str| {
        place_of(&story, |event| matches!(event, Event::SessionClosed { host: of, .. } if of.as_str() == host)).unwrap()
    };
    assert!(closed("a") < closed("proxy"));
    assert!(matches!(story.events.last(), Some(Event::RunEnded { .. })));
}

fn grant(host: &str) -> Input {
    let grant = Grant { certificate: None, sudo: None, account: None };
    Input::AccessGranted { host: host.into(), grant: Box::new(grant) }
}

fn access(ending: Ending) -> Withdrawal {
    Withdrawal { at_ms: Some(1), sudo: Some(ending), ..Withdrawal::default() }
}

#[test]
fn access_that_is_not_shown_to_be_gone_suspends_the_run_until_a_resume_shows_it() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.input(Input::Begin);
    story.go_until(|command| matches!(command, Command::Connect { .. }));
    story.input(grant("a"));
    story.access = Some(access(Ending::Left { until_ms: None, why: "read-only".into() }));
    story.go();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Stuck));
    let resume = || Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None };
    story.input(resume());
    assert_eq!(story.run.outstanding().iter().collect::<Vec<_>>(), [&Command::CloseSession { host: "a".into() }]);
    story.go();
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Stuck), "it is still there");
    story.access = Some(access(Ending::Proved("gone".into())));
    story.input(resume());
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn access_is_withdrawn_from_a_host_to_which_no_session_was_ever_opened() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.unreachable.push("a".into());
    story.input(Input::Begin);
    story.input(grant("a"));
    story.access = Some(access(Ending::Proved("it was never there".into())));
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Blocked));
    let closes = story.events.iter().filter(|event| matches!(event, Event::SessionClosed { .. })).count();
    assert_eq!(closes, 1);
}

#[test]
fn a_cancel_while_a_host_is_given_access_withdraws_it() {
    let mut story = Story::new(plan(&[&["a"]], json!({}), change()));
    story.input(Input::Begin);
    story.input(grant("a"));
    story.input(Input::CancelAsked { by: Person::default() });
    assert_eq!(story.run.outstanding().iter().collect::<Vec<_>>(), [&Command::CloseSession { host: "a".into() }]);
    story.access = Some(access(Ending::Proved("gone".into())));
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Cancelled));
}
