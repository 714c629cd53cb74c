//! A few points of each kind, chosen by a seed: `RUNBOOK_SWEEP_SEED`, else the commit that is checked out. All of them
//! are tried by `tests/run --nightly`.

use std::process::Command;

use runbook_sweep::point::Fault;
use runbook_sweep::{Point, point, sweep, tally};
use runbook_testkit::lab;

/// Given, or the commit, or (in a copy without its history) always the same.
fn seed() -> String {
    if let Ok(seed) = std::env::var("RUNBOOK_SWEEP_SEED") {
        return seed;
    }
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    match git {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).trim().to_owned(),
        _ => "no commit".to_owned(),
    }
}

#[allow(clippy::print_stderr, reason = "a failure is repeated with the seed that it names")]
fn hold(count: usize, wanted: impl Fn(&Point) -> bool) {
    if !lab::require() {
        return;
    }
    let seed = seed();
    let program = sweep::mortal_program();
    let mut points = sweep::all_points(&program).expect("a run without a fault");
    points.retain(|point| wanted(point));
    let points = point::sample(points, &seed, count);
    let names: Vec<String> = points.iter().map(ToString::to_string).collect();
    eprintln!("RUNBOOK_SWEEP_SEED={seed} chooses {}", names.join(" "));
    let verdicts = sweep::carry_out(&program, points, 2, |_| {}).expect("a lab");
    let reached = verdicts.iter().filter(|verdict| verdict.reached).count();
    assert!(verdicts.iter().all(|verdict| verdict.broken.is_empty()), "seed {seed}\n{}", tally::text(&verdicts));
    // A run has some records more or fewer each time; nearly all that were chosen are there.
    assert!(verdicts.len() == count && reached + 2 >= count, "seed {seed}\n{}", tally::text(&verdicts));
}

#[test]
fn killed_at_a_record_the_run_ends_as_it_would_have_ended() {
    hold(10, |point| matches!(point, Point::Kill(..) | Point::Lives(..)));
}

#[test]
fn a_link_that_fails_in_a_step_loses_neither_its_effect_nor_its_output() {
    hold(6, |point| matches!(point, Point::Fault(Fault::Cut | Fault::Closed | Fault::Reset | Fault::Frozen, _)));
}

#[test]
fn a_full_disk_a_wrong_clock_and_a_restart_are_told_as_they_are() {
    hold(6, |point| {
        use Fault::{Full, HostAhead, HostBehind, OwnAhead, OwnBehind, Reboot};
        matches!(point, Point::Fault(Full | HostAhead | HostBehind | OwnAhead | OwnBehind | Reboot, _))
    });
}

#[test]
fn a_host_that_is_away_for_long_is_found_again() {
    hold(2, |point| matches!(point, Point::Fault(Fault::Lost | Fault::FrozenLong | Fault::Paused, _)));
}
