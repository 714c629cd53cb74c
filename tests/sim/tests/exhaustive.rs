//! Small plans, and every point at which a controller can die, a disk can fail, a run can be taken over or a link can be
//! cut: the run ends as it would have ended, and everything was done as often.

use std::sync::atomic::{AtomicUsize, Ordering};

use runbook_core::Status;
use runbook_model::HostOutcome;
use runbook_sim::full::{Fault, Lived, Mishap, Scenario, broken_laws, live};

const ONE: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step pre prechecks takes=100
step do execute takes=3000
step check verify takes=100
step do.undo rollback undo=do takes=100
step pre.again rollback again=pre takes=100
step fin finally takes=100
";

const ROLLBACK: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step pre prechecks takes=100
step snap snapshot take takes=500 idempotent
step snap.probe snapshot probe=snap takes=100 needs=snap
step snap.release snapshot release=snap takes=100
step do execute takes=500
step more execute takes=500 needs=do
step do.undo rollback undo=do takes=500 idempotent
step snap.restore rollback restore=snap takes=500 idempotent
step pre.again rollback again=pre takes=100
step base rollback baseline takes=100
step fin finally takes=100
attempt h0/more#1 fails-half
";

const BLOCKED: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step snap snapshot take takes=500 idempotent
step snap.probe snapshot probe=snap takes=100 needs=snap
step snap.release snapshot release=snap takes=100
step do execute takes=500
step fin finally takes=100
attempt h0/snap.probe#1 fails
attempt h0/snap.probe#2 fails
attempt h0/snap.probe#3 fails
";

const BUDGET: &str = "plan parallel=2 soak=0 budget=0 scope=host verify=again
batch h0 h1
step pre prechecks takes=100
step do execute takes=500
step do.undo rollback undo=do takes=500 idempotent
step pre.again rollback again=pre takes=100
attempt h0/do#1 fails-half
";

const PEERS: &str = "plan parallel=2 soak=5000 budget=2 scope=run verify=again
batch h0
batch h1
step do execute takes=500
step do.undo rollback undo=do takes=500
step base rollback baseline takes=100
attempt h1/do#1 fails-half
";

const REBOOT: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step boot execute reboots
step do execute takes=100 needs=boot
step boot.undo rollback undo=boot takes=100
step do.undo rollback undo=do takes=100
";

const ONCE: &str = "plan parallel=2 soak=0 budget=1 scope=host verify=again
batch h0 h1
step do execute takes=500 once=run
step mine execute takes=500 needs=do changes
step mine.undo rollback undo=mine takes=100
step base rollback baseline takes=100
";

const RETRY: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step do execute takes=300 retry=3:1000:2000:10000:exit unless
step wait execute takes=90000 retry=2:500:2000:10000:timeout
step wait.undo rollback undo=wait takes=100
step do.undo rollback undo=do takes=100
step fin finally takes=100
attempt h0/do#1 fails
attempt h0/do#2 fails-half
attempt h0/wait#1 hangs
";

const HALTED: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step do execute takes=500
step stop execute takes=500 needs=do on-failure=halt
step do.undo rollback undo=do takes=100
attempt h0/stop#1 fails
";

const PLANS: [(&str, &str); 9] = [
    ("one host", ONE),
    ("rollback", ROLLBACK),
    ("blocked", BLOCKED),
    ("two hosts and a budget", BUDGET),
    ("peers", PEERS),
    ("reboot", REBOOT),
    ("once", ONCE),
    ("retry", RETRY),
    ("halted", HALTED),
];

/// How a faultless run of each plan ends: a plan that means something else proves something else.
const ENDS: [Status; 9] = [
    Status::Ended(HostOutcome::Succeeded),
    Status::Ended(HostOutcome::RolledBack),
    Status::Ended(HostOutcome::Blocked),
    Status::Ended(HostOutcome::RolledBack),
    Status::Ended(HostOutcome::RolledBack),
    Status::Ended(HostOutcome::Succeeded),
    Status::Ended(HostOutcome::Succeeded),
    Status::Ended(HostOutcome::RolledBack),
    Status::Suspended(HostOutcome::Failed),
];

fn scenario(text: &str) -> Scenario {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Lives the scenario with each list of faults, on all processors.
fn with_each(what: &str, text: &str, lists: &[Vec<Fault>], good: impl Fn(&Lived, &Lived) -> Result<(), String> + Sync) {
    let plan = scenario(text);
    let faultless = live(&plan);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(faults) = lists.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut scenario = plan.clone();
                    scenario.faults.extend(faults.iter().cloned());
                    let lived = live(&scenario);
                    let broken = broken_laws(&lived);
                    let result = if broken.is_empty() { good(&faultless, &lived) } else { Err(broken.join("; ")) };
                    if let Err(why) = result {
                        let log: String =
                            lived.simulated.log.iter().map(|(at, event)| format!("{at:>8} {event:?}\n")).collect();
                        panic!("{what}: {why}\n{scenario}\n{log}");
                    }
                }
            });
        }
    });
}

