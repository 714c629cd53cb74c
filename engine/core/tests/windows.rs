//! What the end of a window, and a change of the windows, mean for hosts.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod story;

use std::sync::Arc;

use runbook_core::{Run, Status};
use runbook_model::command::Timer;
use runbook_model::event::Person;
use runbook_model::outcome::{Ended, KilledBy};
use runbook_model::permit::{Class, Closing, Permit, Stretch};
use runbook_model::plan::{AtEnd, WindowRule};
use runbook_model::{Command, Event, HostOutcome, Input, Phase, Plan, Sha256};
use serde_json::json;
use story::*;

/// The rollback's budget in these plans.
const BUDGET: u64 = 60_000;
/// The window ends then.
const END: u64 = 3_600_000;

fn cut(batches: &[&[&str]]) -> Plan {
    plan(batches, json!({"window": {"at_end": "rollback"}, "failure_budget": 9}), change())
}

/// Open from each start to its end.
fn open(hosts: &[&str], stretches: &[(u64, u64)]) -> Permit {
    let class = Class {
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        windows: vec!["night".into()],
        stretches: stretches.iter().map(|&(start_ms, end_ms)| Stretch { start_ms, end_ms }).collect(),
        closings: Vec::new(),
        needs_ms: BUDGET,
        estimate: "as the test says".into(),
    };
    Permit { classes: vec![class], ..Permit::default() }
}

fn frozen(hosts: &[&str], from_ms: u64) -> Permit {
    let mut permit = open(hosts, &[(0, from_ms)]);
    let what = "everything is frozen by audit (the auditors are here)".to_owned();
    permit.classes[0].windows.clear();
    permit.classes[0].closings = vec![Closing { start_ms: from_ms, end_ms: u64::MAX, what }];
    permit
}

fn begun(plan: Plan, permit: &Permit) -> Story {
    let mut story = Story::new(plan);
    story.run = story.run.permitted(permit);
    story.input(Input::Begin);
    story
}

/// Lets things happen until the attempt `cell` is to be started, which then stays under way.
fn until_under_way(story: &mut Story, cell: &str) {
    story
        .go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.cell().to_string() == cell));
}

fn timer(host: &str) -> Timer {
    Timer::CutOff { host: host.into() }
}

/// When the run's outstanding timer for the host is due.
fn due_ms(story: &Story, host: &str) -> Option<u64> {
    story.run.outstanding().iter().find_map(|command| match command {
        Command::SetTimer { timer: of, at_ms } if *of == timer(host) => Some(*at_ms),
        _ => None,
    })
}

fn fires(story: &mut Story, host: &str, now: u64) {
    story.now = now;
    story.input(Input::TimerFired { timer: timer(host) });
}

fn cut_offs(story: &Story) -> Vec<(String, u64)> {
    let of = |event: &Event| match event {
        Event::HostCutOff { host, ends_ms, .. } => Some((host.to_string(), *ends_ms)),
        _ => None,
    };
    story.events.iter().filter_map(of).collect()
}

fn is_being_ended(story: &Story, cell: &str) -> bool {
    let ends =
        |command: &Command| matches!(command, Command::CancelAttempt { attempt } if attempt.cell().to_string() == cell);
    story.run.outstanding().iter().any(ends)
}

/// What is under way ends because it was told to, and the world goes on.
fn ended_by_us(mut story: Story, cell: &str) -> Story {
    story = story.ends(cell, [Ended::Killed { by: KilledBy::Cancel }]);
    story.go();
    story
}

