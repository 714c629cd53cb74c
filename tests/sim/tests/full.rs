//! Whole lives of runs: real controllers on simulated hosts, links, disks and clocks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use runbook_model::outcome::Ended;
use runbook_model::{AttemptOutcome, Event, HostOutcome};
use runbook_sim::full::{Lived, Scenario, Wonder, broken_laws, draw, live, shrink};

/// Seeds in an ordinary run; `RUNBOOK_SIM_FULL_SEEDS` asks for more.
const SEEDS: u64 = 800;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn log_of(lived: &Lived) -> String {
    let logs = lived.simulated.log.iter().chain(lived.simulated.taken_back.iter().flatten());
    logs.map(|(at, event)| format!("{at:>8} {event:?}\n")).collect()
}

/// What is told of a scenario that breaks a law: the smallest one, as a text for `tests/sim/regressions`.
fn tell(scenario: &Scenario, of: &str) -> String {
    let least = shrink(scenario, |smaller| !broken_laws(&live(smaller)).is_empty());
    let lived = live(&least);
    let broken = broken_laws(&lived).join("\n  ");
    format!(
        "{of} breaks laws. The least of it, to be kept in tests/sim/regressions:\n\n{least}\n  {broken}\n\n{}",
        log_of(&lived)
    )
}

#[test]
fn laws_hold_on_every_seed_and_every_wonder_is_reached() {
    let seeds = number("RUNBOOK_SIM_FULL_SEEDS").unwrap_or(SEEDS);
    let (next, reached, failed) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let lived = live(&draw(seed));
                    reached.lock().unwrap().extend(lived.wonders.iter().copied());
                    if !broken_laws(&lived).is_empty() {
                        failed.lock().unwrap().insert(seed);
                    }
                }
            });
        }
    });
    let (reached, failed) = (reached.into_inner().unwrap(), failed.into_inner().unwrap());
    if let Some(first) = failed.first() {
        panic!("{} of {seeds} seeds: {failed:?}\n{}", failed.len(), tell(&draw(*first), &format!("seed {first}")));
    }
    let missed: Vec<_> = Wonder::ALL.into_iter().filter(|wonder| !reached.contains(wonder)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// One seed with its scenario and its log, for looking at: `RUNBOOK_SIM_FULL_SEED=7`.
#[test]
fn one_seed() {
    let Some(seed) = number("RUNBOOK_SIM_FULL_SEED") else { return };
    let scenario = draw(seed);
    let lived = live(&scenario);
    let broken = broken_laws(&lived);
    assert!(broken.is_empty(), "{scenario}\n{}\n{broken:#?}", log_of(&lived));
}

#[test]
fn same_seed_gives_the_same_log() {
    for seed in 0..40 {
        assert_eq!(log_of(&live(&draw(seed))), log_of(&live(&draw(seed))), "seed {seed}");
    }
}

/// Each once broke a law.
#[test]
fn regressions_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lived = live(&scenario);
        let broken = broken_laws(&lived);
        assert!(broken.is_empty(), "{}\n{}\n{broken:#?}", path.display(), log_of(&lived));
        cases += 1;
    }
    assert!(cases > 0);
}

#[test]
fn a_scenario_is_read_back_as_it_was_written() {
    for seed in 0..300 {
        let scenario = draw(seed);
        let text = scenario.to_string();
        let read: Scenario = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read.to_string(), text);
        assert_eq!((&read.plan.steps, &read.plan.hosts), (&scenario.plan.steps, &scenario.plan.hosts), "{text}");
        assert_eq!((&read.plan.batches, &read.faults), (&scenario.plan.batches, &scenario.faults), "{text}");
    }
}

/// A law that does not hold: nothing is ever asked after.
fn nothing_is_lost(scenario: &Scenario) -> bool {
    live(scenario).simulated.log.iter().all(|(_, event)| !matches!(event, Event::AttemptLost { .. }))
}

/// A law that does not hold: no host is taken back after a reboot under a step of `execute`.
fn no_reboot_is_taken_back(scenario: &Scenario) -> bool {
    let lived = live(scenario);
    let rolled_back =
        |(_, event): &(u64, Event)| matches!(event, Event::HostEnded { outcome: HostOutcome::RolledBack, .. });
    !(lived.wonders.contains(&Wonder::RebootedUnder) && lived.simulated.log.iter().any(rolled_back))
}

