//! Facts from outside, with their time: all that the core ever learns.

use serde::{Deserialize, Serialize};

use crate::access::{Grant, Installed};
use crate::command::{Subject, Timer};
use crate::digest::Sha256;
use crate::event::{AttemptReport, Controller, Person};
use crate::host::{Facts, PeerIdentity};
use crate::id::{AttemptId, Cell, HostName, StepId};
use crate::outcome::Obstacle;
use crate::permit::Permit;
use crate::session::SessionClose;

/// An input and when it was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp<T> {
    /// Unix time in milliseconds, never less than that of the input before it in the same process.
    pub now_ms: u64,
    /// What was learned.
    pub fact: T,
}

/// A fact from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The run may begin. The first input of every run.
    Begin,
    /// A controller took the run up again: what was under way is in doubt, halted and stuck hosts get another try.
    Resume {
        /// Who asked.
        by: Person,
        /// Digest of the blob with what it is allowed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permit: Option<Sha256>,
        /// Why windows, blackouts and freezes are set aside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        break_glass: Option<String>,
        /// The program that goes on with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<Box<Controller>>,
    },
    /// What is allowed is another from now on.
    PermitChanged {
        /// Digest of the blob with it; `None`: nothing restricts it.
        permit: Option<Sha256>,
        /// The same, read.
        allowed: Box<Permit>,
        /// So far is the machine's clock ahead of the time of the inputs (ms).
        ahead_ms: i64,
    },
    /// Somebody asked to cancel the run.
    CancelAsked {
        /// Who.
        by: Person,
    },
    /// Somebody asked to take a finished run back (the run that carries this out is a new one).
    RollbackAsked {
        /// Who.
        by: Person,
    },
    /// An operator settled an unknown outcome.
    Resolved {
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
        /// Did it happen as it should?
        succeeded: bool,
        /// Why they think so.
        why: String,
        /// Who.
        by: Person,
    },
    /// The host is to be given access, and this is what it will be.
    AccessGranted {
        /// The host.
        host: HostName,
        /// What.
        grant: Box<Grant>,
    },
    /// The host has it.
    AccessInstalled {
        /// The host.
        host: HostName,
        /// What it said.
        installed: Box<Installed>,
    },
    /// A session is open.
    Connected {
        /// The host.
        host: HostName,
        /// What it says of itself.
        facts: Facts,
        /// Who answered.
        identity: Box<PeerIdentity>,
    },
    /// No session could be opened.
    ConnectFailed {
        /// The host.
        host: HostName,
        /// Why.
        obstacle: Obstacle,
    },
    /// Answer to `CloseSession`.
    SessionClosed {
        /// The host.
        host: HostName,
        /// How.
        closed: Box<SessionClose>,
    },
    /// Answer to `CloseElsewhere`.
    ElsewhereClosed {
        /// The places to which there were sessions, and how these ended.
        closed: Vec<(HostName, SessionClose)>,
    },
    /// Answer to `Prepare`.
    Prepared {
        /// The cell.
        cell: Cell,
        /// What came of it.
        result: Prepared,
    },
    /// Answer to `CheckUnless`.
    UnlessChecked {
        /// The cell.
        cell: Cell,
        /// Whether the step is already done, or why that could not be found out.
        done: Result<bool, Obstacle>,
    },
    /// Answer to `Measure`.
    Measured {
        /// The host.
        host: HostName,
        /// What was measured.
        subject: Subject,
        /// The manifest's blob, or why it could not be measured.
        manifest: Result<Sha256, Obstacle>,
        /// For `After`: what differs from `Before`, as a blob with a JSON list of `manifest::Change`; `None` when nothing.
        changes: Option<Sha256>,
    },
    /// Answer to `StartAttempt` and `ProbeAttempt`.
    AttemptEnded {
        /// The attempt.
        attempt: AttemptId,
        /// All that is known of it.
        report: Box<AttemptReport>,
    },
    /// The connection broke while the attempt ran: ask by a probe.
    AttemptLost {
        /// The attempt.
        attempt: AttemptId,
        /// What happened.
        reason: String,
    },
    /// Answer to `SetTimer`.
    TimerFired {
        /// Which.
        timer: Timer,
    },
}

/// What came of preparing a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepared {
    /// `when` is false.
    Skip {
        /// The expression and the values it saw, for people.
        reason: String,
    },
    /// It can begin.
    Ready(Intent),
    /// It cannot be rendered or evaluated.
    Refused {
        /// Why.
        message: String,
    },
}

/// Exactly what is about to be done: the content of the intent record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Digest of the exact bytes of the command or script after templating (a blob of the store).
    pub command_sha256: Sha256,
    /// Digest of the template's text.
    pub template_sha256: Sha256,
    /// Names that the template used, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// The account to become, when not the one that logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}
