//! What the core asks of the world. Never stored: derived from the state, so that running and recovering are the same.

use serde::{Deserialize, Serialize};

use crate::id::{AttemptId, Cell, HostName};

/// A command. Each is answered by exactly one [`Input`](crate::input::Input), named with it, unless it is withdrawn (no
/// longer outstanding) before. Starting the same command twice must be harmless: [`AttemptId`] is the key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Open (or reopen) a session to the host and learn its facts. Answer: `Connected` or `ConnectFailed`.
    Connect {
        /// The host.
        host: HostName,
    },
    /// The host has ended: remove what its attempts left there, close every session to it, and look whether anything of
    /// them is left. Answer: `SessionClosed`.
    CloseSession {
        /// The host.
        host: HostName,
    },
    /// All hosts have ended: close the sessions to other places where steps worked. Answer: `ElsewhereClosed`.
    CloseElsewhere,
    /// Evaluate `when`, render the step's texts. Pure and quick: the driver answers it before it commits.
    /// Answer: `Prepared`.
    Prepare {
        /// The cell.
        cell: Cell,
    },
    /// Run the step's `unless`. Answer: `UnlessChecked`.
    CheckUnless {
        /// The cell.
        cell: Cell,
    },
    /// Measure paths on the host. Answer: `Measured`.
    Measure {
        /// The host.
        host: HostName,
        /// Which paths, and what for.
        subject: Subject,
    },
    /// Start the attempt. Only ever seen after its `AttemptStarted` is durable. Answer: `AttemptEnded` (or `AttemptLost`).
    StartAttempt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Find out what became of an attempt whose connection or controller was lost; follow it when it still runs.
    /// Answer: `AttemptEnded`, with `Ended::Unknown` when it cannot be found out by `deadline_ms`.
    ProbeAttempt {
        /// The attempt.
        attempt: AttemptId,
        /// Unix time in milliseconds.
        deadline_ms: u64,
    },
    /// End the attempt and prove that it is gone. It is outstanding beside the `StartAttempt` or `ProbeAttempt`, whose
    /// answer (`Ended::Killed` or what really happened) settles both.
    CancelAttempt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Say when it is time. Answer: `TimerFired`.
    SetTimer {
        /// Which timer.
        timer: Timer,
        /// Unix time in milliseconds.
        at_ms: u64,
    },
}

/// What is measured, and what for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "snake_case")]
pub enum Subject {
    /// Everything that the steps' `changes` name, and the running services, before `execute`.
    Baseline,
    /// The watched roots, before `execute`.
    WatchBefore,
    /// A step's `changes`, before its first attempt.
    Before {
        /// The cell's step.
        step: crate::id::StepId,
    },
    /// The same, after its last attempt.
    After {
        /// The cell's step.
        step: crate::id::StepId,
    },
}

/// A point in time that the core waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
pub enum Timer {
    /// The pause after a batch.
    Soak {
        /// The batch that has ended, counted from 0.
        batch: usize,
    },
    /// The delay before a cell's next attempt.
    Retry {
        /// The attempt that will start.
        attempt: AttemptId,
    },
    /// The limit on taking a host back.
    RollbackBudget {
        /// The host.
        host: HostName,
    },
    /// The last moment from which a host's way back fits before the end of its window. Answered by [`Event::HostCutOff`], not
    /// by `TimerFired`.
    ///
    /// [`Event::HostCutOff`]: crate::event::Event::HostCutOff
    CutOff {
        /// The host.
        host: HostName,
    },
}
