//! All of a seed as data.

use runbook_model::plan::{Action, Plan, Work};
use runbook_model::{HostName, StepId};

/// A plan and what goes wrong while it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The plan. Its steps say how long they take: `work ID MS`.
    pub plan: Plan,
    /// What goes wrong, in no particular order but for the operator's deeds.
    pub faults: Vec<Fault>,
}

/// One thing that goes wrong, or that a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Something happens to an attempt.
    Attempt {
        /// Where.
        host: HostName,
        /// Which step.
        step: StepId,
        /// The how-manieth time the step begins on the host.
        time: u32,
        /// What.
        what: Mishap,
    },
    /// The host is away for some time: cut off, or rebooting.
    Host {
        /// Which.
        host: HostName,
        /// When, from the beginning.
        at_ms: u64,
        /// For so long.
        for_ms: u64,
        /// What runs on it is gone; otherwise it goes on.
        reboots: bool,
    },
    /// The step's `unless` says that it is done already.
    Done {
        /// Where.
        host: HostName,
        /// Which.
        step: StepId,
    },
    /// The controller's wall clock is set.
    Clock {
        /// When.
        at_ms: u64,
        /// By so much.
        by_ms: i64,
    },
    /// The controller is killed at an append.
    Crash {
        /// Which append of the scenario, from 1.
        append: u64,
        /// Just after it became durable, else just before.
        written: bool,
        /// The next one comes so much later.
        down_ms: u64,
    },
    /// The controller is killed at a moment.
    CrashAt {
        /// When.
        at_ms: u64,
        /// The next one comes so much later.
        down_ms: u64,
    },
    /// From an append on the disk takes nothing.
    Disk {
        /// Which append, from 1.
        append: u64,
        /// That append is durable, though the disk said no.
        written: bool,
        /// Mended after so long.
        for_ms: u64,
    },
    /// The controller stops at an append as if it were dead, another one takes its run over, and then it wakes.
    Takeover {
        /// Which append, from 1.
        append: u64,
        /// It wakes after so long.
        stall_ms: u64,
    },
    /// An operator cancels.
    Cancel {
        /// When.
        at_ms: u64,
    },
    /// What an operator does when the run waits for one; one after the other.
    Operator(Deed),
    /// When it has ended, the run is taken back by another.
    TakeBack,
}

/// What happens to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// It fails and has changed nothing.
    Fails,
    /// It fails and has changed everything.
    FailsHalf,
    /// It does not end by itself, and has changed nothing.
    Hangs,
    /// It does not end by itself, and has changed everything.
    HangsHalf,
    /// Neither does it end when it is told to.
    Stubborn,
    /// The link is found dead before anything was sent.
    LinkDead,
    /// The host has no room for what an attempt needs.
    HostFull,
    /// The link is cut while the command is on its way: it never arrives.
    CutOnTheWay,
    /// The link is cut when the attempt has begun.
    CutBegun,
    /// The link is cut when the attempt has had its effect, before its answer.
    CutAfterEffect,
    /// The link is cut when the answer is through.
    CutAfterAnswer,
    /// The host reboots before the attempt's effect.
    RebootBefore,
    /// The host reboots after the attempt's effect, before its end.
    RebootAfter,
    /// The same, and the host has lost the claim, which had not reached its disk.
    RebootForgets,
    /// The host is cut off for some time while the attempt runs.
    Vanishes,
    /// It takes two minutes longer.
    Slow,
}

impl Mishap {
    pub(crate) const ALL: [(Mishap, &str); 16] = [
        (Mishap::Fails, "fails"),
        (Mishap::FailsHalf, "fails-half"),
        (Mishap::Hangs, "hangs"),
        (Mishap::HangsHalf, "hangs-half"),
        (Mishap::Stubborn, "stubborn"),
        (Mishap::LinkDead, "link-dead"),
        (Mishap::HostFull, "host-full"),
        (Mishap::CutOnTheWay, "cut-on-the-way"),
        (Mishap::CutBegun, "cut-begun"),
        (Mishap::CutAfterEffect, "cut-after-effect"),
        (Mishap::CutAfterAnswer, "cut-after-answer"),
        (Mishap::RebootBefore, "reboot-before"),
        (Mishap::RebootAfter, "reboot-after"),
        (Mishap::RebootForgets, "reboot-forgets"),
        (Mishap::Vanishes, "vanishes"),
        (Mishap::Slow, "slow"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(mishap, _)| *mishap == self).expect("all are in the list").1
    }
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Resumes.
    Resume,
    /// Looks at the hosts, settles what is unknown, and resumes.
    Resolve,
    /// Cancels, and resumes.
    Cancel,
}

/// How long a step's command takes, as its text says.
pub(crate) fn takes_ms(plan: &Plan, step: &StepId) -> u64 {
    match plan.step(step).map(|step| &step.work) {
        Some(Work::Any(Action::Run { command, .. })) => {
            command.0.rsplit(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or(1_000)
        }
        _ => 1_000,
    }
}