#[test]
fn a_host_that_is_not_through_is_stopped_and_taken_back_while_the_way_back_fits() {
    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/restart");
    assert_eq!(due_ms(&story, "a"), Some(END - BUDGET));
    fires(&mut story, "a", END - BUDGET - 1);
    assert_eq!(cut_offs(&story), [], "not a millisecond earlier");
    fires(&mut story, "a", END - BUDGET);
    assert_eq!(cut_offs(&story), [("a".to_owned(), END)]);
    assert!(is_being_ended(&story, "a/restart"));
    assert_eq!(due_ms(&story, "a"), None);
    let story = ended_by_us(story, "a/restart");
    assert_eq!(story.attempts()[3..], ["a/restart.undo", "a/install.undo", "a/space.again", "a/tidy"]);
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::RolledBack));
    let why = "it was cut off 1 min before the end of window night, so that the way back fits";
    assert_eq!(story.reason("a"), why);
    let because = story.events.iter().find_map(|event| match event {
        Event::PhaseStarted { phase: Phase::Rollback, reason, deadline_ms, .. } => Some((reason.clone(), *deadline_ms)),
        _ => None,
    });
    assert_eq!(because, Some((Some(why.to_owned()), Some(END))));
}

#[test]
fn a_host_that_has_changed_nothing_is_blocked_by_the_end_of_its_window() {
    for stage in ["connecting", "prechecks"] {
        let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
        if stage == "prechecks" {
            until_under_way(&mut story, "a/space");
        }
        fires(&mut story, "a", END - 1);
        let story = ended_by_us(story, "a/space");
        assert_eq!(story.run.status(), Status::Ended(HostOutcome::Blocked), "{stage}");
        assert!(!story.attempts().contains(&"a/install".to_owned()), "{stage}");
        assert_eq!(story.reason("a"), "it was cut off 1 s before the end of window night, so that the way back fits");
    }
}

#[test]
fn a_host_that_waits_for_its_peers_prechecks_is_blocked_too() {
    let mut story = begun(cut(&[&["a", "b"]]), &open(&["a", "b"], &[(0, END)]));
    until_under_way(&mut story, "b/space");
    fires(&mut story, "a", END - BUDGET);
    assert_eq!(story.outcome("a"), HostOutcome::Blocked);
    assert_eq!(cut_offs(&story), [("a".to_owned(), END)], "the other's timer has not fired, and its probe goes on");
    fires(&mut story, "b", END - BUDGET);
    let story = ended_by_us(story, "b/space");
    assert_eq!(story.outcome("b"), HostOutcome::Blocked);
}

#[test]
fn only_the_hosts_whose_time_ends_are_cut_off() {
    let mut both = open(&["a"], &[(0, END)]);
    both.classes.extend(open(&["b"], &[(0, 2 * END)]).classes);
    let mut story = begun(cut(&[&["a", "b"]]), &both);
    until_under_way(&mut story, "a/install");
    assert_eq!((due_ms(&story, "a"), due_ms(&story, "b")), (Some(END - BUDGET), Some(2 * END - BUDGET)));
    fires(&mut story, "a", END - BUDGET);
    let story = ended_by_us(story, "a/install");
    assert_eq!((story.outcome("a"), story.outcome("b")), (HostOutcome::RolledBack, HostOutcome::Succeeded));
}

#[test]
fn nothing_begins_after_the_moment_although_its_timer_is_late() {
    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    story.now = END - BUDGET;
    let answer =
        story.run.outstanding().iter().find(|command| matches!(command, Command::StartAttempt { .. })).cloned();
    let answer = story.answer(answer.unwrap());
    story.input(answer);
    assert_eq!(cut_offs(&story), [("a".to_owned(), END)]);
    story.go();
    assert!(!story.attempts().contains(&"a/restart".to_owned()));
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
}

#[test]
fn without_the_key_without_windows_and_in_a_rollback_nothing_is_cut_off() {
    let finish = plan(&[&["a"]], json!({}), change());
    let check = |story: &mut Story| {
        until_under_way(story, "a/install");
        assert_eq!(due_ms(story, "a"), None);
        fires(story, "a", 2 * END);
        assert_eq!(cut_offs(story), []);
        story.go();
        assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
    };
    check(&mut begun(finish, &open(&["a"], &[(0, END)])));
    check(&mut begun(cut(&[&["a"]]), &Permit::default()));

    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)])).ends("a/answers", [failed()]);
    until_under_way(&mut story, "a/restart.undo");
    fires(&mut story, "a", 2 * END);
    assert_eq!(cut_offs(&story), [], "it is being taken back already");
}

