//! Many seeds, each a whole run with its faults; the laws hold on all of them.

use std::collections::BTreeSet;

use runbook_sim::{Marks, Simulated, check, simulate};

/// Seeds in an ordinary run; `RUNBOOK_SIM_SEEDS` asks for more.
const SEEDS: u64 = 20_000;

fn tell(run: &Simulated, broken: &[String]) -> String {
    let log: Vec<String> = run.log.iter().map(|(at, event)| format!("{at:>8} {event:?}")).collect();
    format!("seed {}: {}\n{}\n{:#?}", run.seed, broken.join("\n  "), log.join("\n"), run.plan.batches)
}

#[test]
fn laws_hold_on_every_seed_and_every_rare_state_is_reached() {
    let seeds = std::env::var("RUNBOOK_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let mut marks = BTreeSet::new();
    let mut failed = Vec::new();
    let mut first = None;
    for seed in 0..seeds {
        let run = simulate(seed);
        let broken = check(&run);
        marks.extend(run.marks.iter().copied());
        if !broken.is_empty() {
            failed.push(seed);
            first.get_or_insert_with(|| tell(&run, &broken));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds break a law: {:?}\n{}",
        failed.len(),
        &failed[..failed.len().min(20)],
        first.unwrap_or_default()
    );
    use Marks::*;
    let all = [
        Crashed,
        CrashedInRollback,
        Cancelled,
        CancelledInExecute,
        LostAttempt,
        UnknownOutcome,
        Repeated,
        RolledBack,
        Stuck,
        Halted,
        BudgetSpent,
        PeersTakenBack,
        Released,
        Resolved,
        Reopened,
        TakenBackLater,
        SharedOnce,
        CutOff,
        CutOffBeforeItsChange,
        CutOffByAnotherController,
        CutOffByChangedWindows,
        BlockedByItsWindow,
        WindowsChanged,
    ];
    let missed: Vec<_> = all.into_iter().filter(|mark| !marks.contains(mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// Seeds that once broke a law, kept because they are rare: a host that was only blocked, and whose `finally` failed, was
/// taken for a halted one and tried again.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [1485, 79_187, 84_838] {
        let run = simulate(seed);
        let broken = check(&run);
        assert!(broken.is_empty(), "{}", tell(&run, &broken));
    }
}

#[test]
fn same_seed_gives_the_same_log() {
    for seed in 0..500 {
        assert_eq!(simulate(seed).log, simulate(seed).log, "seed {seed}");
    }
}

/// One seed with its log, for looking at: `RUNBOOK_SIM_SEED=7`.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("RUNBOOK_SIM_SEED").ok().and_then(|text| text.parse().ok()) else { return };
    let run = simulate(seed);
    let broken = check(&run);
    assert!(broken.is_empty(), "{}", tell(&run, &broken));
}
