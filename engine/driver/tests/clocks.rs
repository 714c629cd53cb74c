//! Hosts whose clocks are off, in runs that are to be provable.

mod support;

use runbook_driver::RunState;
use runbook_model::outcome::{HostOutcome, RunOutcome};
use runbook_model::plan::Phase;
use runbook_model::{Event, RunId};
use support::*;

fn steps() -> Vec<runbook_model::plan::Step> {
    vec![
        step(Phase::Prechecks, "check", "check-it"),
        step(Phase::Execute, "change", "change-it"),
        undo("change", "undo-it"),
    ]
}

fn ends(events: &[Event]) -> Vec<(String, HostOutcome, String)> {
    let end = |event: &Event| match event {
        Event::HostEnded { host, outcome, reason } => Some((host.to_string(), *outcome, reason.clone())),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_clock_is_off_or_not_known_is_blocked_before_its_change() {
    let bench = Bench::new();
    for (host, offset_ms) in [("a", 1_000), ("b", -1_001), ("c", 86_400_000)] {
        bench.transport.clock_off(host, offset_ms);
    }
    let plan = plan(&["a", "b", "c", "d"], steps());
    let granted = runbook_testkit::within_clock(&plan, 1_000);
    let request = runbook_driver::RunRequest { granted, ..bench.request(RUN) };
    let result = bench.engine().apply(plan, request, &bench.control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Blocked));
    let events = bench.events(RUN).await;
    let mut ends = ends(&events);
    ends.sort_by(|one, other| one.0.cmp(&other.0));
    let told = |no: usize| (ends[no].0.as_str(), ends[no].1, ends[no].2.as_str());
    assert_eq!((ends[0].0.as_str(), ends[0].1), ("a", HostOutcome::Succeeded));
    assert_eq!(
        told(1),
        ("b", HostOutcome::Blocked, "not begun: its clock is -1001 ms off, and at most 1000 ms are allowed")
    );
    assert_eq!(told(2).1, HostOutcome::Blocked);
    let unknown = "not begun: nobody knows how far its clock is off, and at most 1000 ms are allowed";
    assert_eq!(told(3), ("d", HostOutcome::Blocked, unknown));
    assert_eq!(bench.transport.count("change-it"), 1, "nothing was changed on the others");
    assert!(matches!(&events[0], Event::RunOpened(header) if header.clock_max_offset_ms == Some(1_000)));
    // From the record alone the same is decided, also by a program that was allowed anything.
    let loaded = bench.engine().load(&RunId::from(RUN)).await.unwrap();
    let mut run = runbook_core::Run::new(loaded.plan, loaded.header);
    events.iter().for_each(|event| run.replay(event));
    assert_eq!(run.status(), runbook_core::Status::Ended(RunOutcome::Blocked));
}

#[tokio::test(start_paused = true)]
async fn without_such_a_rule_no_clock_matters_and_a_way_back_is_never_blocked_by_one() {
    let bench = Bench::new();
    bench.transport.clock_off("a", 86_400_000);
    bench.apply(plan(&["a"], steps())).await.unwrap();
    assert_eq!(bench.transport.count("change-it"), 1);
    let request = || {
        let granted = runbook_testkit::within_clock(&plan(&["a"], steps()), 1);
        runbook_driver::RunRequest { granted, ..bench.request("019aab00-0000-7000-8000-000000000002") }
    };
    bench.engine().roll_back(&RunId::from(RUN), request(), &bench.control).await.unwrap();
    assert_eq!(bench.transport.count("undo-it"), 1);
}