#[test]
fn what_cannot_be_taken_back_is_brought_to_its_end() {
    let mut steps = change();
    steps[1] = step("execute", "install", json!({"irreversible": "the format changes"}));
    let plan = plan(&[&["a"]], json!({"window": {"at_end": "rollback"}}), steps);
    let mut story = begun(plan.clone(), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/space");
    assert_eq!(due_ms(&story, "a"), Some(END - BUDGET), "until it has begun");
    until_under_way(&mut story, "a/install");
    assert_eq!(due_ms(&story, "a"), None);
    story.now = 2 * END;
    story.go();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded);
}

#[test]
fn a_step_that_would_halt_or_be_gone_past_does_not_keep_a_host_from_being_taken_back() {
    for on_failure in ["halt", "continue"] {
        let mut steps = change();
        steps[1]["on_failure"] = json!(on_failure);
        let plan = plan(&[&["a"]], json!({"window": {"at_end": "rollback"}}), steps);
        let mut story = begun(plan, &open(&["a"], &[(0, END)]));
        until_under_way(&mut story, "a/install");
        fires(&mut story, "a", END - BUDGET);
        let story = ended_by_us(story, "a/install");
        assert_eq!(story.outcome("a"), HostOutcome::RolledBack, "{on_failure}");
        assert!(story.attempts().contains(&"a/install.undo".to_owned()), "{on_failure}");
    }
}

/// The controller dies, and the next one comes at `now` with `permit`.
fn taken_up(story: &Story, plan: Plan, now: u64, permit: &Permit) -> Story {
    let mut next = Story::new(plan);
    for event in &story.events {
        next.run.replay(event);
    }
    next.run.delta();
    next.run = next.run.permitted(permit);
    next.events.clone_from(&story.events);
    next.now = now;
    next.input(Input::Resume { by: Person::default(), permit: None, break_glass: None, on: None });
    next
}

#[test]
fn a_new_controller_takes_back_what_was_begun_in_a_time_that_is_over() {
    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    let over =
        [("in no window", 2 * END), ("in the next window", 24 * END + 1), ("too late for the way back", END - 1)];
    for (what, now) in over {
        let permit = open(&["a"], &[(0, END), (24 * END, 25 * END)]);
        let next = taken_up(&story, cut(&[&["a"]]), now, &permit);
        assert_eq!(cut_offs(&next), [("a".to_owned(), END)], "{what}");
        assert!(is_being_ended(&next, "a/install"), "{what}");
        let next = ended_by_us(next, "a/install");
        assert_eq!(next.run.status(), Status::Ended(HostOutcome::RolledBack), "{what}");
        assert!(!next.attempts().contains(&"a/restart".to_owned()), "{what}");
    }
    let next = taken_up(&story, cut(&[&["a"]]), 2 * END, &open(&["a"], &[(0, END)]));
    assert!(next.events.iter().any(|event| matches!(event, Event::HostCutOff { reason, .. }
        if reason == "its time is over: it was begun in window night, and that has ended")));
}

#[test]
fn the_windows_as_they_are_at_the_resume_decide() {
    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    let goes_on = [
        ("the same window", END / 2, open(&["a"], &[(0, END)])),
        ("it was made longer", END, open(&["a"], &[(0, 3 * END)])),
        ("it was moved", 2 * END, open(&["a"], &[(END, 3 * END)])),
        ("there are none any more", 2 * END, Permit::default()),
    ];
    for (what, now, permit) in goes_on {
        let mut next = taken_up(&story, cut(&[&["a"]]), now, &permit);
        assert_eq!(cut_offs(&next), [], "{what}");
        next.go_until(|command| matches!(command, Command::SetTimer { .. }));
        assert_eq!(next.outcome("a"), HostOutcome::Succeeded, "{what}");
    }
}

