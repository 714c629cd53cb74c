//! What a person says of a run after it has ended, as they sign it.

use serde::{Deserialize, Serialize};

use crate::approval::{BYTES_MAX, LedgerSeen};
use crate::canonical;
use crate::digest::Sha256;
use crate::id::RunId;
use crate::outcome::RunOutcome;

/// The version of the form.
pub const SCHEMA: &str = "review/v1";
/// What persons sign for: a signature for anything else does not count.
pub const NAMESPACE: &str = "runbook-review@v1";

/// A review: one line of canonical JSON and a line end. What is signed are its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// [`SCHEMA`].
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// Digest of its plan.
    pub plan_sha256: Sha256,
    /// How it ended.
    pub outcome: RunOutcome,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// When it was made (Unix ms, by its signer's clock).
    pub made_ms: u64,
    /// Drawn at random.
    pub nonce: String,
    /// The head of the ledger that its signer saw: it covers the run.
    pub ledger: LedgerSeen,
    /// The signer's short name in `people.yaml`.
    pub signer: String,
}

/// What came of a review. Both end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing more is to be done.
    Accepted,
    /// Something is to be done; the reason says what.
    FollowUp,
}

impl Verdict {
    /// The word on the command line and for people.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::FollowUp => "follow-up",
        }
    }
}

impl Review {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = canonical::bytes(self);
        bytes.push(b'\n');
        bytes
    }

    /// Reads a document. `None` unless its bytes are the one form that [`Self::bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let read: Self = serde_json::from_slice(bytes).ok()?;
        (read.schema == SCHEMA && read.bytes() == bytes).then_some(read)
    }
}
