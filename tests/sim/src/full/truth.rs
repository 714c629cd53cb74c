//! Laws that compare what was recorded with what really happened. They share nothing with the core or the driver.

use std::collections::BTreeMap;

use runbook_core::Status;
use runbook_ledger::segments;
use runbook_model::outcome::{Ended, Exit, KilledBy};
use runbook_model::plan::{Action, Phase, Work};
use runbook_model::{AttemptId, AttemptOutcome, Event, HostOutcome};

use crate::full::host_world::{Begun, State, output_of};
use crate::full::live::Lived;
use crate::full::scenario::{Fault, Scenario};
use crate::laws;

/// Rare situations that scenarios went through: over many seeds each must be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Wonder {
    CrashedBefore,
    CrashedAfter,
    CrashedBetween,
    CrashedInRollback,
    BegunAnew,
    DiskFailed,
    DiskFailedAfterWriting,
    StoppedByDisk,
    WentOnAfterDisk,
    TakenOver,
    WokenRefused,
    RebootedUnder,
    ClaimForgotten,
    VanishedUnder,
    LinkDead,
    HostFull,
    CutOnTheWay,
    CutBegun,
    CutAfterEffect,
    CutAfterAnswer,
    Stubborn,
    ClockForward,
    ClockBack,
    ClockInSoak,
    ClockInRollback,
    RebootStep,
    Reattached,
    ProvedNotBegun,
    UnknownOutcome,
    Repeated,
    TimedOut,
    RolledBack,
    Stuck,
    Halted,
    Blocked,
    Cancelled,
    Suspended,
    Resolved,
    Reopened,
    BudgetSpent,
    PeersTakenBack,
    SharedOnce,
    Released,
    TakenBackLater,
}

impl Wonder {
    /// All of them.
    pub const ALL: [Wonder; 44] = {
        use Wonder::*;
        [
            CrashedBefore,
            CrashedAfter,
            CrashedBetween,
            CrashedInRollback,
            BegunAnew,
            DiskFailed,
            DiskFailedAfterWriting,
            StoppedByDisk,
            WentOnAfterDisk,
            TakenOver,
            WokenRefused,
            RebootedUnder,
            ClaimForgotten,
            VanishedUnder,
            LinkDead,
            HostFull,
            CutOnTheWay,
            CutBegun,
            CutAfterEffect,
            CutAfterAnswer,
            Stubborn,
            ClockForward,
            ClockBack,
            ClockInSoak,
            ClockInRollback,
            RebootStep,
            Reattached,
            ProvedNotBegun,
            UnknownOutcome,
            Repeated,
            TimedOut,
            RolledBack,
            Stuck,
            Halted,
            Blocked,
            Cancelled,
            Suspended,
            Resolved,
            Reopened,
            BudgetSpent,
            PeersTakenBack,
            SharedOnce,
            Released,
            TakenBackLater,
        ]
    };
}

/// What of the laws does not hold; empty when all do.
pub fn broken_laws(lived: &Lived) -> Vec<String> {
    let mut broken = laws::check(&lived.simulated);
    let mut began: BTreeMap<&AttemptId, &Begun> = BTreeMap::new();
    for begun in &lived.begun {
        if let Some(attempt) = &begun.attempt
            && began.insert(attempt, begun).is_some()
        {
            broken.push(format!("{attempt} began twice"));
        }
    }
    let logs = lived.simulated.log.iter().chain(lived.simulated.taken_back.iter().flatten());
    let mut outcomes: BTreeMap<&AttemptId, AttemptOutcome> = BTreeMap::new();
    for (_, event) in logs {
        if let Event::AttemptEnded { attempt, outcome, report } = event {
            outcomes.insert(attempt, *outcome);
            let plan = &lived.simulated.plan;
            let step = plan.step(&attempt.step).expect("a step of the plan");
            if step.read_only {
                continue;
            }
            let reboots = matches!(step.work, Work::Any(Action::Reboot { .. }));
            let begun = began.get(attempt).copied();
            let cancelled = matches!(report.ended, Ended::Killed { by: KilledBy::Cancel });
            // A rollback whose time is over ends what runs in it.
            if cancelled && !lived.simulated.cancelled && step.phase != Phase::Rollback {
                broken.push(format!("{attempt} is said to have been cancelled, and nobody asked for that"));
            }
            broken.extend(lie(attempt, &report.ended, begun, reboots));
            if !reboots && matches!(report.ended, Ended::Exited { exit: Exit::Code(_), .. }) {
                let expected = output_of(plan, &attempt.host, &attempt.step, attempt.attempt);
                let kept = report.stdout.blob.and_then(|blob| lived.outputs.get(&blob)).map_or(&[][..], Vec::as_slice);
                let whole =
                    segments::verify(&report.stdout, kept) && segments::content(&report.stdout, kept) == expected;
                if (!expected.is_empty() && !whole) || report.stdout.bytes != expected.len() as u64 {
                    broken.push(format!("{attempt}: its output is not complete ({} bytes)", report.stdout.bytes));
                }
            }
        }
    }
    if lived.simulated.status != Status::Running {
        for (attempt, begun) in began {
            // What a stubborn one does is not known, and is said so.
            let known = outcomes.get(attempt).is_some_and(|outcome| *outcome != AttemptOutcome::Unknown);
            if begun.state == State::Running && known {
                broken.push(format!("{attempt} still runs, and ended {:?} on record", outcomes[attempt]));
            }
            if !outcomes.contains_key(attempt) {
                broken.push(format!("{attempt} began, and its end is not on record"));
            }
        }
    }
    broken
}