#[test]
fn a_host_that_was_cut_off_stays_so_under_the_next_controller() {
    let mut story = begun(cut(&[&["a"]]), &open(&["a"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    fires(&mut story, "a", END - BUDGET);
    let next = taken_up(&story, cut(&[&["a"]]), END - BUDGET + 1, &Permit::default());
    assert!(is_being_ended(&next, "a/install"));
    let next = ended_by_us(next, "a/install");
    assert_eq!((cut_offs(&next).len(), next.outcome("a")), (1, HostOutcome::RolledBack));
}

#[test]
fn a_halted_host_counts_as_begun_when_an_operator_goes_on_with_it() {
    let mut steps = change();
    steps[1]["on_failure"] = json!("halt");
    let halting = plan(&[&["a"]], json!({"window": {"at_end": "rollback"}}), steps);
    let two = open(&["a"], &[(0, END), (24 * END, 25 * END)]);
    let mut story = begun(halting.clone(), &two).ends("a/install", [failed()]);
    story.go();
    assert_eq!(story.run.status(), Status::Suspended(HostOutcome::Failed));
    let mut next = taken_up(&story, halting.clone(), 24 * END, &two);
    next.go_until(|command| matches!(command, Command::SetTimer { .. }));
    assert_eq!(next.outcome("a"), HostOutcome::Succeeded, "in the next window it is done");
    let next = ended_by_us(taken_up(&story, halting, 12 * END, &two), "a/install");
    assert_eq!(next.outcome("a"), HostOutcome::RolledBack, "outside of any it is taken back");
}

#[test]
fn replay_of_a_run_with_cut_offs_and_changed_windows_leads_to_the_same_state() {
    let mut story = begun(cut(&[&["a"], &["b"]]), &open(&["a", "b"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    story.input(changed(&open(&["a", "b"], &[(0, END / 2)])));
    fires(&mut story, "a", END / 2 - BUDGET);
    let story = ended_by_us(story, "a/install");
    let mut run = Run::new(Arc::new(cut(&[&["a"], &["b"]])), Arc::new(header_of()));
    story.events.iter().for_each(|event| run.replay(event));
    assert_eq!(run.status(), story.run.status());
    assert_eq!(run.outstanding(), story.run.outstanding());
    assert!(story.events.iter().any(|event| matches!(event, Event::HostCutOff { .. })));
}

fn changed(permit: &Permit) -> Input {
    Input::PermitChanged {
        permit: Some(Sha256::of(b"as the test says")),
        allowed: Box::new(permit.clone()),
        ahead_ms: 0,
    }
}

#[test]
fn a_freeze_that_is_declared_meanwhile_blocks_whoever_would_begin_next() {
    let plan = plan(&[&["a"], &["b"], &["c"]], json!({"failure_budget": 9}), change());
    let mut story = begun(plan, &Permit::default());
    until_under_way(&mut story, "a/install");
    story.now = 1_000;
    story.input(changed(&frozen(&["a", "b", "c"], 500)));
    assert!(matches!(story.events.last(), Some(Event::PermitChanged { permit: Some(_), .. })));
    story.go();
    assert_eq!(story.outcome("a"), HostOutcome::Succeeded, "what has begun is brought to its end");
    for host in ["b", "c"] {
        assert_eq!(story.outcome(host), HostOutcome::Blocked);
        assert_eq!(story.reason(host), "not begun: everything is frozen by audit (the auditors are here)");
    }
}

#[test]
fn a_host_may_be_begun_when_the_change_is_for_the_better() {
    let plan = plan(&[&["a"], &["b"]], json!({"failure_budget": 9}), change());
    let mut both = open(&["a"], &[(0, END)]);
    both.classes.extend(open(&["b"], &[(5 * END, 6 * END)]).classes);
    let mut story = begun(plan, &both);
    until_under_way(&mut story, "a/install");
    story.input(Input::PermitChanged { permit: None, allowed: Box::default(), ahead_ms: 0 });
    story.go();
    assert_eq!(story.run.status(), Status::Ended(HostOutcome::Succeeded));
}

#[test]
fn a_freeze_cuts_off_what_runs_where_the_runbook_says_so() {
    let mut story = begun(cut(&[&["a"]]), &Permit::default());
    until_under_way(&mut story, "a/install");
    assert_eq!(due_ms(&story, "a"), None);
    story.now = 1_000;
    story.input(changed(&frozen(&["a"], END)));
    assert_eq!(due_ms(&story, "a"), Some(END - BUDGET));
    story.input(changed(&frozen(&["a"], 900)));
    let story = ended_by_us(story, "a/install");
    assert_eq!(story.outcome("a"), HostOutcome::RolledBack);
    assert_eq!(story.reason("a"), "its time is over: everything is frozen by audit (the auditors are here)");
}

#[test]
fn while_the_windows_cannot_be_made_out_nothing_begins_and_what_has_begun_goes_on() {
    let mut story = begun(cut(&[&["a"], &["b"]]), &open(&["a", "b"], &[(0, END)]));
    until_under_way(&mut story, "a/install");
    let closed = Permit { closed: Some("windows.yaml cannot be read".into()), ..Permit::default() };
    story.input(changed(&closed));
    assert_eq!(due_ms(&story, "a"), None);
    story.now = 2 * END;
    story.go();
    assert_eq!((story.outcome("a"), story.outcome("b")), (HostOutcome::Succeeded, HostOutcome::Blocked));
    assert_eq!(story.reason("b"), "not begun: windows.yaml cannot be read");
}

#[test]
fn who_works_on_a_run_is_asked_to_look_only_while_it_matters() {
    let mut story = Story::new(plan(&[&["a"], &["b"]], json!({"failure_budget": 9}), change()));
    assert!(!story.run.heeds_permit());
    story.input(Input::Begin);
    assert!(story.run.heeds_permit());
    story.go_until(|command| matches!(command, Command::StartAttempt { attempt } if attempt.host.as_str() == "b" && attempt.step.as_str() == "install"));
    assert!(!story.run.heeds_permit(), "all have begun their change, and none is cut off");
    let mut story = begun(cut(&[&["a"]]), &Permit::default());
    until_under_way(&mut story, "a/install");
    assert!(story.run.heeds_permit(), "it may be cut off yet");
    story.input(Input::CancelAsked { by: Person::default() });
    assert!(!story.run.heeds_permit());
}

#[test]
fn a_plan_without_the_key_has_the_digest_that_it_had() {
    let plain = plan(&[&["a"]], json!({}), change());
    assert!(!serde_json::to_string(&plain).unwrap().contains("window"));
    let said = plan(&[&["a"]], json!({"window": {"at_end": "finish"}}), change());
    assert_eq!(plain.digest(), said.digest());
    let other = Plan { window: WindowRule { at_end: AtEnd::Rollback }, ..plain.clone() };
    assert_ne!(plain.digest(), other.digest());
}

#[test]
fn windows_go_by_the_machines_clock_also_when_it_was_set_or_the_machine_slept() {
    let permit = open(&["a", "b"], &[(0, END)]);
    let slept = |story: &mut Story, ahead_ms: i64| {
        story.input(Input::PermitChanged { permit: None, allowed: Box::new(permit.clone()), ahead_ms });
    };
    let mut story = begun(cut(&[&["a"], &["b"]]), &permit);
    until_under_way(&mut story, "a/install");
    slept(&mut story, 1_000_000);
    assert_eq!(due_ms(&story, "a"), Some(END - BUDGET - 1_000_000));
    slept(&mut story, -1_000_000);
    assert_eq!(due_ms(&story, "a"), Some(END - BUDGET + 1_000_000));
    slept(&mut story, 4_000_000);
    assert_eq!(cut_offs(&story), [("a".to_owned(), END)]);
    let story = ended_by_us(story, "a/install");
    assert_eq!(story.outcome("b"), HostOutcome::Blocked);
    assert_eq!(story.reason("b"), "not begun: outside of window night");
}
