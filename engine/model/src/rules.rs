//! What work needs before it may begin: what `policy.yaml` says, as data. Whether it is met is decided by
//! `runbook_policy`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::plan::Tier;
use crate::retention::Class;

/// An approval counts so long when its rule does not say otherwise.
pub const VALID_MS: u64 = 72 * 3_600_000;
/// A review is due so long after the run's end when its rule does not say otherwise.
pub const REVIEW_MS: u64 = 72 * 3_600_000;

/// All rules. Every rule that is for a host of a plan must be met.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// In the order in which they are told.
    pub rules: Vec<Rule>,
}

/// A rule: for what it is, and what that needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Shown to people.
    pub name: String,
    /// The tiers that it is for.
    pub tiers: Vec<Tier>,
    /// The hosts that it is for, as a selection; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// Only hosts with one of these risks; empty: whatever the risk.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub risk: BTreeSet<String>,
    /// Who must have approved the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// Who may run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// What the ticket's name must look like, whole (a regular expression).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// What the change must be that the ticket is of.
    #[serde(default, skip_serializing_if = "ChangeNeeds::is_none")]
    pub change: ChangeNeeds,
    /// The hosts must have windows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub windows: bool,
    /// The plan must take a snapshot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub snapshot: bool,
    /// Only work that sets windows, blackouts and freezes aside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// It must be said why it is run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reason: bool,
    /// Who reviews the run after it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// The clocks of the controller and of the hosts may be off so far at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_max_offset_ms: Option<u64>,
    /// The tools that may be used, by digest, with their names: this program, files that are sent, packaged actions. `None`:
    /// any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<Sha256, String>>,
    /// The evidence is kept as that of this class at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Class>,
    /// The plan must have been rehearsed elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
    /// Hosts may be reached by these alone; empty: by any.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub transports: BTreeSet<String>,
}

/// What a change must be, as whoever keeps it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeNeeds {
    /// It is approved, and not closed.
    pub approved: bool,
    /// It has dates, and the work is between them.
    pub dates: bool,
    /// It names every host.
    pub assets: bool,
}

impl ChangeNeeds {
    /// Whether nothing is asked of it.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Where a plan must have been rehearsed: made and verified, and then taken back and verified, for the sake of the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// On these hosts, as a selection; on no other one.
    pub hosts: String,
    /// So long after its end a rehearsal counts, in milliseconds.
    pub within_ms: u64,
}

/// Who must have approved a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// So many persons of each role. A person counts once for each role that they have.
    pub roles: BTreeMap<String, u32>,
    /// So many persons altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persons: Option<u32>,
    /// Who runs it does not count.
    pub not_operator: bool,
    /// So long after it was made an approval counts, in milliseconds.
    pub valid_for_ms: u64,
    /// What must be proved of the approver's presence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_key: Option<Presence>,
}

/// Who reviews a run after it has ended, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// So long after the run's end, in milliseconds.
    pub within_ms: u64,
    /// So many persons of each role. A person counts once for each role that they have.
    pub roles: BTreeMap<String, u32>,
    /// So many persons altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persons: Option<u32>,
    /// Who ran it does not count.
    pub not_operator: bool,
}

/// A review that a run owes, as its opening names it: what a policy says later takes nothing back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owed {
    /// The rule that asks for it.
    pub rule: String,
    /// Who, and until when.
    pub review: Review,
    /// Only when windows, blackouts and freezes were set aside, at its opening or later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// What a security key proves of the person who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It was touched.
    Touch,
    /// It was touched, and its PIN given or a finger read.
    Pin,
}

/// Who may run a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// One of these roles; empty: any person of `people.yaml`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// Trained in all of these, and not too long ago.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub training: BTreeSet<String>,
}
