//! A change, as whoever keeps it says: in a system of tickets, or in this project itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::id::HostName;
use crate::outcome::RunOutcome;

/// Whether a change is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Whoever decides has said yes.
    Approved,
    /// Nobody has decided yet.
    Awaited,
    /// Whoever decides has said no.
    Rejected,
}

/// A change, as it stands at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its name there: `CHG0030001`, `OPS-12`.
    pub key: String,
    /// What it is about, in a line.
    pub title: String,
    /// How it stands, in that system's own words.
    pub state: String,
    /// Whether it is approved.
    pub approval: Approval,
    /// Nothing may be done for it any more: it was closed or cancelled.
    pub closed: bool,
    /// When the work may begin (Unix ms); `None`: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_ms: Option<u64>,
    /// When it must be over (Unix ms); `None`: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What it is for: names of hosts, as far as it says so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub assets: BTreeSet<String>,
    /// Whether CUI is concerned; `None`: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cui: Option<bool>,
    /// The plan that it is of, when it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<Sha256>,
    /// Is another one whenever something was changed there.
    pub version: String,
    /// Where people look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A change, as it stood when a run was opened for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The name of the system in the settings; [`HERE`] for the project's own tickets.
    pub system: String,
    /// How it stood.
    pub change: Change,
    /// The blob with the exact bytes in which the system said so; `None`: the ledger itself says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Sha256>,
    /// When it said so (Unix ms).
    pub at_ms: u64,
}

/// Where the project's own tickets are kept: in the ledger.
pub const HERE: &str = "here";

/// A ticket of the project's own, as it was opened. It is never changed: what became of it is told by later records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// Its name: `CHG-` and the place in the ledger of the record that opened it ([`key`]).
    pub key: String,
    /// What it is about, in a line.
    pub title: String,
    /// Whose it is: who answers for the change.
    pub owner: String,
    /// The hosts that it is for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<HostName>,
    /// One of them holds CUI, or somebody said that it is concerned.
    pub cui: bool,
    /// What users will notice, and what may go wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<String>,
    /// The runbook, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Digest of the plan, and the blob with its canonical JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<Sha256>,
    /// When the work may begin (Unix ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_ms: Option<u64>,
    /// When it must be over (Unix ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
}

/// The key of the ticket whose record stands at that place in the ledger.
pub fn key(seq: u64) -> String {
    format!("CHG-{seq}")
}

/// Whether it may be the key of a ticket of the project's own.
pub fn is_key(text: &str) -> bool {
    let number = text.strip_prefix("CHG-").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Done and verified.
    Successful,
    /// It was taken back, and that was verified; or somebody says that it was no success.
    Unsuccessful,
    /// It is not done.
    Cancelled,
}

impl Conclusion {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            Conclusion::Successful => "successful",
            Conclusion::Unsuccessful => "unsuccessful",
            Conclusion::Cancelled => "cancelled",
        }
    }

    /// What a run that ended so concludes; `None`: somebody still has to do something.
    pub fn of(outcome: RunOutcome) -> Option<Self> {
        match outcome {
            RunOutcome::Succeeded => Some(Conclusion::Successful),
            RunOutcome::RolledBack | RunOutcome::Cancelled => Some(Conclusion::Unsuccessful),
            RunOutcome::Blocked | RunOutcome::Failed | RunOutcome::Stuck | RunOutcome::Unknown => None,
        }
    }
}
