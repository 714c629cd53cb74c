//! What is allowed to a controller. Kept as a blob; the run's opening, its resumption, or the change of it names it.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::id::HostName;

/// When which hosts may be begun. The default restricts nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// Digest of the file with the windows that were in force; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Sha256>,
    /// Hosts that may be begun at certain times only. Each host is in one class at most; those in none may be begun at
    /// any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Class>,
    /// No further host may be begun, and why: the windows cannot be made out. What has begun is brought to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

/// Hosts with the same times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The hosts.
    pub hosts: Vec<HostName>,
    /// Names of the windows that are for them; empty when only blackouts or freezes are.
    pub windows: Vec<String>,
    /// When a host may be begun and must have ended, in order and apart from each other. None of them: not at all.
    pub stretches: Vec<Stretch>,
    /// What closes in between, in order, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closings: Vec<Closing>,
    /// How long a host is expected to take, with what is kept free for its way back.
    pub needs_ms: u64,
    /// Where `needs_ms` comes from, for people.
    pub estimate: String,
}

/// A blackout or a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// Unix ms of the first moment.
    pub start_ms: u64,
    /// Unix ms of the moment at which it is over.
    pub end_ms: u64,
    /// What it is, and why.
    pub what: String,
}

/// From a moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Unix ms of the first moment.
    pub start_ms: u64,
    /// Unix ms of the moment at which it is over.
    pub end_ms: u64,
}

impl Stretch {
    /// Whether the moment lies in it.
    pub fn contains(&self, now_ms: u64) -> bool {
        self.start_ms <= now_ms && now_ms < self.end_ms
    }
}
