//! A change, as whoever keeps it says: in a system of tickets, or in this project itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

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
