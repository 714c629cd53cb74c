//! What is allowed becomes another while a run goes on.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::date;
use runbook_driver::{Engine, Permits, RunResult, RunState};
use runbook_model::outcome::RunOutcome;
use runbook_model::permit::Permit;
use runbook_model::plan::{AtEnd, Phase, Plan, WindowRule};
use runbook_model::windows::{Freeze, When, Windows};
use runbook_model::{Event, HostOutcome, Sha256};
use runbook_policy::calendar::Cover;
use runbook_policy::{Act, Ask, Calendar, Granted, Rules, authorize};
use runbook_testkit::fake_transport::Behaviour;
use support::*;
use tokio::sync::Notify;

/// Gives what it has when it is asked after it was told to.
#[derive(Default)]
struct Later {
    has: Mutex<Option<Granted>>,
    stirs: Notify,
    asked: Mutex<u32>,
}

impl Later {
    fn is(&self, granted: Granted) {
        *self.has.lock().unwrap() = Some(granted);
        self.stirs.notify_one();
    }
}

#[async_trait]
impl Permits for Later {
    async fn changed(&self) -> Option<Granted> {
        *self.asked.lock().unwrap() += 1;
        self.has.lock().unwrap().take()
    }

    async fn stirred(&self) {
        self.stirs.notified().await;
    }
}

/// Everything is frozen since long ago; the authorizer says what that means.
fn frozen(plan: &Plan) -> Granted {
    let when = When::Between {
        from: date(1970, 1, 2).at(0, 0, 0, 0),
        until: date(2100, 1, 1).at(0, 0, 0, 0),
        zone: "UTC".into(),
    };
    let freeze = Freeze { reason: "the auditors are here".into(), when };
    let windows = Windows { freezes: BTreeMap::from([("audit".to_owned(), freeze)]), ..Windows::default() };
    let calendar = Calendar::new(&windows).unwrap();
    let now = Timestamp::from_second(1_795_000_000).unwrap();
    let ask = Ask {
        since: Some(now),
        hosts: plan.hosts.keys().map(|host| (host.clone(), Cover::default())).collect(),
        ..Ask::new(Act::Resume, now)
    };
    authorize(Rules { calendar: Some((&calendar, Sha256::of(b"windows.yaml"))), policy: None }, &ask).unwrap()
}

fn steps() -> Vec<runbook_model::plan::Step> {
    vec![
        step(Phase::Prechecks, "check", "check-it"),
        step(Phase::Execute, "change", "change-it"),
        undo("change", "undo-it"),
    ]
}

/// One batch per host.
fn one_by_one(hosts: &[&str]) -> Plan {
    let mut plan = plan(hosts, steps());
    plan.batches = hosts.iter().map(|host| vec![(*host).into()]).collect();
    plan.failure_budget = 9;
    plan
}

async fn apply(bench: &Bench, plan: Plan, permits: &Arc<Later>) -> RunResult {
    let engine = Engine { permits: Some(Arc::clone(permits) as _), ..bench.engine() };
    engine.apply(plan, bench.request(RUN), &bench.control).await.unwrap()
}