/// The first seed that breaks the law, made as small as it gets.
fn least(law: fn(&Scenario) -> bool) -> (Scenario, Scenario) {
    let mut drawn = (0..).map(draw);
    let first = drawn.find(|scenario| scenario.plan.hosts.len() > 1 && scenario.faults.len() > 3 && !law(scenario));
    let first = first.expect("some seed breaks it");
    (shrink(&first, |smaller| !law(smaller)), first)
}

#[test]
fn a_broken_law_is_shrunk_to_one_host_one_step_and_one_fault() {
    let (least, first) = least(nothing_is_lost);
    assert!(!nothing_is_lost(&least), "it still breaks the law");
    assert_eq!((least.plan.hosts.len(), least.faults.len()), (1, 1), "{first}\nbecame\n{least}");
    // What is lost is one step; one of `execute` has its undo.
    assert!(least.plan.steps.len() <= 2, "{first}\nbecame\n{least}");
    let read: Scenario = least.to_string().parse().unwrap();
    assert!(!nothing_is_lost(&read), "the text breaks it too");
}

#[test]
fn what_a_broken_law_needs_is_kept() {
    let (least, first) = least(no_reboot_is_taken_back);
    assert!(!no_reboot_is_taken_back(&least), "it still breaks the law");
    assert_eq!(least.plan.hosts.len(), 1, "{first}\nbecame\n{least}");
    assert!(least.plan.steps.len() <= 6 && least.faults.len() <= 3, "{first}\nbecame\n{least}");
}

const GOOD: &str = "plan parallel=1 soak=0 budget=0 scope=host verify=again
batch h0
step pre prechecks takes=200
step do execute takes=200
step check verify takes=200
step do.undo rollback undo=do takes=200
step pre.again rollback again=pre takes=200
step fin finally takes=200
";

/// Laws that cannot be broken would be none: each of these logs is one that a broken program could have written.
#[test]
fn laws_see_what_is_not_so() {
    let good: Scenario = GOOD.parse().unwrap();
    assert_eq!(broken_laws(&live(&good)), Vec::<String>::new());
    type Spoil = fn(&mut Lived);
    let spoils: [(&str, Spoil); 9] = [
        ("is said to have ended", |lived| {
            report(lived, "do", |report| report.ended = Ended::Unknown { reason: String::new() });
            report(lived, "fin", |report| {
                report.ended = Ended::Killed { by: runbook_model::outcome::KilledBy::Timeout }
            });
        }),
        ("its output is not complete", |lived| {
            report(lived, "do", |report| report.stdout.root = Some(runbook_model::Sha256::of(b"half of it")));
        }),
        ("began, and its end is not on record", |lived| {
            lived.simulated.log.retain(
                |(_, event)| !matches!(event, Event::AttemptEnded { attempt, .. } if attempt.step.as_str() == "fin"),
            );
        }),
        ("started while another attempt of it was under way", |lived| repeat(lived, "do")),
        ("has no outcome", |lived| lived.simulated.log.retain(|(_, event)| !matches!(event, Event::HostEnded { .. }))),
        ("succeeded, and do is", |lived| {
            for (_, event) in &mut lived.simulated.log {
                if let Event::StepEnded { cell, outcome, .. } = event
                    && cell.step.as_str() == "do"
                {
                    *outcome = AttemptOutcome::Failed;
                }
            }
        }),
        ("has no effect there", |lived| lived.simulated.applied[0].1.clear()),
        ("had its effect twice", |lived| lived.simulated.doubled.push("run/do/h0/1".into())),
        ("the run ended failed, and its worst host succeeded", |lived| {
            lived.simulated.status = runbook_core::Status::Ended(HostOutcome::Failed);
        }),
    ];
    for (wanted, spoil) in spoils {
        let mut lived = live(&good);
        spoil(&mut lived);
        let broken = broken_laws(&lived);
        assert!(broken.iter().any(|said| said.contains(wanted)), "{wanted}: {broken:?}");
    }
}

fn report(lived: &mut Lived, step: &str, change: fn(&mut runbook_model::event::AttemptReport)) {
    for (_, event) in &mut lived.simulated.log {
        if let Event::AttemptEnded { attempt, report, .. } = event
            && attempt.step.as_str() == step
        {
            change(report);
        }
    }
}

fn repeat(lived: &mut Lived, step: &str) {
    let started = |(_, event): &(u64, Event)| matches!(event, Event::AttemptStarted { attempt, .. } if attempt.step.as_str() == step);
    let at = lived.simulated.log.iter().position(started).unwrap();
    let again = lived.simulated.log[at].clone();
    lived.simulated.log.insert(at, again);
}
