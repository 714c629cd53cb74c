//! What became of an attempt, a step, a host, a run; and what is kept of an output.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::plan::RetryClass;

/// What became of an attempt or of a step on a host (`run/v1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// It ended as expected.
    Succeeded,
    /// It ended, and not as expected.
    Failed,
    /// It had nothing to do: `when` was false, `unless` said done, or it was done once elsewhere.
    Skipped,
    /// It took too long, and is proved gone.
    TimedOut,
    /// Nobody knows.
    Unknown,
    /// It did not begin, and that is proved.
    NotStarted,
}

impl AttemptOutcome {
    /// The word in JSON and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            AttemptOutcome::Succeeded => "succeeded",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::Skipped => "skipped",
            AttemptOutcome::TimedOut => "timed_out",
            AttemptOutcome::Unknown => "unknown",
            AttemptOutcome::NotStarted => "not_started",
        }
    }
}

/// What became of a host, and of a run (the worst of its hosts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostOutcome {
    /// Done and verified.
    Succeeded,
    /// Refused before its first change.
    Blocked,
    /// Failed, and changes may remain.
    Failed,
    /// Failed; every change taken back and verified.
    RolledBack,
    /// A rollback failed or could not be verified.
    Stuck,
    /// An operator must settle it.
    Unknown,
    /// Cancelled; what had begun was taken back and verified.
    Cancelled,
}

/// A run has the outcomes of a host.
pub type RunOutcome = HostOutcome;

impl HostOutcome {
    /// The program's exit code for it. 9 (evidence could not be recorded) is no outcome: see the driver.
    pub fn exit_code(self) -> u8 {
        match self {
            HostOutcome::Succeeded => 0,
            HostOutcome::Blocked => 3,
            HostOutcome::Failed => 4,
            HostOutcome::RolledBack => 5,
            HostOutcome::Stuck => 6,
            HostOutcome::Unknown => 7,
            HostOutcome::Cancelled => 8,
        }
    }

    /// The word in JSON and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            HostOutcome::Succeeded => "succeeded",
            HostOutcome::Blocked => "blocked",
            HostOutcome::Failed => "failed",
            HostOutcome::RolledBack => "rolled_back",
            HostOutcome::Stuck => "stuck",
            HostOutcome::Unknown => "unknown",
            HostOutcome::Cancelled => "cancelled",
        }
    }

    fn severity(self) -> u8 {
        match self {
            HostOutcome::Succeeded => 0,
            HostOutcome::Blocked => 1,
            HostOutcome::Cancelled => 2,
            HostOutcome::RolledBack => 3,
            HostOutcome::Failed => 4,
            HostOutcome::Stuck => 5,
            HostOutcome::Unknown => 6,
        }
    }

    /// The worse of two, in the order unknown, stuck, failed, rolled back, cancelled, blocked, succeeded.
    pub fn worse(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }
}

/// What is kept of an output stream (secrets masked). The bytes are a blob.
///
/// A digest of the content itself is not here: whoever has the record could guess a short content from it, and no line
/// could be withheld from a reader of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRef {
    /// Root over the salted segments of what is kept (of all of it, when nothing is kept because it is `sensitive`);
    /// `None` for a stream without a byte, for what the engine itself wrote, and in records of the first format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Sha256>,
    /// How many segments there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segments: u64,
    /// Digest of the whole stream as it came, when only a part is kept: without all of the rest it cannot be guessed.
    /// In records without `root`: of the stream, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Length of the whole stream; where it was cut off, of what came.
    pub bytes: u64,
    /// Only the head and the tail are kept, or not all of it came.
    #[serde(default)]
    pub truncated: bool,
    /// What stands between us and the host and passed on a part of the stream only; the rest never came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off_by: Option<String>,
    /// The blob with what is kept, after a line with the seed of the salts; `None` when nothing is (`sensitive`, or an
    /// empty stream). Without `root`: the kept bytes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Sha256>,
    /// How often a secret was masked in it.
    #[serde(default)]
    pub masked: u32,
}

// By reference, because serde asks for it so.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl OutputRef {
    /// A stream without a byte.
    pub fn empty() -> Self {
        Self {
            root: None,
            segments: 0,
            sha256: None,
            bytes: 0,
            truncated: false,
            cut_off_by: None,
            blob: None,
            masked: 0,
        }
    }

    /// Whether its blob begins with the line that has the seed of the salts.
    pub fn is_salted(&self) -> bool {
        self.root.is_some()
    }
}

/// How a process ended, as really observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a host could not be used. Each proves that nothing began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obstacle {
    /// What kind.
    pub kind: ObstacleKind,
    /// What happened, in one sentence for people, the address included.
    pub message: String,
}

/// Kinds of [`Obstacle`]; each has an error page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// No answer, or refused, or the name is not known.
    Unreachable,
    /// The host key is not the one on file, or there is none on file.
    HostKey,
    /// The login was refused.
    Login,
    /// `sudo -n` does not let this account become the one that the step needs.
    Elevation,
    /// No room on the host for what must be written there before the step can begin.
    HostFull,
    /// The host's sshd refused another session (MaxSessions), or the connection broke before the command was sent.
    Session,
    /// A local cause: a missing file, an unknown transport, a secret that cannot be read.
    Local,
}

/// How a host that does not answer is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// When it is tried again (Unix ms).
    pub next_ms: u64,
    /// When it is given up (Unix ms).
    pub until_ms: u64,
    /// What came of the last try.
    pub why: String,
}

/// What is known of an attempt once nothing more will be learned of it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ended {
    /// Really observed.
    Exited {
        /// How.
        exit: Exit,
        /// Why it was not as expected; empty when it was. The first is the one shown.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unmet: Vec<String>,
        /// The class that `retry` looks at when it was not as expected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<RetryClass>,
    },
    /// Proved not to have begun.
    NotStarted {
        /// Why.
        obstacle: Obstacle,
    },
    /// It was ended (timeout or cancel) and is proved gone.
    Killed {
        /// By which of the two.
        by: KilledBy,
    },
    /// Nobody knows.
    Unknown {
        /// What happened, in one sentence.
        reason: String,
    },
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KilledBy {
    /// The step's timeout.
    Timeout,
    /// The cancel of the run.
    Cancel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_host_decides_in_the_documented_order() {
        // 7, 6, 4, 5, 8, 3, 0 (9 is the driver's).
        let order = [
            HostOutcome::Unknown,
            HostOutcome::Stuck,
            HostOutcome::Failed,
            HostOutcome::RolledBack,
            HostOutcome::Cancelled,
            HostOutcome::Blocked,
            HostOutcome::Succeeded,
        ];
        assert_eq!(order.map(HostOutcome::exit_code), [7, 6, 4, 5, 8, 3, 0]);
        for (i, worse) in order.iter().enumerate() {
            for better in &order[i..] {
                assert_eq!(worse.worse(*better), *worse);
                assert_eq!(better.worse(*worse), *worse);
            }
        }
    }
}
