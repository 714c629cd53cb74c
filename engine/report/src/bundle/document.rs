//! `export/v1`: what `evidence export --json` prints.

use schemars::JsonSchema;
use serde::Serialize;

use crate::json::LedgerHead;

/// `export/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ExportDocument {
    /// `export/v1`.
    pub schema: &'static str,
    /// The run.
    pub run_id: String,
    /// Absolute path of the folder or archive.
    pub target: String,
    /// `folder` or `archive`.
    pub kind: &'static str,
    /// Files in it.
    pub files: u64,
    /// Length of all files together, unpacked.
    pub bytes: u64,
    /// SHA-256 of the bundle's `SHA256SUMS`; it is on record too.
    pub sums_sha256: String,
    /// The signed head in it.
    pub ledger: LedgerHead,
    /// Who outside holds that head: `NAME (KIND)` each.
    pub anchors: Vec<String>,
    /// The run has ended, and all that its records name is in the bundle. When not, the exit code is 12.
    pub complete: bool,
    /// What the records name and the store does not have, or not as it was; a sentence each.
    pub missing: Vec<String>,
    /// It is a redacted edition.
    pub redacted: bool,
    /// Files of a redacted edition in which the text of a withheld line stands too, as something else.
    pub also_in: Vec<String>,
}

/// The JSON Schema of `export/v1`.
pub fn schema_of_export() -> serde_json::Value {
    schemars::schema_for!(ExportDocument).into()
}