fn ends(events: &[Event]) -> Vec<(String, HostOutcome, String)> {
    let of = |event: &Event| match event {
        Event::HostEnded { host, outcome, reason } => Some((host.to_string(), *outcome, reason.clone())),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// The permit that the record names last, from its blob.
async fn on_record(bench: &Bench, events: &[Event]) -> Permit {
    let named = events.iter().rev().find_map(|event| match event {
        Event::PermitChanged { permit, .. } => Some(*permit),
        _ => None,
    });
    serde_json::from_slice(&bench.blob(named.expect("it is on record")).await).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_freeze_that_comes_while_a_host_works_keeps_the_next_ones_from_beginning() {
    let (bench, permits) = (Bench::new(), Arc::new(Later::default()));
    let plan = one_by_one(&["a", "b", "c"]);
    let (granted, later) = (frozen(&plan), Arc::clone(&permits));
    bench.transport.before_effects(move |effect| {
        if effect.text.contains("change-it") {
            later.is(granted.clone());
        }
    });
    let result = apply(&bench, plan, &permits).await;
    assert_eq!(result.state, RunState::Ended(RunOutcome::Blocked));
    let events = bench.events(RUN).await;
    let why = "not begun: everything is frozen by audit (the auditors are here)";
    let (good, blocked) = (HostOutcome::Succeeded, HostOutcome::Blocked);
    let expected = [("a", good, ""), ("b", blocked, why), ("c", blocked, why)];
    assert_eq!(ends(&events), expected.map(|(host, outcome, why)| (host.to_owned(), outcome, why.to_owned())));
    let changed = events.iter().position(|event| matches!(event, Event::PermitChanged { .. })).unwrap();
    let ended = events.iter().position(|event| matches!(event, Event::HostEnded { host, .. } if host.as_str() == "b"));
    assert!(changed < ended.unwrap(), "it is on record before it decides");
    assert_eq!(on_record(&bench, &events).await.classes[0].hosts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn while_the_windows_cannot_be_read_no_host_begins_and_the_reason_is_kept() {
    let (bench, permits) = (Bench::new(), Arc::new(Later::default()));
    let later = Arc::clone(&permits);
    bench.transport.before_effects(move |effect| {
        if effect.text.contains("change-it") {
            later.is(Granted::nothing("windows.yaml cannot be read".into()));
        }
    });
    apply(&bench, one_by_one(&["a", "b"]), &permits).await;
    let events = bench.events(RUN).await;
    assert_eq!(ends(&events)[0].1, HostOutcome::Succeeded);
    assert_eq!(ends(&events)[1].2, "not begun: windows.yaml cannot be read");
    assert_eq!(on_record(&bench, &events).await.closed.as_deref(), Some("windows.yaml cannot be read"));
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_a_run_in_which_nothing_else_happens_and_cuts_it_off() {
    let (bench, permits) = (Bench::new(), Arc::new(Later::default()));
    let mut plan = one_by_one(&["a"]);
    plan.window = WindowRule { at_end: AtEnd::Rollback };
    bench.transport.on(None, "change-it", [Behaviour::hangs()]);
    let (granted, later) = (frozen(&plan), Arc::clone(&permits));
    let freeze = async {
        tokio::time::sleep(std::time::Duration::from_secs(100)).await;
        later.is(granted);
    };
    let (result, ()) = tokio::join!(apply(&bench, plan, &permits), freeze);
    assert_eq!(result.state, RunState::Ended(RunOutcome::RolledBack));
    let events = bench.events(RUN).await;
    assert!(events.iter().any(|event| matches!(event, Event::HostCutOff { .. })));
    assert_eq!(bench.transport.count("undo-it"), 1);
    assert!(ends(&events)[0].2.contains("everything is frozen by audit"), "{:?}", ends(&events));
}

#[tokio::test(start_paused = true)]
async fn what_changed_before_the_run_was_opened_is_what_it_is_opened_with() {
    let (bench, permits) = (Bench::new(), Arc::new(Later::default()));
    let plan = one_by_one(&["a"]);
    permits.is(frozen(&plan));
    apply(&bench, plan, &permits).await;
    let events = bench.events(RUN).await;
    assert!(matches!(&events[0], Event::RunOpened(header) if header.permit.is_some()));
    assert!(!events.iter().any(|event| matches!(event, Event::PermitChanged { .. } | Event::HostStarted { .. })));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_once_every_host_has_begun() {
    let (bench, permits) = (Bench::new(), Arc::new(Later::default()));
    let many = (0..200).map(|i| step(Phase::Execute, &format!("s{i:03}"), "true")).collect();
    let engine = Engine { permits: Some(Arc::clone(&permits) as _), ..bench.engine() };
    engine.apply(plan(&["a"], many), bench.request(RUN), &bench.control).await.unwrap();
    let asked = *permits.asked.lock().unwrap();
    assert!((1..10).contains(&asked), "{asked}");
}