/// It has ended as without the fault, and each effect was had as often.
fn the_same(faultless: &Lived, lived: &Lived) -> Result<(), String> {
    if lived.simulated.status != faultless.simulated.status {
        return Err(format!("{:?} instead of {:?}", lived.simulated.status, faultless.simulated.status));
    }
    let (wanted, had) = (faultless.effects(), lived.effects());
    if had != wanted { Err(format!("effects {had:?} instead of {wanted:?}")) } else { Ok(()) }
}

#[test]
fn plans_end_as_they_are_meant_to() {
    for ((what, text), end) in PLANS.iter().zip(ENDS) {
        let lived = live(&scenario(text));
        assert_eq!(broken_laws(&lived), Vec::<String>::new(), "{what}");
        assert_eq!(lived.simulated.status, end, "{what}");
    }
}

/// Killed before and after each append; and at each moment at which something was recorded, just before what was sent
/// then arrives at a host, and just after it has begun there.
#[test]
fn a_controller_that_dies_at_any_point_changes_nothing_of_the_end() {
    for (what, text) in PLANS {
        let faultless = live(&scenario(text));
        let mut lists: Vec<Vec<Fault>> = Vec::new();
        for append in 1..=faultless.appends {
            for written in [false, true] {
                lists.push(vec![Fault::Crash { append, written, down_ms: 20_000 }]);
            }
        }
        let mut times: Vec<u64> = faultless.simulated.log.iter().map(|(at, _)| *at).collect();
        times.dedup();
        for at in times {
            for late in [10, 40] {
                lists.push(vec![Fault::CrashAt { at_ms: at + late, down_ms: 20_000 }]);
            }
        }
        with_each(what, text, &lists, the_same);
    }
}

#[test]
fn a_disk_that_fails_at_any_append_changes_nothing_of_the_end() {
    for (what, text) in PLANS {
        let appends = live(&scenario(text)).appends;
        let both = |append| [false, true].map(|written| vec![Fault::Disk { append, written, for_ms: 20_000 }]);
        let lists: Vec<_> = (1..=appends).flat_map(both).collect();
        with_each(what, text, &lists, the_same);
    }
}

/// The one that was thought dead wakes soon, late, or when all is over.
#[test]
fn a_run_that_is_taken_over_at_any_append_ends_as_it_would_have() {
    for (what, text) in PLANS {
        let appends = live(&scenario(text)).appends;
        let each = |append| [1_500, 8_000, 900_000].map(|stall_ms| vec![Fault::Takeover { append, stall_ms }]);
        let lists: Vec<_> = (1..=appends).flat_map(each).collect();
        with_each(what, text, &lists, the_same);
    }
}

#[test]
fn two_deaths_at_any_two_appends_change_nothing_of_the_end() {
    for (what, text) in [PLANS[0], PLANS[3]] {
        let appends = live(&scenario(text)).appends;
        let mut lists = Vec::new();
        for first in 1..=appends {
            // Another controller begins with an append of its own.
            for second in first + 1..=appends + 2 {
                for (one, two) in [(false, false), (false, true), (true, false), (true, true)] {
                    let crash = |append, written| Fault::Crash { append, written, down_ms: 1_000 };
                    lists.push(vec![crash(first, one), crash(second, two)]);
                }
            }
        }
        with_each(what, text, &lists, the_same);
    }
}

/// The host goes on, and is found again: no cut of a link is more than a delay.
#[test]
fn a_link_that_is_cut_at_any_step_changes_nothing_of_the_end() {
    use Mishap::{CutAfterAnswer, CutAfterEffect, CutBegun, CutOnTheWay, Vanishes};
    for (what, text) in [PLANS[0], PLANS[6]] {
        let plan = scenario(text).plan;
        let mut lists = Vec::new();
        for step in &plan.steps {
            for host in plan.hosts.keys() {
                for what in [CutOnTheWay, CutBegun, CutAfterEffect, CutAfterAnswer, Vanishes] {
                    // What only looks is not asked after: it is done again, and then needs the host.
                    if what != Vanishes || !step.read_only {
                        let (host, step) = (host.clone(), step.id.clone());
                        lists.push(vec![Fault::Attempt { host, step, time: 1, what }]);
                    }
                }
            }
        }
        with_each(what, text, &lists, the_same);
    }
}
