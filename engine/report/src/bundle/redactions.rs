//! `redactions.json`: of which outputs something is withheld in an edition, and which records say so.

use runbook_model::{RunId, Sha256};
use serde::{Deserialize, Serialize};

use super::json;

/// Its place in a bundle.
pub(super) const FILE: &str = "redactions.json";
/// The version of the form.
const SCHEMA: &str = "redactions/v1";

/// `redactions/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Redactions {
    schema: String,
    run_id: String,
    pub(super) outputs: Vec<RedactedOutput>,
}

/// An output of which something is withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactedOutput {
    /// Whose output.
    pub host: String,
    /// The step.
    pub step: String,
    /// The attempt.
    pub attempt: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The root on record; what is shown stands in [`redacted_path`].
    pub root: Sha256,
    /// Its segments.
    pub segments: u64,
    /// The first and the last of each range that is withheld, counted from 0.
    pub withheld: Vec<(u64, u64)>,
    /// The records that say so.
    pub said: Vec<RedactionSaid>,
}

/// What a record says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedactionSaid {
    /// Its place in the ledger.
    pub record: u64,
    /// When (RFC 3339).
    pub time: String,
    /// The rule that found the lines, or `by hand`.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// `redactions.json`.
pub fn redactions(run: &RunId, mut outputs: Vec<RedactedOutput>) -> Vec<u8> {
    outputs.sort_by_key(|output| output.root);
    json(&Redactions { schema: SCHEMA.into(), run_id: run.to_string(), outputs })
}

/// Where in a bundle stands what is shown of an output.
pub fn redacted_path(root: &Sha256) -> String {
    format!("outputs-redacted/{root}.json")
}