/// What the record says of an attempt, and what is not so.
fn lie(attempt: &AttemptId, ended: &Ended, begun: Option<&Begun>, reboots: bool) -> Option<String> {
    let state = begun.map(|begun| begun.state);
    let true_ = match (ended, state) {
        (Ended::Unknown { .. }, _) => true,
        (Ended::NotStarted { .. }, state) => state.is_none(),
        (_, None) => false,
        (Ended::Exited { exit: Exit::Code(0), .. }, Some(state)) if reboots => {
            matches!(state, State::Exited(0) | State::Gone)
        }
        (Ended::Exited { exit: Exit::Code(code), .. }, Some(state)) => state == State::Exited(*code),
        (Ended::Killed { .. }, Some(state)) => state == State::Killed,
        (Ended::Exited { exit: Exit::Signal(_), .. }, Some(_)) => false,
    };
    (!true_).then(|| format!("{attempt} is said to have ended as {ended:?}, and really is {state:?}"))
}

/// The rare situations that can be seen in the log.
pub(crate) fn wonders(scenario: &Scenario, lived: &Lived) -> Vec<Wonder> {
    use Wonder::*;
    let mut seen = Vec::new();
    let mut lost = std::collections::BTreeSet::new();
    let plan = &lived.simulated.plan;
    let mut in_rollback = false;
    let mut resumed_in_rollback = false;
    for (_, event) in &lived.simulated.log {
        match event {
            Event::RunResumed { .. } => {
                resumed_in_rollback |= in_rollback;
                if lived.wonders.contains(&StoppedByDisk) {
                    seen.push(WentOnAfterDisk);
                }
            }
            Event::PhaseStarted { phase, reason, .. } => {
                in_rollback = *phase == Phase::Rollback;
                if reason.as_deref().is_some_and(|reason| reason.starts_with("another host")) {
                    seen.push(PeersTakenBack);
                }
            }
            Event::AttemptLost { attempt, .. } => {
                lost.insert(attempt.clone());
            }
            Event::AttemptEnded { attempt, outcome, .. } => match outcome {
                AttemptOutcome::Succeeded if lost.contains(attempt) => seen.push(Reattached),
                AttemptOutcome::NotStarted if lost.contains(attempt) => seen.push(ProvedNotBegun),
                AttemptOutcome::TimedOut => seen.push(TimedOut),
                AttemptOutcome::Unknown => seen.push(UnknownOutcome),
                _ => {}
            },
            Event::RetryScheduled { .. } => seen.push(Repeated),
            Event::StepEnded { done_on: Some(_), .. } => seen.push(SharedOnce),
            Event::StepEnded { cell, outcome: AttemptOutcome::Succeeded, .. } => {
                let step = plan.step(&cell.step).expect("a step of the plan");
                if matches!(step.work, Work::Any(Action::Reboot { .. })) {
                    seen.push(RebootStep);
                } else if matches!(step.role, runbook_model::plan::Role::Release { .. }) {
                    seen.push(Released);
                }
            }
            Event::StepResolved { .. } => seen.push(Resolved),
            Event::HostReopened { .. } => seen.push(Reopened),
            Event::BudgetSpent { .. } => seen.push(BudgetSpent),
            Event::HostEnded { outcome, .. } => seen.push(match outcome {
                HostOutcome::RolledBack => RolledBack,
                HostOutcome::Stuck => Stuck,
                HostOutcome::Failed => Halted,
                HostOutcome::Blocked => Blocked,
                HostOutcome::Cancelled => Cancelled,
                HostOutcome::Unknown => UnknownOutcome,
                HostOutcome::Succeeded => continue,
            }),
            Event::RunSuspended { .. } => seen.push(Suspended),
            _ => {}
        }
    }
    if resumed_in_rollback && (lived.wonders.contains(&CrashedBefore) || lived.wonders.contains(&CrashedAfter)) {
        seen.push(CrashedInRollback);
    }
    if lived.simulated.taken_back.is_some() {
        seen.push(TakenBackLater);
    }
    for fault in &scenario.faults {
        if let Fault::Clock { at_ms, by_ms } = fault {
            seen.extend(clock_set(lived, *at_ms, *by_ms));
        }
    }
    seen
}

/// What went on when the clock was set.
fn clock_set(lived: &Lived, at_ms: u64, by_ms: i64) -> Vec<Wonder> {
    use Wonder::*;
    let log = &lived.simulated.log;
    if log.last().is_none_or(|(end, _)| *end <= at_ms) {
        return Vec::new();
    }
    let mut seen = vec![if by_ms > 0 { ClockForward } else { ClockBack }];
    let before = || log.iter().rev().filter(|(at, _)| *at < at_ms).map(|(_, event)| event);
    let batch = before().find(|event| matches!(event, Event::BatchStarted { .. } | Event::BatchEnded { .. }));
    if let Some(Event::BatchEnded { soak_until_ms: Some(_), .. }) = batch {
        seen.push(ClockInSoak);
    }
    let in_rollback = |event: &Event| match event {
        Event::PhaseStarted { phase: Phase::Rollback, .. } => Some(true),
        Event::PhaseEnded { phase: Phase::Rollback, .. } => Some(false),
        _ => None,
    };
    if before().find_map(in_rollback) == Some(true) {
        seen.push(ClockInRollback);
    }
    seen
}
